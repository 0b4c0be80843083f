"""One folder a modality; each defines `MODALITY`, a class that follows `plait.contract.Modality`.

Beside the codec a folder may have optional modules. `plait.registry` discovers them and imports each on first use. Each
follows one of the protocols below; the module's functions are the protocol's methods. Without a module the program does
without its feature: a modality without `augment.py` is not augmented, one without `render.py` is shown by its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy as np
    import torch
    from torch import nn

    from plait.contract import Block, Part, Segment


PROVENANCE = "provenance"  # option of a part: what its files say of where it came from


class Augments(Protocol):
    """`augment.py`: augmentation of training inputs, the parts without loss."""

    def augment(self, modality: Any, segment: Segment, rng: np.random.Generator) -> Segment:
        """A varied copy of `segment` with the same meaning, within the settings of `modality`."""


class Suggests(Protocol):
    """`suggest.py`: settings derived from data."""

    def suggest(self, modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
        """Settings (keyword arguments of the class) for a small model of parts like these. Raises RowError."""


class Measures(Protocol):
    """`measure.py`: measurements of a part that need no model."""

    def distances(self, modality: Any, part: Part, reference: Part) -> dict[str, float]:
        """Distances between two parts by the name of the measure; 0 between equal parts."""

    def features(self, modality: Any, part: Part) -> np.ndarray:
        """[n] float32 features, n fixed for the modality, for baselines and nearest neighbours."""

    def features_are_alike(self) -> bool:
        """Whether all features share one unit, as pixels do, so that none is scaled by its own standard deviation."""

    def blank(self, modality: Any, part: Part) -> Part:
        """An empty part of the same shape: a black picture, silence, no words."""

    def facts(self, part: Part) -> Mapping[str, str | float]:
        """Facts from the part's header, without decoding it: words to count (`size`), numbers to plot (`seconds`)."""


