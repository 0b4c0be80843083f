"""Each rank encodes its share of the rows, and all plan the same step: several loaders in threads against one alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from worlds import World

from plait.data.hidden import HIDDEN
from plait.data.loader import ALONE, Loader, PackConfig, Ranks
from plait.data.sequence import Encoder
from plait.errors import RowError

WORLD = World()
PACK = PackConfig(length=160, sequences=6)
TENSORS = ("ids", "block", "copy", "position", "target", "expert")


class Counting(Encoder):
    """Counts the rows that it encodes; raises RowError for the texts in `bad`."""

    def __init__(self, bad=(), mask_prob=0.0):
        super().__init__(WORLD.vocabulary, WORLD.encoder.flow.model_copy(update={"mask_prob": mask_prob}))
        self.encoded, self.bad = 0, bad

    def row(self, sample, rng, hides=True):
        self.encoded += 1
        if sample.task in self.bad:
            raise RowError(f"no file for {sample.task}")
        return super().row(sample, rng, hides)


class Meeting:
    """Adds numbers over threads, as processes do it."""

    def __init__(self, world):
        self.world, self.barrier, self.numbers = world, threading.Barrier(world, timeout=20), {}

    def ranks(self, rank):
        def add(numbers):
            self.numbers[rank] = numbers
            self.barrier.wait()
            total = sum(self.numbers[other] for other in range(self.world))
            self.barrier.wait()
            return total

        return Ranks(rank, self.world, add)


def loaders(world, pack=PACK, bad=()):
    return [Loader(WORLD.samples(), {}, Counting(bad), pack, 3) for _ in range(world)]


def hiding_late(count):
    """Loaders whose rows hide something once two steps are planned."""
    return [Loader(WORLD.samples(), {}, Counting(mask_prob=0.9), PACK, 3, steps_in_full=2) for _ in range(count)]


def together(meeting, work):
    """What `work` gives on every rank."""
    with ThreadPoolExecutor(meeting.world) as threads:
        return list(threads.map(lambda rank: work(rank, meeting.ranks(rank)), range(meeting.world)))


def whole(batches_of_ranks):
    """Sequences of a step in the order of one rank alone, from every rank's every `world`-th."""
    parts = [torch.stack([getattr(batches[0], name) for name in TENSORS]) for batches in batches_of_ranks]
    count = sum(part.shape[1] for part in parts)
    return torch.stack([parts[number % len(parts)][:, number // len(parts)] for number in range(count)], dim=1)


def noise(batches_of_ranks):
    """Sums of the noised tokens of a step, which depend on every random draw."""
    return {
        name: sum(float(batches[0].noised[name].inputs.double().sum()) for batches in batches_of_ranks)
        for name in batches_of_ranks[0][0].noised
    }


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_plan_what_one_plans_and_encode_their_share(world):
    (alone,) = loaders(1)
    several, meeting = loaders(world), Meeting(world)
    for _ in range(4):
        expected = alone.next_step()
        parts = together(meeting, lambda rank, ranks: several[rank].next_step(ranks))
        assert torch.equal(whole(parts), whole([expected]))
        assert noise(parts) == pytest.approx(noise([expected]), rel=1e-6)
        assert all(loader.state() == alone.state() for loader in several)
    encoded = [loader.encoder.encoded for loader in several]
    ahead = len(several[0].ahead)
    share = 2 / world  # to tell lengths, and its own sequences
    assert max(encoded) < share * (alone.encoder.encoded + ahead) + 20
    assert min(encoded) > 0


def test_a_run_of_two_goes_on_alone_and_the_other_way_round():
    """A checkpoint knows nothing of ranks; samples that were measured ahead are drawn again."""
    (alone,), two, meeting = loaders(1), loaders(2), Meeting(2)
    for _ in range(2):
        alone.next_step()
        together(meeting, lambda rank, ranks: two[rank].next_step(ranks))
    assert two[0].ahead, "the case that is meant"
    state = two[0].state()
    assert state == alone.state()
    (resumed,), resumed_two = loaders(1), loaders(2)
    for loader in (resumed, *resumed_two):
        loader.load_state(state)
        assert loader.state() == state
    expected = whole([alone.next_step()])
    assert torch.equal(whole([resumed.next_step()]), expected)
    parts = together(meeting, lambda rank, ranks: resumed_two[rank].next_step(ranks))
    assert torch.equal(whole(parts), expected)


def test_all_stop_when_one_cannot_encode_a_row():
    """The others wait for its lengths: they must not wait for ever."""
    task = WORLD.samples()[0].task
    two, meeting = loaders(2, bad=(task,)), Meeting(2)

    def steps(rank, ranks):
        for _ in range(3):
            two[rank].next_step(ranks)

    def problem(rank, ranks):
        with pytest.raises(RowError) as told:
            steps(rank, ranks)
        return str(told.value)

    said = together(meeting, problem)
    assert any(f"no file for {task}" in message for message in said)
    assert all("no file for" in message or "another process says why" in message for message in said)


def test_every_rank_knows_what_was_too_long():
    short = PackConfig(length=24, sequences=4)
    (alone,), two, meeting = loaders(1, short), loaders(2, short), Meeting(2)
    alone.next_step()
    together(meeting, lambda rank, ranks: two[rank].next_step(ranks))
    assert alone.too_long
    assert two[0].too_long == two[1].too_long == alone.too_long


def test_alone_nothing_is_encoded_twice_or_ahead():
    (alone,) = loaders(1)
    for _ in range(3):
        alone.next_step(ALONE)
    assert alone.encoder.encoded == alone.mix.draws
    assert not alone.ahead
    numbers = np.arange(3)
    assert ALONE.add(numbers) is numbers


def is_hidden(step):
    """[B, L] which tokens of a step are hidden."""
    return whole(step)[TENSORS.index("copy")] == HIDDEN


def test_rows_hide_nothing_before_their_step():
    (alone,), two, meeting = hiding_late(1), hiding_late(2), Meeting(2)
    hidden = []
    for step in range(6):
        state = alone.state()
        assert two[0].state() == state
        expected = alone.next_step()
        parts = together(meeting, lambda rank, ranks: two[rank].next_step(ranks))
        assert torch.equal(whole(parts), whole([expected])), step
        (resumed,), resumed_two = hiding_late(1), hiding_late(2)
        for loader in (resumed, *resumed_two):
            loader.load_state(state)
        assert torch.equal(whole([resumed.next_step()]), whole([expected])), step
        parts = together(meeting, lambda rank, ranks, those=resumed_two: those[rank].next_step(ranks))
        assert torch.equal(whole(parts), whole([expected])), step
        hidden.append(int(is_hidden([expected]).sum()))
    assert two[0].ahead, "the case that is meant"
    assert hidden[:2] == [0, 0]
    assert min(hidden[2:]) > 0
    with alone.steps() as steps:
        assert bool(is_hidden([next(steps)]).any())
