"""A conversation's next turn begins where the last one ended."""

import numpy as np
import pytest
import torch
from worlds import World, text

from plait.contract import Message
from plait.data.row import FlowBlock, Ids
from plait.data.vocabulary import END
from plait.infer.engine import Engine
from plait.infer.kv_cache import PAGE
from plait.infer.prefixes import identities_of, without
from plait.infer.request import Request

WORLD = World()
KEPT = 16 * PAGE


def talkative(**options):
    """An engine whose model never ends an answer by itself."""
    model = WORLD.model()
    with torch.no_grad():
        model.categorical["marks"].logits.bias[WORLD.vocabulary.ids[END]] = -1e4
    return Engine(model, **options)


def asked(*messages, **options):
    roles = ("user", "assistant") * len(messages)
    said = tuple(Message(role, tuple(parts)) for role, parts in zip(roles, messages, strict=False))
    return Request(said, **{"to": "text", "guidance": 1.0, "steps": 3, "max_tokens": 8, **options})


def answered(engine, request, owner=""):
    ticket = engine.submit(request, owner=owner)
    while not ticket.done:
        engine.step()
    assert ticket.answer.error is None
    return engine.with_parts(ticket.answer)


def turns(engine, owner="", picture=0):
    """Two turns about a picture: the answers, and how many tokens were computed for the second."""
    question = [WORLD.part("image", picture), text("which digit is it, and what colour has it?")]
    first = answered(engine, asked(question), owner)
    before = engine.tokens_computed
    second = answered(engine, asked(question, first.message.parts, [text("are you sure?")]), owner)
    return first, second, engine.tokens_computed - before


def test_the_next_turn_computes_what_is_new_alone():
    plain, keeping = talkative(), talkative()
    keeping.keep_prefixes(KEPT)
    first, second, computed = turns(plain)
    kept_first, kept_second, kept_computed = turns(keeping)
    assert (first.message, second.message) == (kept_first.message, kept_second.message)
    assert (second.usage.reused, kept_first.usage.reused) == (0, 0)
    asked_first = sum(first.usage.asked.values())
    assert kept_second.usage.reused >= asked_first
    assert computed - kept_computed == kept_second.usage.reused
    assert dict(kept_second.usage.asked) == dict(second.usage.asked)


def test_a_drawing_is_part_of_what_is_kept():
    engine = talkative()
    engine.keep_prefixes(KEPT)
    drawn = answered(engine, asked([text("draw seven")], to="image"))
    follow = asked([text("draw seven")], drawn.message.parts, [text("which digit is it?")])
    expected = answered(talkative(), follow)
    again = answered(engine, follow)
    assert again.message == expected.message
    assert again.usage.reused > 0


def test_nobody_builds_on_what_another_asked():
    engine = talkative()
    engine.keep_prefixes(KEPT)
    assert turns(engine, "anna")[1].usage.reused > 0
    assert turns(engine, "bert")[0].usage.reused == 0
    assert turns(engine, "anna")[0].usage.reused > 0


def test_another_picture_is_another_beginning():
    engine = talkative()
    engine.keep_prefixes(KEPT)
    same = sum(turns(engine)[0].usage.asked.values()) - 1
    assert turns(engine)[0].usage.reused == same  # all but the token that the answer is told from
    other = turns(engine, picture=1)[0]
    assert other.usage.reused <= other.usage.asked["grammar"]


def test_what_is_kept_stays_within_its_bound_and_makes_room():
    engine = talkative(cache_tokens=8 * PAGE)
    engine.keep_prefixes(4 * PAGE)
    for number in range(12):
        answered(engine, asked([text(f"{number} {'seven ' * (number % 4)}")]))
        assert engine.cache.used <= 4
    assert engine.prefixes.kept
    answered(engine, asked([text("seven " * 60)], max_tokens=64))  # needs all eight pages
    assert engine.cache.used <= 4


def test_what_a_request_begins_with_is_dropped_last():
    engine = talkative(cache_tokens=5 * PAGE)
    engine.keep_prefixes(2 * PAGE)
    first, second = asked([text("seven, please")]), asked([text("another, please")])
    answered(engine, first)
    answered(engine, second)
    assert len(engine.prefixes.kept) == 2
    wish = asked([text("seven, please")], answered(engine, first).message.parts, [text("and " * 20)], max_tokens=40)
    answered(engine, second)  # the first one was used longest ago now
    again = answered(engine, wish)  # needs four of five pages
    assert again.usage.reused > 10


def test_nothing_is_kept_of_what_failed_or_is_too_long():
    engine = talkative()
    engine.keep_prefixes(PAGE)
    ticket = engine.submit(asked([text("yes")]))
    engine.step()
    engine.fail(ticket, RuntimeError("a fault"))
    assert engine.cache.used == 0
    answered(engine, asked([text("seven " * 60)]))
    assert (engine.cache.used, engine.prefixes.kept) == (0, [])


def test_a_request_that_was_cancelled_leaves_what_it_had_read():
    engine = talkative()
    engine.keep_prefixes(KEPT)
    question = asked([text("seven " * 20)], max_tokens=200)  # in a larger slot than what was read by then needs
    ticket = engine.submit(question)
    for _ in range(3):
        engine.step()
    engine.cancel(ticket)
    again = answered(engine, question)
    assert again.usage.reused > 20
    assert again.message == answered(talkative(), question).message


def test_keys_tell_apart_what_the_trunk_tells_apart():
    def block(value, expert=0, time=1.0):
        return FlowBlock("image", np.full((4, 3), value, np.float32), np.zeros((4, 2), np.float32), False, time, expert)

    keys = [identities_of([each])[0] for each in (block(0), block(1), block(0, 1), block(0, 0, 0.5), Ids([3], False))]
    assert len({key for key, _ in keys}) == len(keys)
    assert [length for _, length in keys] == [4, 4, 4, 4, 1]
    assert identities_of([Ids([1, 2], True)]) == identities_of([Ids([1], False), Ids([2], False)])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 7])  # 4 is within the block
def test_what_follows_a_beginning(count):
    block = FlowBlock("image", np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32), False)
    elements = [Ids([5, 6, 7], True), block, Ids([8, 9], False)]
    rest = without(elements, count)
    assert sum(map(len, rest)) == 7 - count
    assert (
        identities_of(elements)[len(identities_of(elements)) - len(identities_of(rest)) :] if rest else []
    ) == identities_of(rest)
