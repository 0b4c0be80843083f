"""One folder a modality; each defines `MODALITY`, a class that follows `plait.contract.Modality`.

Beside the codec a folder may have files that say more of its parts. Each is found by being there (`plait.registry`), is
loaded when it is first asked for, and follows one of the protocols below; a module's functions are its methods. Without
a file the rest of the program does without: what has no `augment.py` is not varied, what has no `render.py` is shown
by its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from plait.contract import Part, Segment


class Augments(Protocol):
    """`augment.py`: other looks at the same thing, for parts that training only looks at."""

    def augment(self, modality: Any, segment: Segment, rng: np.random.Generator) -> Segment:
        """The same thing, seen or heard a little differently, as the settings of `modality` allow."""


class Suggests(Protocol):
    """`suggest.py`: settings from data."""

    def suggest(self, modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
        """Settings (keyword arguments of the class) that suit a small model of parts like these."""


class Measures(Protocol):
    """`measure.py`: what can be said of a part without a model."""

    def distances(self, modality: Any, part: Part, reference: Part) -> dict[str, float]:
        """Plain distances between two parts, by name; a part is at 0 from itself."""

    def features(self, modality: Any, part: Part) -> np.ndarray:
        """[n] float32, n fixed for the modality: for baselines and nearest neighbours."""

    def features_are_alike(self) -> bool:
        """Whether all features have one unit, as pixels have, so that none is to be scaled by its own spread."""

    def blank(self, modality: Any, part: Part) -> Part:
        """A part like this one with nothing in it."""

    def facts(self, part: Part) -> Mapping[str, str | float]:
        """What its header says, without decoding it: words to count (`size`), numbers to plot (`seconds`)."""


@dataclass(frozen=True)
class JudgeView:
    """How a convolutional judge sees the parts of a modality.

    `view` gives [channels, height, width] float32 of one size, through features that the model does not have; `augment`
    varies a training batch of them. `round_trip` gives a real part as the codec would give it back, where what is made
    can be told from recordings by that alone.
    """

    channels: int
    view: Callable[[Part], np.ndarray]
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    epochs: int
    stride: int = 1
    round_trip: Callable[[Part], Part] | None = None


class Judged(Protocol):
    """`judge.py`: how an independent judge looks at the parts."""

    def judge_view(self, modality: Any, parts: Sequence[Part]) -> JudgeView:
        """A view that suits parts like these."""


class Renders(Protocol):
    """`render.py`: how people meet a part: in files, on pages, in a terminal."""

    def accepts(self, value: Any) -> bool:
        """Whether a Python value is meant to be a part of this modality (a string, a PIL picture...)."""

    def verb(self) -> str:
        """What asks for a part of this modality in a chat: `draw`."""

    def reads_files(self) -> Sequence[str]:
        """Suffixes of the files that `read` takes, lower case; none for what is typed."""

    def html(self, part: Part, notes: Sequence[str] = ()) -> str:
        """The part on a page, whole in itself; `notes` are texts that may point into it, as boxes point into a picture."""

    def terminal(self, part: Part, columns: int, protocol: str | None) -> str:
        """The part in a terminal `columns` wide; `protocol`: kitty, iterm, or none that shows pictures."""

    def save(self, part: Part, folder: Path, stem: str) -> Path | None:
        """Write the part to a file `stem` with a suffix of its own; None for what is printed instead."""
