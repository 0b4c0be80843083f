"""Many small independent jobs, such as turning mel frames into sound, on all of the process's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def each(function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """`[function(item) for item in items]`. torch lets go of Python's lock, and one small job keeps one core busy."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))
