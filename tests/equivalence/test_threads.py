"""Work on several threads gives what one thread gives."""

import pytest
import torch

from plait.runtime.parallel import parallel_map


@pytest.fixture
def threads():
    """More than the one that the other tests run on."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_each_is_the_list(threads):
    assert parallel_map(lambda x: x * x, range(50)) == [x * x for x in range(50)]
    assert parallel_map(str, []) == []
    assert torch.get_num_threads() == threads, "the caller keeps its threads"


def test_workers_have_one_thread_and_the_caller_s_mode(threads):
    weight = torch.nn.Parameter(torch.ones(3))

    def look(_):
        return torch.get_num_threads(), torch.is_inference_mode_enabled(), (weight * 2).requires_grad

    with torch.inference_mode():
        assert set(parallel_map(look, range(8))) == {(1, True, False)}
    assert set(parallel_map(look, range(8))) == {(1, False, True)}


def test_a_call_inside_a_call(threads):
    assert parallel_map(lambda x: sum(parallel_map(lambda y: x * y, range(5))), range(20)) == [
        10 * x for x in range(20)
    ]


def test_an_exception_comes_through(threads):
    def fail(x):
        raise ValueError(f"no {x}")

    with pytest.raises(ValueError, match="no 0"):
        parallel_map(fail, range(4))
    assert torch.get_num_threads() == threads
