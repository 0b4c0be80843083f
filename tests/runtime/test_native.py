"""The native libraries below torch are configured once, and what a user sets stands."""

import itertools
import os
import sys

import pytest
import torch

from plait.runtime import native


def test_what_the_user_sets_stands(monkeypatch):
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    accepted = native.configure()
    assert accepted == sys.platform.startswith("linux")
    assert os.environ["LRU_CACHE_CAPACITY"] == "16"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


def at_offset(tensor: torch.Tensor, floats: int) -> torch.Tensor:
    """A copy that begins `floats` float32 numbers behind a multiple of 64 bytes."""
    memory = torch.empty(tensor.numel() + 32)
    start = (floats - memory.data_ptr() // 4) % 16
    return memory[start : start + tensor.numel()].view(tensor.shape).copy_(tensor)


@pytest.mark.parametrize("rows", [1, 3, 24])
def test_sums_do_not_depend_on_where_in_memory_a_tensor_lies(rows):
    """What tests/conftest.py configures has reached MKL; without it, some processors give other bits."""
    inputs, weight = torch.randn(rows, 32), torch.randn(33, 32)
    aligned = at_offset(inputs, 0) @ at_offset(weight, 0).T
    for first, second in itertools.product(range(4), repeat=2):
        assert torch.equal(at_offset(inputs, first) @ at_offset(weight, second).T, aligned)
