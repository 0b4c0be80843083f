"""Training: one loop, its exact state, checkpoints.

`plait.train` is this package, and also the verb: importing any module of it puts the package in the verb's place, so the
package itself can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """plait.api.train, found when it is called: a layer below knows no verbs."""
        return import_module("plait.api").train(*arguments, **options)


sys.modules[__name__].__class__ = _Verb
