"""Sound that is written letters first: where words are said, what may follow, and what guidance does not see."""

import numpy as np
import pytest
import static_loop
import torch

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.row import Ids
from plait.data.sequence import Encoder, FlowConfig
from plait.data.vocabulary import NULL, Vocabulary
from plait.errors import ConfigError, RowError
from plait.heads.flow import FlowEmbedding, FlowHead
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.modalities.audio import Audio
from plait.modalities.audio.letters import (
    AHEAD,
    BEHIND,
    FINE,
    MOST,
    MOST_THEN,
    NAMES,
    THEN,
    at_names,
    is_told,
    letters_after,
    letters_in,
    names_of,
    placed,
    text_of,
)
from plait.modalities.audio.mel import RATE
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from tests.worlds import TINY, text

OPEN, MORE = "<open:audio>", "<more>"
WORDS = [["Let", 0.0, 0.2], ["him", 0.3, 0.5], ["hear", 0.6, 0.9]]


def clip(seconds=0.95, **options):
    return Part("audio", (0.1 * np.ones(int(seconds * RATE), np.float32), RATE), options)


def said(segment):
    return [text_of(letters_in(block.header)) for block in segment.blocks]


def told(segment):
    return [" ".join(text_of([name]) if name in NAMES else name for name in block.header) for block in segment.blocks]


def test_each_block_tells_the_letters_of_the_words_that_lie_in_it_and_where():
    audio = Audio(frames=4, block=8, letters=True)  # 40 ms a token, 10 ms a part of one, 0.32 s a block
    segment = audio.read(clip(words=WORDS))
    assert said(segment) == ["let h", "im h", "ear"]
    assert told(segment) == [
        "<open:audio> <at:0> l <at:6> e <at:13> t <at:30>   h <then> i m <more>",
        "<at:4> i <at:11> m <at:28>   h <then> e a r <more>",
        "<at:3> e <at:11> a <at:18> r <last:8>",
    ]
    assert [audio.block_len(block.header) for block in segment.blocks] == [
        len(block.tokens) for block in segment.blocks
    ]
    assert [audio.ends(block.header) for block in segment.blocks] == [False, False, True]
    before = []
    for number, block in enumerate(segment.blocks):
        wish = {"say": "Let him hear!", "blocks": number, "headers": before}
        for at in range(1 if number == 0 else 0, len(block.header)):
            assert block.header[at] in audio.expects(block.header[:at], {})
            assert block.header[at] in audio.expects(block.header[:at], wish)
        before = [*before, block.header]


def test_letters_are_where_they_are_said_if_that_is_known():
    audio = Audio(frames=4, block=8, letters=True)
    words = [["Lets", 0.0, 0.3, [0.0, 0.01, 0.16, 0.25]], ["go", 0.3, 0.31]]
    assert told(audio.read(clip(0.28, words=words))) == [
        "<open:audio> <at:0> l <at:1> e <at:16> t <at:25> s <at:30>   g o <last:8>"
    ]


def test_a_letter_past_the_end_is_in_the_last_token():
    audio = Audio(frames=4, block=8, letters=True)
    assert told(audio.read(clip(0.38, words=[["go", 0.0, 9.0]]))) == [
        "<open:audio> <at:0> g <then> o <more>",
        "<at:7> o <last:2>",
    ]


def test_without_times_or_without_the_setting_no_letters_are_told():
    assert said(Audio(frames=4, block=8, letters=True).read(clip())) == ["", "", ""]
    assert said(Audio(frames=4, block=8).read(clip(words=WORDS))) == ["", "", ""]
    assert set(Audio(block=8, letters=True).grammar()) - set(Audio().grammar()) == {*NAMES, THEN, *at_names(8)}


