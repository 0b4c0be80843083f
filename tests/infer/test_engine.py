"""The engine: many requests at once, each as if it were alone; what is told on the way; what goes wrong stays with the one."""

import dataclasses

import numpy as np
import pytest
import torch
from worlds import TINY, World, text

from plait.contract import Message, Part
from plait.data.vocabulary import END
from plait.errors import ConfigError, PlaitError, RowError
from plait.infer.engine import Engine
from plait.infer.events import BlockBegun, BlockDone, Finished, Preview, TextDelta
from plait.infer.kv_cache import PAGE, KVCache
from plait.infer.request import Request

WORLD = World()


def asked(*parts, **options):
    return Request((Message("user", tuple(parts)),), **{"steps": 3, "max_tokens": 12, **options})


@pytest.fixture
def engine():
    return Engine(WORLD.model())


@pytest.fixture
def talkative():
    """A model that never ends an answer by itself."""
    model = WORLD.model()
    with torch.no_grad():
        model.categorical["marks"].logits.bias[WORLD.vocabulary.ids[END]] = -1e4
    return Engine(model)


def run(engine, *tickets):
    while not all(ticket.done for ticket in tickets):
        engine.step()


def test_a_request_that_fails_ends_alone(engine):
    good = asked(text("draw seven"), to="image", seed=1)
    (expected,) = engine.generate([good])
    broken = [
        asked(text("a"), to="smell"),
        asked(Part("image", b"no picture")),
        asked(text("a"), to="image", options={"image": {"size": (3, 3)}}),
    ]
    first, *failed, last = engine.generate([good, *broken, good])
    for answer in (first, last):
        np.testing.assert_array_equal(answer.segments[0].blocks[0].tokens, expected.segments[0].blocks[0].tokens)
    assert [type(answer.error) for answer in failed] == [ConfigError, RowError, ConfigError]
    assert {answer.reason for answer in failed} == {"error"}
    assert all(not answer.message.parts for answer in failed)
    assert engine.cache.used == 0
    assert not engine.active


def test_numbers_that_are_not_finite_stay_with_their_request(engine):
    """A sound of which the model makes NaN poisons neither its neighbours nor the slots that it leaves behind."""
    fine = asked(text("what is this?"), to="text", seed=2, guidance=1.0)
    (expected,) = engine.generate([fine])
    mel = np.full((40, 80), np.float32(3e38))
    sick = asked(Part("audio", (np.zeros(400, np.float32), 16_000), {"mel": mel}), to="text")
    for _ in range(3):
        bad, good = engine.generate([sick, fine])
        assert isinstance(bad.error, PlaitError)
        assert "not finite" in str(bad.error)
        assert good.message == expected.message


def test_a_slot_is_zeroed_when_it_is_taken():
    cache = KVCache(TINY, torch.float32, torch.device("cpu"), pages=8)
    slot = cache.take(10)
    for tensor in (*slot.store.keys, *slot.store.values):
        tensor[slot.index] = torch.nan
    cache.give_back(slot)
    again = cache.take(10)
    assert again.index == slot.index
    assert all(bool((tensor[again.index] == 0).all()) for tensor in (*again.store.keys, *again.store.values))


def test_pages_are_accounted():
    cache = KVCache(TINY, torch.float32, torch.device("cpu"), pages=6)
    slots = [cache.take(tokens) for tokens in (1, PAGE, PAGE + 1)]
    assert cache.used == 1 + 1 + 2
    assert cache.fits(2 * PAGE)
    assert not cache.fits(2 * PAGE + 1)
    slots[0].length = PAGE
    cache.grow(slots[0], 1)
    assert (slots[0].store.capacity, cache.used) == (2 * PAGE, 5)
    for slot in slots:
        cache.give_back(slot)
    assert cache.used == 0
    with pytest.raises(ConfigError, match=r"at most 384.*shorten"):
        cache.check(9 * PAGE)


def test_a_budget_is_kept_and_nobody_starves(talkative):
    small = Engine(talkative.model, cache_tokens=4 * PAGE)
    tickets = [small.submit(asked(text("draw seven"), to="text", guidance=1.0, max_tokens=20)) for _ in range(9)]
    most = 0
    while small.step():
        most = max(most, small.cache.used)
    assert most == 4
    assert all(ticket.answer.usage.answered == {"text": 20} for ticket in tickets)
    (too_much,) = small.generate([asked(text("a"), max_tokens=10_000)])
    assert "all that the cache holds" in str(too_much.error)


def test_cancelling_gives_what_was_there(talkative):
    ticket = talkative.submit(asked(text("yes"), to="text", max_tokens=500))
    other = talkative.submit(asked(text("yes"), to="text", max_tokens=5))
    waiting = Engine(talkative.model, active=1)
    for _ in range(8):
        talkative.step()
    talkative.cancel(ticket)
    assert ticket.answer.reason == "cancelled"
    assert ticket.answer.usage.answered["text"] in range(6, 9)
    run(talkative, other)
    assert other.answer.reason == "length"
    assert talkative.cache.used == 0
    tickets = [waiting.submit(asked(text("yes"), to="text")) for _ in range(2)]
    waiting.cancel(tickets[1])
    run(waiting, *tickets)
    assert (tickets[0].answer.reason, tickets[1].answer.reason) == ("length", "cancelled")
    waiting.cancel(tickets[0])
    assert tickets[0].answer.reason == "length", "what is done stays as it is"


