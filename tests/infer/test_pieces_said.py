"""Texts are said in pieces that end where sentences do."""

from types import SimpleNamespace

import pytest

from plait import registry
from plait.contract import Message, Part
from plait.infer.request import Request
from plait.infer.spoken import ENDS, LONGEST, Pieces, pieces_of, saying
from plait.runtime.words import plain_words


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Yes. It is! Is it? It is so. And so.", ["Yes. It is! Is it?", "It is so. And so."]),
        ('Then he said "no." And left', ['Then he said "no."', "And left"]),
        ("Dr. Smith met Mr. Jones. Then he left", ["Doctor Smith met Mister Jones.", "Then he left"]),
        ("Pi is 3.14 today", ["Pi is three point one four today"]),
        ("one\n\n- two\n***\n", ["one - two ***"]),
        ("你好。再见", ["你好。 再见"]),
        ("... !", []),
        ("", []),
    ],
)
def test_sentences_are_pieces_short_ones_together(text, pieces):
    assert pieces_of(text) == pieces


def test_long_sentences_are_cut_at_commas_then_between_words_then_anywhere():
    clause = "the quick brown fox that jumps over all the lazy dogs of the whole town"
    assert pieces_of(f"{clause}, {clause}.") == [f"{clause},", f"{clause}."]
    words = " ".join(["word"] * 60)
    assert " ".join(pieces_of(words)) == words
    assert all(len(piece) <= LONGEST for piece in pieces_of(words))
    assert pieces_of("x" * 200) == ["x" * LONGEST, "x" * LONGEST, "x" * 40]


def test_pieces_come_as_soon_as_they_are_whole_and_as_of_the_whole_text():
    text = f"This is the first one. Second, which is {'so ' * 25}long! And a third"
    pieces, told = Pieces(), []
    for letter in text:
        told += [(letter, piece) for piece in pieces.add(letter)]
    assert told[0] == (" ", "This is the first one.")
    assert told[-1][0] == " "
    assert [*(piece for _, piece in told), *pieces.rest()] == pieces_of(text)
    assert plain_words(" ".join(pieces_of(text))) == plain_words(text)


def test_what_is_said_keeps_the_wishes_for_sound_and_drops_those_for_words():
    request = Request(
        (Message("user", (Part("text", "hello"),)),), seed=3, steps=4, max_tokens=2, stop=("x",), logprobs=2, repeats=4,
        options={"audio": {"other": 1}, "image": {"size": (1, 1)}},
    )  # fmt: skip
    modalities = registry.build_all({"text": {}, "audio": {"frames": 8, "letters": True, "max_seconds": 8.0}})
    model = SimpleNamespace(vocabulary=SimpleNamespace(modalities=modalities))
    said = saying(model, request, "audio", "Hi.")
    assert (said.to, said.seed, said.steps, said.stop, said.logprobs, said.repeats) == ("audio", 3, 4, (), None, 0)
    assert said.options == {"audio": {"other": 1, "say": "Hi."}, "image": {"size": (1, 1)}}
    assert said.max_tokens == 100, "as long as the modality is: what bounds words bounds no sound"
    assert said.messages[0].parts[0].value == "Say this for me: Hi."


def test_an_end_is_looked_for_once_in_a_run_of_marks():
    """Else a long run takes the square of its length."""
    run = "...  And"
    assert ENDS.match(run)
    assert [ENDS.match(run, place) for place in (1, 2)] == [None, None]
    assert pieces_of("." * 100_000 + " one") == ["one"]