def test_more_letters_than_a_header_holds_go_on_in_the_next():
    long = "a" * (MOST + 3)
    headers = placed([[long, 0.0, 0.1]], 0.04, 8, 16)
    assert [len(letters_in(own)) for own in headers] == [MOST, 3]
    assert [len(letters_after(own)) for own in headers] == [3, 0]
    assert [len(letters_in(own)) for own in placed([[long, 0.0, 0.1]], 0.04, 8, 8)] == [MOST + 3], (
        "where there is a next one"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("let", "got str as words"),
        ([["let", 0.0]], "got .'let', 0.0. among words"),
        ([["let", "0", 1]], "among words"),
        ([["let", 0.5, 0.2]], "after second"),
        ([["let", 0.5, 0.6], ["him", 0.1, 0.2]], "after second 0.6"),
        ([["let", float("nan"), 0.2]], "among words"),
        ([["let", 0.0, float("inf")]], "among words"),
        ([["let", 0, 5], ["him", 0.1, 0.2]], "after second 5"),
        ([["let", 0, 1, [0.0, 0.5]]], "got 2 seconds for the 3 letters of 'let'"),
        ([["let", 0, 1, [0.0, 0.5, 0.4]]], "after second 0.0"),
        ([["let", 0, 1, [0.0, 0.5, 1.4]]], "after second 0.0"),
        ([["let", 0, 1, [0.0, 0.5, "1"]]], "among words"),
        ([["let", 0, 1, 0.5]], "among words"),
    ],
)
def test_words_that_are_none_are_refused_before_and_when_they_are_read(words, message):
    audio = Audio(letters=True)
    with pytest.raises(RowError, match=message):
        audio.check(clip(words=words))
    with pytest.raises(RowError, match=message):
        audio.read(clip(words=words))


def test_a_text_is_said_letter_by_letter_and_to_its_end():
    audio = Audio(frames=4, block=8, letters=True, max_seconds=4.0)
    first, second, third = names_of("let")
    at = at_names(8)
    wish = {"say": "Let!"}
    assert audio.expects((OPEN,), wish) == (*at, MORE), "it may not end before all is said"
    assert audio.expects((OPEN, at[2]), wish) == (first,), "a letter follows"
    assert audio.expects((OPEN, at[2], first), wish) == (second, *at[3:], THEN), "it tells the rest of the word"
    assert audio.expects((OPEN, at[2], first, THEN), wish) == (second,)
    assert audio.expects((OPEN, at[2], first, THEN, second, third), wish) == (MORE,)
    last = audio.expects((OPEN, at[2], first, second, at[6 * FINE + 3], third), wish)
    assert last == (MORE, "<last:7>", "<last:8>"), "as many tokens as were told of"
    before = {"blocks": 1, "headers": [(OPEN, at[2], first, second, THEN, third, MORE)]}
    assert audio.expects((), wish | before) == (*at, THEN), "a block without a letter, before the last one"
    assert audio.expects((at[0],), wish | before) == (third,)
    assert audio.expects((OPEN, at[2], first, THEN, second, third, MORE), wish) == ()
    assert audio.expects((OPEN,), {"say": ""})[0] == MORE
    assert audio.expects((OPEN, at[0], *names_of("a" * MOST)), {"say": "a" * 99}) == (THEN,)
    assert audio.expects((OPEN, at[0], *names_of("a" * MOST), THEN, *names_of("a" * MOST_THEN)), {"say": "a" * 99}) == (
        MORE,
    )
    assert audio.expects((OPEN, at[0], *names_of("let ")), {"say": "let him"})[-1] == MORE, (
        "between words nothing is left"
    )
    full = audio.expects((), {"say": "a" * 999, "blocks": 12})
    assert full == (*at[: 4 * FINE], *(f"<last:{k}>" for k in range(1, 5))), "the longest sound ends, said or not"