def test_words_are_told_in_whole_characters(talkative):
    ticket = talkative.submit(asked(text("四"), to="text", max_tokens=30, seed=3, temperature=1.0), stream=True)
    run(talkative, ticket)
    *deltas, finished = ticket.events
    assert all(isinstance(event, TextDelta) and event.text for event in deltas)
    assert isinstance(finished, Finished)
    told = "".join(event.text for event in deltas)
    assert told == finished.answer.message.parts[0].value
    assert not any(event.text.endswith("\ufffd") for event in deltas[:-1]), "half a character was told"


def test_blocks_are_told_with_previews(engine):
    ticket = engine.submit(asked(text("draw"), to="image", steps=6, options={"image": {"size": (8, 8)}}), previews=2)
    run(engine, ticket)
    kinds = [type(event) for event in ticket.events]
    assert kinds == [BlockBegun, Preview, Preview, BlockDone, Finished]
    begun, first, second, done, finished = ticket.events
    assert begun.header == ("<open:image>", "<rows:2>", "<cols:2>")
    assert (first.step, second.step, first.steps) == (2, 4, 6)
    assert first.preview.value.size == done.piece.value.size == (8, 8)
    np.testing.assert_array_equal(np.asarray(done.piece.value), np.asarray(finished.answer.message.parts[0].value))


def test_sound_is_told_block_by_block():
    model = WORLD.model()
    names = WORLD.vocabulary.ids
    with torch.no_grad():
        model.categorical["marks"].logits.bias[names["<more>"]] = 1e4
    engine = Engine(model)
    ticket = engine.submit(asked(text("say"), to="audio", max_tokens=12), stream=True)
    run(engine, ticket)
    pieces = [event for event in ticket.events if isinstance(event, BlockDone)]
    assert len(pieces) == 3, "three blocks of four tokens"
    assert ticket.answer.reason == "length", "the chain was not ended by its own header"
    assert ticket.answer.usage.answered == {"grammar": 4, "audio": 8}, "the last block is never fed: nothing follows it"


def test_stop_strings_end_the_words_before_them(talkative):
    whole = talkative.generate([asked(text("yes"), to="text", max_tokens=24)])[0].message.parts[0].value
    stop = whole[3:5]
    ticket = talkative.submit(asked(text("yes"), to="text", max_tokens=24, stop=("no such words", stop)), stream=True)
    run(talkative, ticket)
    answer = ticket.answer
    assert answer.message.parts[0].value == whole[: whole.find(stop)]
    assert answer.reason == "stop"
    assert "".join(e.text for e in ticket.events if isinstance(e, TextDelta)) == answer.message.parts[0].value


def test_reasons_and_usage(engine, talkative):
    (drawn,) = engine.generate([asked(text("draw seven"), to="image", options={"image": {"size": (8, 8)}})])
    assert drawn.reason == "stop"
    assert drawn.usage.answered == {"grammar": 3}, "a last block has no clean copy: nothing was fed"
    spelled = WORLD.modalities["text"].read(text("draw seven")).blocks[0].tokens
    assert drawn.usage.asked == {"grammar": 2, "text": len(spelled)}, "two marks: the user's and the assistant's"
    (long,) = talkative.generate([asked(text("yes"), to="text", max_tokens=7)])
    assert (long.reason, long.usage.answered) == ("length", {"text": 7})


def test_the_layout_says_where_an_answer_s_tokens_stem_from(talkative):
    conversation = (Message("user", (text("a"),)), Message("assistant", (text("b"),)), Message("user", (text("c"),)))
    (answer,) = talkative.generate([Request(conversation, to="text", max_tokens=5)])
    assert [(span.first, span.count) for span in answer.layout] == [(n, 1) for n in range(5)]
    assert {dataclasses.astuple(span.origin) for span in answer.layout} == {(3, 0, 0)}


def test_a_long_prompt_is_read_in_pieces(engine):
    """Others get their words meanwhile, and the answer is that of the prompt read at once."""
    long = asked(text("seven " * 400), to="text", guidance=1.0, max_tokens=6)
    short = asked(text("yes"), to="text", guidance=1.0, max_tokens=3)
    expected = engine.generate([long])[0].message
    tickets = [engine.submit(request) for request in (long, short)]
    before = engine.steps_taken
    while not tickets[1].done:
        engine.step()
    assert not tickets[0].done
    assert engine.steps_taken - before <= 4
    run(engine, *tickets)
    assert engine.with_parts(tickets[0].answer).message == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_do_not_hang_on_their_neighbours(dtype):
    """Greedy words alone and among 31 others, in nearly all requests to the letter; where they part, the two best ids are
    as good as equal."""
    model = WORLD.model(dtype=dtype)
    requests = [
        asked(text("draw seven " * (1 + n % 5)), text(str(n)), to="text", guidance=1.0, max_tokens=16)
        for n in range(32)
    ]
    together = [answer.segments for answer in Engine(model).generate(requests)]
    alone = [Engine(model).generate([request])[0].segments for request in requests]
    same = [
        [s.blocks[0].tokens.tolist() for s in a] == [s.blocks[0].tokens.tolist() for s in b]
        for a, b in zip(together, alone, strict=True)
    ]
    assert np.mean(same) >= (0.99 if dtype == torch.float32 else 0.7)


def test_requests_that_cannot_be():
    for wrong in ({"top_p": 0.0}, {"top_p": 1.5}, {"stop": "END"}, {"stop": ("",)}, {"stop": (3,)}):
        with pytest.raises(ConfigError, match="expected"):
            asked(text("a"), **wrong)
