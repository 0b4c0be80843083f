"""Texts beside their codec: carelessness, distances, features, suggested vocabularies, and how they are shown."""

import numpy as np
import pytest
from markupsafe import Markup

from plait import registry
from plait.contract import Block, Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.text import Text

AUGMENTS, MEASURES = registry.augments("text"), registry.measures("text")
RENDERS, SUGGESTS = registry.renders("text"), registry.suggests("text")


def part(value):
    return Part("text", value)


def varied(text, seed, careless=1.0):
    modality = Text(careless=careless)
    segment = AUGMENTS.augment(modality, modality.read(part(text)), np.random.default_rng(seed))
    return modality.write(segment).value


def test_every_slip_is_made_when_all_are_certain():
    """Another case, the end gone or put, one blank twice: the letters stay."""
    seen = {varied("What is This", seed) for seed in range(40)}
    bare = {text.casefold().rstrip(".?!").replace("  ", " ") for text in seen}
    assert bare == {"what is this"}
    assert {text[-1] for text in seen} == set(".?!")
    assert all(text.count("  ") == 1 for text in seen)
    letters = {text.replace("  ", " ")[:-1] for text in seen}
    assert letters == {"what is this", "WHAT IS THIS", "What is this"}


def test_an_end_that_is_there_goes():
    assert {varied("Stop!?", seed).casefold() for seed in range(9)} == {"stop"}


def test_a_word_without_blanks_has_none_afterwards():
    assert not any(" " in varied("word", seed) for seed in range(20))


def test_slips_are_as_frequent_as_careless_says():
    changed = sum(not varied("a b", seed, careless=0.1).startswith("a b") for seed in range(400))
    assert 10 < changed / 4 < 30, "case or blank, 19 % of the time"


def test_marks_alone_keep_their_marks():
    """A text that is nothing but punctuation does not become empty."""
    assert all(varied("?!", seed) for seed in range(20))


@pytest.mark.parametrize("text", ["Ünïcode ß", "四十二 は", "🙂 a", "a\tb\nc"])
def test_careless_texts_of_any_script_are_texts(text):
    for seed in range(6):
        changed = varied(text, seed)
        assert set(changed.casefold()) >= {letter for letter in text.casefold() if not letter.isspace()}


@pytest.mark.parametrize(
    ("said", "reference", "rate"),
    [("seven", "seven", 0.0), ("sevem", "seven", 0.2), ("", "four", 1.0), (" a ", "a", 0.0)],
)
def test_the_distance_is_the_share_of_wrong_characters(said, reference, rate):
    assert MEASURES.distances(Text(), part(said), part(reference)) == {"character error rate": pytest.approx(rate)}


def test_features_count_pairs_of_letters():
    features = [MEASURES.features(Text(), part(text)) for text in ("", "a", "ab", "Ab", "abab", "ba")]
    assert [int(counts.sum()) for counts in features] == [0, 0, 1, 1, 3, 1]
    assert {counts.shape for counts in features} == {(256,)}
    np.testing.assert_array_equal(features[2], features[3])  # without case
    assert not np.array_equal(features[2], features[5]), "the order of letters is lost"
    assert features[4].max() == 2
    assert MEASURES.features_are_alike()


def test_half_a_surrogate_has_features_too():
    assert MEASURES.features(Text(), part("a\ud800b")).sum() > 0


def test_facts_and_blanks():
    assert MEASURES.facts(part("四十二")) == {"characters": 3.0}
    assert MEASURES.blank(Text(), part("secret")) == part("")


def test_markup_stays_words_on_a_page():
    hostile = '</span><script>alert("x")</script> & <b>'
    page = RENDERS.html(part(hostile), notes=["<i>note</i>"])
    assert isinstance(page, Markup)
    assert page.count("<") == page.count(">") == 2, "an element of its own, and nothing else"
    assert page.unescape().count(hostile) == 1
    assert RENDERS.html(part("")) == '<span class="words" dir="auto"></span>'


def test_a_text_is_printed_and_not_saved(tmp_path):
    assert RENDERS.terminal(part("a\nb <i>"), 3, "kitty") == "a\nb <i>"
    assert RENDERS.save(part("a"), tmp_path, "x") is None
    assert list(tmp_path.iterdir()) == []
    assert RENDERS.accepts("") is True
    assert not any(RENDERS.accepts(value) for value in (b"a", 3, None, ["a"]))


@pytest.mark.parametrize(("texts", "size"), [([], 320), (["a"], 320), (["a" * 1600] * 9, 356), (["x" * 10**6], 4096)])
def test_the_vocabulary_grows_with_different_text_within_bounds(texts, size):
    assert SUGGESTS.suggest(Text(), [part(text) for text in texts]) == {"vocab_size": size}


def test_an_empty_text_is_a_segment_without_ids():
    segment = Text().read(part(""))
    assert [len(block.tokens) for block in segment.blocks] == [0]
    assert Text().write(segment) == part("")
    assert Text().write(Segment("text", ())) == part("")


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"]])
def test_what_is_no_string_is_named_by_its_type(value):
    with pytest.raises(RowError, match=f"got {type(value).__name__}; expected a string"):
        Text().read(part(value))


def test_every_byte_has_an_id_before_anything_is_learned():
    text = Text()
    assert text.token_width == 256
    for value in ("a", "ß", "四", "🙂", "\x00\x7f"):
        (block,) = text.read(part(value)).blocks
        assert len(block.tokens) == len(value.encode())
        assert text.write(Segment("text", (Block((), block.tokens),))).value == value


def test_merges_are_learned_and_kept_in_the_state():
    text = Text(vocab_size=270)
    text.fit([part("banana band")] * 3)
    assert 256 < text.token_width <= 270
    assert len(text.read(part("banana")).blocks[0].tokens) < 6
    again = Text(**text.state())
    np.testing.assert_array_equal(
        again.read(part("banana")).blocks[0].tokens, text.read(part("banana")).blocks[0].tokens
    )


def test_a_text_counts_once_however_often_it_is_said():
    """One merge may be learned: "cc" stands in two texts, "aa" in one that is repeated."""
    text = Text(vocab_size=257)
    text.fit(map(part, ["aax", "aax", "aax", "cce", "ccf"]))
    assert [len(text.read(part(word)).blocks[0].tokens) for word in ("cc", "aa")] == [1, 2]


def test_fewer_ids_than_bytes_are_refused():
    with pytest.raises(ConfigError, match="at least 256"):
        Text(vocab_size=255)
