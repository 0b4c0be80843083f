"""Kernels in C, compiled where they run: a step of decoding (step.c).

torch spends most of a step for one token on calling small operations. Here a step is one call. The first use looks for a compiler
and keeps what it makes; without one `library` is None and torch computes. `PLAIT_KERNELS=0` turns them off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("step.c")
# What sums in another order need. Not -ffast-math: with it a library that is loaded makes the whole process round denormals to zero.
ARITHMETIC = (
    "-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros", "-freciprocal-math", "-ffp-contract=fast",
)  # fmt: skip
FLAGS = ("-O3", "-march=native", *ARITHMETIC, "-shared", "-fPIC", "-std=gnu11")
THREADS = ("-fopenmp", "-DNO_OPENMP")  # the second where the first is not known: one thread then
SECONDS = 120  # that compiling may take
GROUP = 32  # weights that share a scale
MOST = 16  # tokens of a step
THREADS_AT_MOST = 8

Pointer = ctypes.c_void_p
Number = ctypes.c_int64


class Matrix(ctypes.Structure):
    """Weights of a linear layer, [rows, columns]."""

    _fields_ = (
        ("weights", Pointer), ("scales", Pointer), ("least", Pointer), ("bias", Pointer), ("rows", Number), ("columns", Number),
        ("bits", Number),
    )  # fmt: skip


class Norm(ctypes.Structure):
    """Weights of a norm, float32."""

    _fields_ = (("weight", Pointer), ("bias", Pointer))


class Layer(ctypes.Structure):
    """A layer of attention and feed-forward."""

    _fields_ = (
        ("project", Matrix), ("out", Matrix), ("up", Matrix), ("down", Matrix),
        ("attention", Norm), ("feed_forward", Norm), ("queries", Norm), ("keys", Norm),
        ("turns", Number), ("number", Number),
    )  # fmt: skip


class Stack(ctypes.Structure):
    """Layers that tokens pass one after the other."""

    _fields_ = (
        ("enter", Matrix), ("leave", Matrix), ("layers", ctypes.POINTER(Layer)), ("last", Norm),
        *((name, Number) for name in (
            "count", "width", "inside", "heads", "kv_heads", "head_width", "activation", "gated", "is_rms",
        )),
        ("eps", ctypes.c_float),
    )  # fmt: skip


class Stream(ctypes.Structure):
    """Where the keys and values of a token's stream lie."""

    _fields_ = (
        ("data", Pointer), ("layer_stride", Number), ("value_stride", Number), ("capacity", Number), ("length", Number),
        ("hidden", ctypes.POINTER(Pointer)),
    )  # fmt: skip


class Step(ctypes.Structure):
    """The tokens of a step: their positions and their streams."""

    _fields_ = (
        ("cosines", Pointer), ("sines", Pointer), ("streams", ctypes.POINTER(Stream)), ("tokens", Number),
        ("is_bfloat16", Number),
    )  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no compiler, or they are turned off. `unavailable` says why."""
    if unavailable():
        return None
    loaded = ctypes.CDLL(str(_compiled()))
    loaded.scratch.restype = Number
    loaded.scratch.argtypes = (ctypes.POINTER(Stack), Number, Number, Number)
    loaded.step.argtypes = (ctypes.POINTER(Stack), ctypes.POINTER(Step), Pointer, Pointer, Number)
    loaded.multiply.argtypes = (ctypes.POINTER(Matrix), Pointer, Pointer, Number, Number)
    return loaded


@functools.cache
def unavailable() -> str:
    """Why the kernels cannot be used here; empty if they can."""
    if os.environ.get("PLAIT_KERNELS") == "0":
        return "turned off by PLAIT_KERNELS=0"
    if os.name != "posix":
        return "no compiler is looked for on this system"
    if _compiler() is None:
        return "no C compiler found; words come 2 to 4 times as fast with one: install gcc or clang"
    try:
        ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # no home folder is a RuntimeError
        lines = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        return f"they do not compile here: {lines[0] if lines else error}"
    return ""


def _compiler() -> str | None:
    return next((found for name in (os.environ.get("CC", "cc"), "gcc", "clang") if (found := shutil.which(name))), None)


def _compiled() -> Path:
    """The shared library, made once for this source, compiler and processor."""
    compiler = _compiler()
    assert compiler is not None
    ingredients = (SOURCE.read_bytes(), compiler.encode(), " ".join((*FLAGS, *THREADS)).encode(), _processor().encode())
    name = hashlib.sha256(b"\0".join(ingredients)).hexdigest()[:16]
    folder = _own(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "plait" / "kernels")
    target = folder / f"step-{name}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as room:  # whole or not there, whoever else compiles
            compiled = Path(room) / target.name
            for threads in THREADS:
                call = [compiler, *FLAGS, threads, str(SOURCE), "-o", str(compiled), "-lm"]
                done = subprocess.run(call, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
                if done.returncode == 0:
                    break
            done.check_returncode()
            compiled.replace(target)
    return target


def _own(folder: Path) -> Path:
    """The folder, made if it is not there. Raises OSError for one that others may write to: what lies there is run."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise OSError(f"{folder} is not yours alone; expected a folder that no one else may write to: chmod 700 it")
    return folder


def team(threads: int) -> int:
    """Threads that compute a step where torch has so many: they wait for each other some ten times a layer, and look at memory together."""
    return max(
        1, min(threads, THREADS_AT_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads)
    )


def _processor() -> str:
    """What the processor can do: a home folder may be that of several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