def test_without_a_text_the_model_says_what_it_likes():
    audio = Audio(frames=4, block=8, letters=True, max_seconds=4.0)
    assert len(audio.expects((OPEN,), {})) == 8 * FINE + 9
    assert audio.expects((OPEN, at_names(8)[0]), {}) == NAMES
    assert len(audio.expects((OPEN, at_names(8)[0], NAMES[97]), {})) == 256 + 8 * FINE - 1 + 1 + 9
    begun = (OPEN, at_names(8)[0], NAMES[97], THEN)
    assert audio.expects(begun, {}) == NAMES
    assert audio.expects((*begun, NAMES[98]), {}) == (*NAMES, MORE)
    promised = {"blocks": 1, "headers": [(*begun, NAMES[98], MORE)]}
    assert audio.expects((), promised) == (*at_names(8), THEN), (
        "what was told for after a block is said in the next one"
    )
    assert audio.expects((at_names(8)[3],), promised) == (NAMES[98],)
    assert len(audio.expects((at_names(8)[3], NAMES[98]), promised)) == 256 + 8 * FINE - 4 + 1 + 1 + 8


def test_when_a_letter_comes_is_asked_in_the_order_of_time():
    audio = Audio(frames=4, block=8, letters=True)
    at = at_names(8)
    begun = audio.expects((OPEN, at[5], NAMES[97]), {"say": "ab"})
    assert begun == (NAMES[98], *at[6:], THEN), "now, later, after the block"
    assert registry.ordered(audio, begun)
    assert not registry.ordered(audio, audio.expects((OPEN, at[5]), {}))
    assert not registry.ordered(audio, audio.expects((OPEN, at[5], NAMES[97]), {})), "which letter is no matter of time"
    assert not registry.ordered(Audio(), Audio().expects((OPEN,), {}))


def test_each_token_knows_the_letters_around_it():
    audio = Audio(frames=4, block=8, letters=True)
    header = audio.read(clip(words=WORDS)).blocks[1].header  # "im h", then "ear"
    coordinates = audio.coordinates(header)
    assert coordinates.shape == (8, 1 + 2 * (BEHIND + AHEAD))
    assert list(coordinates[:, 0]) == list(range(8))
    numbers, distances = coordinates[:, 1:].astype(int).reshape(8, 2, -1).swapaxes(0, 1)
    letters = ["".join(chr(n - 1) if n else "-" for n in row) for row in numbers]
    assert letters[1] == "-" * BEHIND + "im hear---"
    assert letters[2] == "-" * (BEHIND - 1) + "im hear----"
    assert letters[7] == "-" * (BEHIND - 2) + "im hear-----"
    assert list(distances[7, BEHIND - 2 : BEHIND + 5]) == [-24, -17, 0, 0, 4, 4, 4]
    assert not audio.coordinates(audio.bare(header))[:, 1:].any()


@torch.no_grad()
def test_a_token_is_sketched_from_the_letters_around_it_as_far_as_it_is_noise():
    audio = Audio(frames=4, block=8, letters=True)
    torch.manual_seed(0)
    embedder = audio.embedder(16)
    header = audio.read(clip(words=WORDS)).blocks[1].header
    told, bare = (torch.from_numpy(audio.coordinates(own)) for own in (header, audio.bare(header)))
    tokens, clean, noise = torch.randn(8, audio.token_width), torch.ones(8), torch.zeros(8)
    sketched = embedder.expected(told)
    assert sketched.shape == tokens.shape
    assert (sketched[1:] - sketched[:-1]).abs().amax(dim=1).min() > 0.001, "the same letters at other distances"
    silent = embedder.expected(bare)
    assert torch.allclose(silent, silent[:1].expand(8, -1), atol=1e-5)
    assert torch.equal(embedder(tokens, told, clean), embedder(tokens, bare, clean)), "what is known is not sketched"
    assert torch.equal(embedder(tokens, told, clean), FlowEmbedding.forward(embedder, tokens, told, clean))
    assert torch.equal(embedder(tokens, told, noise), FlowEmbedding.forward(embedder, sketched, told, noise))
    share = 0.2 / 0.68  # at 0.2
    early = torch.full((8,), 0.2)
    mixed = share * tokens + (1 - share) * sketched
    torch.testing.assert_close(embedder(tokens, told, early), FlowEmbedding.forward(embedder, mixed, told, early))


