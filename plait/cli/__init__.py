"""The command line: one module per group of commands."""

from plait.cli import (
    annotate,
    chat,
    collect,
    data,
    evaluate,
    explain,
    finetune,
    generate,
    patch,
    pretrained,
    probe,
    provenance,
    reward,
    serve,
    study,
    system,
    train,
)
from plait.cli.app import app, main

__all__ = [
    "annotate",
    "app",
    "chat",
    "collect",
    "data",
    "evaluate",
    "explain",
    "finetune",
    "generate",
    "main",
    "patch",
    "pretrained",
    "probe",
    "provenance",
    "reward",
    "serve",
    "study",
    "system",
    "train",
]
