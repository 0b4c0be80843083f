"""Several processes, one training: torchrun starts them, and each keeps its share of every step's sequences."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from plait.data.loader import Ranks

PATIENCE = timedelta(hours=12)  # the first process may check a large data set while the others wait


def ranks() -> tuple[int, int]:
    """This process's rank and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def expected() -> int:
    """How many processes torchrun says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """Join the group that torchrun's variables describe; (0, 1) without them. NCCL between CUDA devices, else gloo."""
    if ranks()[1] > 1 or expected() < 2:
        yield ranks()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Its functions keep the group that is there when it is first imported, as a default argument, and optimizers import it:
    # imported inside, the group would outlive the end below, and gloo's threads end the process with SIGABRT now and then.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield ranks()
    finally:
        dist.destroy_process_group()


def first_alone(work: Callable[[], Any]) -> None:
    """Rank 0 does `work`; the others wait, and fail with it."""
    rank, world = ranks()
    problem: list[str] = [""]
    error: Exception | None = None
    if rank == 0:
        try:
            work()
        except Exception as raised:
            error, problem = raised, [str(raised) or repr(raised)]
    if world > 1:
        dist.broadcast_object_list(problem, src=0)
    if error is not None:
        raise error
    if problem[0]:
        raise SystemExit(2)  # rank 0 says why


@contextmanager
def loader_ranks() -> Iterator[Ranks]:
    """The processes for the thread that prepares rows: it sends its numbers through a group of its own, so that they do not
    meet the training's."""
    rank, world = ranks()
    if world == 1:
        yield Ranks()
        return
    group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def add(numbers: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(numbers.copy())
        dist.all_reduce(tensor, group=group)
        return tensor.numpy()

    try:
        yield Ranks(rank, world, add)
    finally:
        dist.destroy_process_group(group)


def any_rank(flag: bool) -> bool:
    """Whether any process says so: all stop after the same step."""
    if ranks()[1] == 1:
        return flag
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    said = torch.tensor(float(flag), device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said.item())


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes its sum over the processes, in one message."""
    if ranks()[1] == 1:
        return
    device = torch.device("cuda") if dist.get_backend() == "nccl" else tensors[0].device
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(device)
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