class Weights(Protocol):
    """`weights.py`: trained parts of the codec itself, such as a vocoder. The objective `codec` trains them on media alone."""

    def parts(self, modality: Any) -> nn.Module | None:
        """What is trained; None where the settings want none."""

    def use(self, modality: Any, parts: nn.Module) -> None:
        """From now on the modality writes with these parts, which are copied."""

    def example(self, modality: Any, part: Part, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What goes into the parts and what should come out, of fixed shapes, from some place of a medium. Raises RowError."""

    def losses(self, parts: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """[n] losses of n examples."""


class Stream(Protocol):
    """What turns the blocks of one segment into pieces of a medium, in their order."""

    def add(self, block: Block, last: bool) -> Part:
        """The piece that is final with this block. All pieces together are what `write` makes of the segment."""


class Streams(Protocol):
    """`stream.py`: a part piece by piece while it is made. Without it every block is written by itself."""

    def begin(self, modality: Any) -> Stream:
        """For a new segment."""

    def join(self, parts: Sequence[Part]) -> Part:
        """One part of several, at least one, that follow each other."""


@runtime_checkable
class Telling(Protocol):
    """What a modality has beside whose headers may tell what their blocks hold, if its settings say so (`tells`)."""

    @property
    def tells(self) -> bool:
        """Whether headers tell. A request then may have the option `say`: what they are to tell."""

    @property
    def longest(self) -> int:
        """Tokens of the longest segment."""

    def bare(self, header: Sequence[str]) -> Sequence[str]:
        """A header, or some names of one, without what tells of the content: what guidance leads away from does not see it."""

    def ordered(self, names: Sequence[str]) -> bool:
        """Whether the names that may follow are answers to when, the soonest first: then the likeliest would mostly be too soon."""


@runtime_checkable
class Fetching(Protocol):
    """What a modality, or the reader of one, has that needs files beside rows."""

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """The files that it needs, by their place in the folder of sources, for another machine; fetched into `folder`."""


class Cuts(Protocol):
    """`cut.py`: long parts in pieces. Without it a part is read whole or not at all."""

    def cut(self, modality: Any, part: Part) -> list[tuple[Part, float]]:
        """Pieces that the modality can read, in their order, and the second at which each begins. Raises RowError."""


class Reader(Protocol):
    """An entry of `READERS` in `readers`: a frozen encoder that reads what is given. Its features go through a trained
    projector. `version` names its weights and everything that features depend on: cached features of another are not used.
    Where `words` is not 0, each medium has `tokens` features, and as many places after them for words of the answers that it
    resembles (plait.model.memory). Where `letters` is not
    0, a feature holds as many letters at most (an even number of parts of its width, side by side) and lasts `seconds`, and a
    medium is spelled (plait.model.heard).
    """

    name: str
    version: str
    width: int  # floats a feature token
    tokens: int = 0  # features of a medium; 0: it depends on the medium
    words: int = 0
    letters: int = 0
    seconds: float = 0.0

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """The part as the network's input: samples, or pixels. Raises RowError."""

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A varied input with the same meaning, for training."""

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """The files of its weights, by their place in the folder of sources, for another machine; fetched into `folder`."""

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """The network on a device: prepared inputs -> [n, width] float16 features of each. Raises MissingError."""


@runtime_checkable
class Portable(Protocol):
    """What a reader has beside whose network runs elsewhere, too."""

    def networks(self) -> Mapping[str, tuple[nn.Module, torch.Tensor]]:
        """By name a network in float32, and an example of what it takes: one prepared medium -> [1, n, width] features."""


class Finds(Protocol):
    """`finder.py`: what is looked at where a question is about things in a medium. A trained finder answers in words, which stand in
    `places` beside the medium (plait.model.finder). A modality has one where its setting `finder` is true."""

    patches: int
    width: int  # floats a patch
    places: int

    def see(self, modality: Any, part: Part) -> np.ndarray:
        """[patches, width] float16 of a part. Raises RowError."""


@dataclass(frozen=True)
class JudgeView:
    """The input of a convolutional judge for the parts of a modality.

    `view` returns [channels, height, width] float32 of a fixed size, from features that the model does not have. `augment`
    varies a training batch [B, channels, height, width] of them. `round_trip` encodes and decodes a real part, for codecs
    whose artefacts alone would tell generated parts from recordings.
    """

    channels: int
    view: Callable[[Part], np.ndarray]
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    epochs: int
    stride: int = 1
    round_trip: Callable[[Part], Part] | None = None


class Judged(Protocol):
    """`judge.py`: the input of an independent judge."""

    def judge_view(self, modality: Any, parts: Sequence[Part]) -> JudgeView:
        """A view for parts like these."""


class Renders(Protocol):
    """`render.py`: presentation of a part to people: in files, on pages, in a terminal."""

    def accepts(self, value: Any) -> bool:
        """Whether a Python value is a part of this modality (a string, a PIL picture...)."""

    def verb(self) -> str:
        """The chat command that requests a part of this modality: `draw`."""

    def reads_files(self) -> Sequence[str]:
        """Suffixes of the files that `read` takes, in lower case; none for a modality that is typed."""

    def html(self, part: Part, notes: Sequence[str] = ()) -> str:
        """Self-contained HTML of the part; `notes` are texts that may refer to places in it, such as boxes in a picture."""

    def terminal(self, part: Part, columns: int, protocol: str | None) -> str:
        """The part as terminal output `columns` wide; `protocol` for pictures: kitty, iterm, or None."""

    def save(self, part: Part, folder: Path, stem: str) -> Path | None:
        """Write the part to `folder` as `stem` with the modality's suffix; returns the path, or None if it is printed instead."""


Region = Mapping[
    str, tuple[float, ...]
]  # {"box": (left, top, right, bottom)} in shares of the sides, {"seconds": (first, last)}...


class Regions(Protocol):
    """`regions.py`: where in a part its tokens are, and pieces of it that people can point at, for explanations."""

    def of_tokens(self, modality: Any, segment: Segment) -> list[Region]:
        """The region of each token of a part, encoded."""

    def pieces(self, modality: Any, part: Part) -> list[Region]:
        """Regions that a part consists of, for people to point at. Raises RowError."""

    def without(self, modality: Any, part: Part, numbers: Collection[int]) -> Part:
        """The part as if nothing were in the pieces of these numbers. Raises RowError."""


class Places(Protocol):
    """`boxes.py`: places in a part that texts speak of. Without it no text is read for them."""

    def boxes_in_text(self, text: str, size: Sequence[float]) -> list[dict[str, Any]]:
        """Boxes {label, box: [x1, y1, x2, y2]} in a text, in units of a part of `size` (width, height)."""

    def boxes_as_text(self, boxes: Sequence[Mapping[str, Any]], size: Sequence[float]) -> str:
        """The text of boxes in units of a part of `size`."""


@dataclass(frozen=True)
class Provenance:
    """What is known of where a part came from: who says that a model made it (empty: nobody), and how clearly it has the mark
    of what Plait made, against how clearly it has to (standard deviations; None: its modality has no mark)."""

    declared: str
    evidence: float | None = None
    needed: float = 0.0

    @property
    def is_marked(self) -> bool:
        """Whether the mark was found."""
        return self.evidence is not None and self.evidence >= self.needed


class Checks(Protocol):
    """`quality.py`: how people make a part on a page, the usual way first, and whether it will do. Without it every part does, and is uploaded."""

    WAYS: tuple[str, ...]

    def complaints(self, part: Part) -> list[str]:
        """What is wrong with a part, each with what would mend it; none where it will do. Raises RowError."""


class Marks(Protocol):
    """`mark.py`: a watermark in what a model made, so that it can be told from what was photographed or recorded. A part that was
    marked has the option PROVENANCE, which its files say, too. Without it a modality is not marked."""

    def mark(self, part: Part) -> Part:
        """The part with the mark. Raises RowError."""

    def marker(self) -> Callable[[Part | None], Part | None]:
        """What marks the pieces of one part as they are made, and gives what is left, if anything, for None behind the last:
        all pieces together are what `mark` makes of the part."""

    def evidence(self, part: Part) -> tuple[float, float]:
        """How clearly a part has the mark, and from where on it counts as found: standard deviations of parts without it.
        Raises RowError."""


class Voices(Protocol):
    """`voices.py`: who it is that a part is of, by a direction that parts of one person share."""

    def direction(self, part: Part) -> np.ndarray:
        """[width] unit vector. Raises RowError for a part that tells too little, MissingError and DataError where what tells it
        cannot be fetched."""

    def threshold(self) -> float:
        """The product of two directions from which they are taken for one person's."""

    def measured(self) -> dict[str, Any]:
        """How well persons are told apart there: metric, value, and of how many."""


class Transfers(Protocol):
    """`transfer.py`: a part as bytes, as clients and servers send it to each other. Without it a part cannot be sent."""

    def formats(self) -> Mapping[str, str]:
        """Media types such as `image/png` by the name of the format, the usual one first."""

    def encode(self, part: Part, format: str) -> bytes:
        """The part in one of the formats, which says what its option PROVENANCE says, where it can. Raises ConfigError for another
        format, RowError for a damaged part."""

    def joined(self, format: str) -> Callable[[Part | None], bytes]:
        """What turns the pieces of one part that is being made, and None behind the last, into bytes that join without a seam."""

    def decode(self, data: bytes) -> Part:
        """A part whose value is decoded, of arrays, numbers, strings, lists and tuples: nothing that reads it afterwards meets a
        stranger's bytes. It has the option PROVENANCE if the file says that it was made. Raises RowError."""
