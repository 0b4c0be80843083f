"""Plait: one transformer that reads and writes text, images and sound.

import plait
plait.build("digits")                              # data
run = plait.train("digits", out="runs/mine")       # a checkpoint folder
model = plait.load(run)
reply = model.generate(["Draw seven."], to="image")
reply.parts[0].value.save("seven.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "Part", "Request", "build", "evaluate", "export", "load", "train", "train_on"]

if TYPE_CHECKING:
    from plait.api import Model, Part, Request, build, evaluate, export, load, train, train_on


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first asked for, so that `import plait` costs nothing."""
    if name in __all__:
        return getattr(import_module("plait.api"), name)
    raise AttributeError(f"module 'plait' has no attribute {name!r}; it offers {', '.join(__all__)}")
