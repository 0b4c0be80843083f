"""The whole contract between the core and a modality. A *sample* is a conversation: messages, each a role and typed parts.
A *modality* turns a part into a *segment*, a chain of *blocks*, and back. A block is a header of grammar names followed by
tokens: its length is known before it is drawn. The core sees names, arrays, protocols, never which modality it serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

HeadKind = Literal["categorical", "flow"]
WORDS = "text"  # the type of a content that is a bare string, as in chat APIs
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Part:
    """One typed piece of a message. `value` is what the modality's `read` takes: a path, a string, an array..."""

    type: str
    value: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """Parts spoken by one role; a message without a role is a document, and all of it is learned."""

    role: Role | None
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Sample:
    """A conversation, its task, whatever the evaluation needs to know, the file:line it stands in, the hash of that line.
    `rejected`: in a preference, what is worse than as many messages at the end."""

    messages: tuple[Message, ...]
    task: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)
    id: str = field(default="", compare=False)
    rejected: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Block:
    """A header of grammar names, and the tokens it announces: [n, token_width] float32 (flow) or [n] int64 ids of its own.
    `noise`, like `tokens`: what a model drew them from."""

    header: tuple[str, ...]
    tokens: np.ndarray
    noise: np.ndarray | None = None


@dataclass(frozen=True)
class Segment:
    """A part, encoded: the modality's name and its chain of blocks."""

    modality: str
    blocks: tuple[Block, ...]


@runtime_checkable
class Modality(Protocol):
    """What a folder under `plait/modalities` must provide; what it may provide beside is in `plait.modalities`."""

    name: str
    head: HeadKind

    @property
    def token_width(self) -> int:
        """Floats a token for a flow head; size of the vocabulary for a categorical one."""

    def grammar(self) -> Sequence[str]:
        """Names of the header ids that this modality owns; a flow modality's first one opens its segments."""

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        """What may follow `header`, if anything; impossible `options` raise ConfigError (`blocks`: how many are made already;
        `headers`: theirs)."""

    def block_len(self, header: Sequence[str]) -> int:
        """Number of tokens that the complete `header` announces."""

    def ends(self, header: Sequence[str]) -> bool:
        """Whether the block under the complete `header` is the last of its segment."""

    def coordinates(self, header: Sequence[str], before: Sequence[Sequence[str]] = ()) -> np.ndarray:
        """[block_len, C] float32: where each token of a block stands, C fixed for the modality; `before`: earlier headers of its
        segment."""

    def read(self, part: Part) -> Segment:
        """Encode a part. Raises RowError, naming what was got and expected."""

    def check(self, part: Part) -> None:
        """Raise the RowError that `read` would raise, in about the time that it takes to open the part."""

    def write(self, segment: Segment) -> Part:
        """Decode a segment; `read(write(s))` gives the same tokens wherever the medium allows it."""

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        """Generated tokens as they would come back from `read` (8-bit pixels, say)."""

    def embedder(self, dim: int) -> nn.Module:
        """Module (tokens [N, token_width], coordinates [N, C], time [N]) -> [N, dim]."""

    def fit(self, parts: Iterable[Part]) -> None:
        """Learn vocabulary or normalisation from parts of the training split."""

    def state(self) -> dict[str, Any]:
        """What `fit` learned and how the modality is set up, as JSON; the keyword arguments that rebuild it."""

    def example(self, seed: int) -> Part:
        """A small valid part for the conformance tests."""
