"""Loaders in processes give what they give one after the other, and a run resumes where it stopped."""

import pytest
import torch
from worlds import World

from plait.data.loader import Loader, PackConfig, Ranks
from plait.data.loader_pool import LoaderPool
from plait.data.sequence import Encoder
from plait.errors import ConfigError, RowError

WORKERS, STEPS = 2, 5


@pytest.fixture
def make():
    world = World()
    return lambda worker: Loader(world.samples(), {}, world.encoder, PackConfig(length=128, sequences=2), 100 + worker)


def taken(pool, count):
    with pool.steps() as steps:
        return [next(steps) for _ in range(count)]


def same(first, second):
    return all(
        torch.equal(a.ids, b.ids) and torch.equal(a.position, b.position) and a.counts == b.counts
        for step, other in zip(first, second, strict=True)
        for a, b in zip(step, other, strict=True)
    )


def test_processes_give_what_one_gives(make):
    slow = LoaderPool(make, WORKERS)
    assert same(taken(LoaderPool(make, WORKERS), STEPS), [slow.next_step() for _ in range(STEPS)])


def test_a_stopped_pool_goes_on_exactly(make):
    whole, stopped, resumed = (LoaderPool(make, WORKERS) for _ in range(3))
    expected = taken(whole, STEPS)
    taken(stopped, 3)
    resumed.load_state(stopped.state())
    assert same(taken(resumed, STEPS - 3), expected[3:])


def test_another_number_of_workers_is_refused(make):
    with pytest.raises(ConfigError, match=r"begun with pack.workers=2; got 3"):
        LoaderPool(make, 3).load_state(LoaderPool(make, 2).state())


def test_several_ranks_are_refused(make):
    with pytest.raises(ConfigError, match="leave it at 0"), LoaderPool(make, 2).steps(Ranks(0, 2)):
        pass


def test_an_error_of_a_worker_is_raised_when_its_step_is_due():
    world = World()

    def broken(part):
        raise RowError("this part is broken")

    encoder = Encoder(world.vocabulary, world.encoder.flow, broken)
    pool = LoaderPool(lambda worker: Loader(world.samples(), {}, encoder, PackConfig(length=128, sequences=2), 1), 2)
    with pytest.raises(RowError, match="this part is broken"):
        taken(pool, 1)