def test_the_head_predicts_how_tokens_differ_from_what_was_expected():
    generator = torch.Generator().manual_seed(0)
    hidden, noised, expected = (torch.randn(5, width, generator=generator) for width in (6, 4, 4))
    noise = torch.zeros(5)
    for components in (0, 4):
        head = FlowHead(6, 4, components)
        torch.nn.init.zeros_(head.predict.weight)
        torch.nn.init.zeros_(head.predict.bias)
        torch.testing.assert_close(head(hidden, noised, noise, expected), expected, atol=1e-5, rtol=1e-4)
        torch.nn.init.normal_(head.predict.weight, generator=generator)
        told = head(hidden, noised, noise, expected) - expected
        torch.testing.assert_close(told, head(hidden, noised, noise, torch.zeros(5, 4)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("settings", "wish"), [({"letters": True}, 3), ({}, "hello")])
def test_a_text_that_cannot_be_said_is_refused(settings, wish):
    with pytest.raises(ConfigError, match="got say="):
        Audio(**settings).expects((OPEN,), {"say": wish})


def world():
    modalities = registry.build_all(
        {"text": {"vocab_size": 280}, "audio": {"frames": 4, "block": 4, "letters": True, "max_seconds": 2.0}}
    )
    modalities["text"].fit([text("say it")])
    return modalities, Vocabulary(modalities)


def test_what_guidance_leads_away_from_knows_no_letters():
    _modalities, vocabulary = world()
    encoder = Encoder(vocabulary, FlowConfig(null_prob=0.999))
    sample = Sample((Message("user", (text("say it"),)), Message("assistant", (clip(words=WORDS),))), "say")
    ids = [
        number
        for one in encoder.elements(sample, np.random.default_rng(0))
        if isinstance(one, Ids)
        for number in one.ids
    ]
    names = [vocabulary.names[number] for number in ids]
    assert names[0] == NULL
    assert MORE in names
    assert not any(map(is_told, names))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_model_says_the_letters_it_is_told(guidance):
    _, vocabulary = world()
    engine = Engine(MultimodalTransformer(TINY, vocabulary, seed=0))
    asked = Message("user", (text("say it"),))
    for wish in ("let him hear", "four: 4"):
        request = Request((asked,), to="audio", steps=1, guidance=guidance, options={"audio": {"say": wish}})
        (answer,) = engine.generate([request])
        assert answer.error is None
        told = "".join(said(answer.segments[0]))
        ended = vocabulary.modalities["audio"].ends(answer.segments[0].blocks[-1].header)
        assert told == wish.replace(":", "") or (len(answer.segments[0].blocks) == 13 and wish.startswith(told)), (
            "all of it, or as much as 2 s hold"
        )
        assert ended


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_is_said_is_what_the_whole_sequence_gives(guidance):
    """Letters, sketches, places in time and the stream without letters: the engine and its slow twin agree."""
    _, vocabulary = world()
    trunk = TrunkConfig(**TINY.model_dump() | {"split": {"audio_written": 16}, "split_every": {"audio_written": 2}})
    model = MultimodalTransformer(trunk, vocabulary, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # branches that begin at zero would hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith(("out.weight", "down.weight")) or ".flows." in f".{name}" or "sketch" in name:
                parameter.normal_(std=0.2, generator=generator)
    asked = (Message("user", (text("say it"),)),)
    wish = {"audio": {"say": "let him hear"}}
    request = Request(asked, to="audio", steps=3, guidance=guidance, seed=5, options=wish)
    segment = Engine(model).generate([request])[0].segments[0]
    (slow,) = static_loop.answer(model, Encoder(vocabulary), request).segments
    assert [block.header for block in segment.blocks] == [block.header for block in slow.blocks]
    assert len(segment.blocks) > 1
    for mine, theirs in zip(segment.blocks, slow.blocks, strict=True):
        np.testing.assert_allclose(mine.tokens, theirs.tokens, atol=2e-3)
