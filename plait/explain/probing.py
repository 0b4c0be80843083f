"""Linear probes (Alain and Bengio, 2017): how well a label can be told from a part's hidden states after each layer, by a ridge
classifier that is trained on one half of the rows and asked about the other.

Beside it stands a control task (Hewitt and Liang, 2019), the same labels shuffled among the rows, for a probe with the same penalty: how many
of them it knows by heart on the half that it is trained on, and how many it then guesses on the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from plait.contract import WORDS, Message, Part, Sample
from plait.data.pack import collate
from plait.data.row import Row, lay_out_clean
from plait.errors import ConfigError, RowError
from plait.explain.explanation import Subject
from plait.explain.layers import after_layers
from plait.explain.units import tokens_of

FORMAT = 1
TOKENS_A_BATCH = 2048  # whose hidden states of all layers are held at once
FEWEST_ROWS = 20
PENALTIES = tuple(10.0**power for power in range(7))  # of the ridge; the best by leaving out one row after the other


@dataclass(frozen=True)
class LayerProbe:
    """Shares of rows that a probe is right about: of the half held out; of that and of the half that it learned from where labels are
    shuffled."""

    accuracy: float
    control: float
    by_heart: float


@dataclass(frozen=True)
class Probing:
    """Probes of a label by the number of layers, 0 first. `kind`: the modality of the part; `majority`: the share, in the half held out,
    of the label that the other half has most often."""

    label: str
    kind: str
    classes: int
    trained: int
    held_out: int
    majority: float
    layers: tuple[LayerProbe, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        """As text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def table(self) -> str:
        """A line a number of layers, as text."""
        lines = [
            f"{self.label} from {self.kind}: {self.classes} labels, {self.trained} rows to learn from, {self.held_out} held out; "
            f"the commonest label {self.majority:.3f}",
            "layers  accuracy  shuffled  by heart",
        ]
        for number, one in enumerate(self.layers):
            lines.append(f"{number:6d}  {one.accuracy:8.3f}  {one.control:8.3f}  {one.by_heart:8.3f}")
        return "\n".join(lines)


def label_of(sample: Sample, label: str) -> str:
    """The label of a row in its `meta`, by a name such as `expect.digit`. Raises ConfigError."""
    value: Any = sample.meta
    for name in label.split("."):
        if not isinstance(value, Mapping) or name not in value:
            known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "nothing below it"
            raise ConfigError(
                f"{sample.where or 'row'}: got no meta.{label}; expected a label: there is {known or 'none'}"
            )
        value = value[name]
    return str(value)


@dataclass(frozen=True)
class Probed:
    """A part whose hidden states are averaged: its modality, the row that it stands in, and the indices there of the tokens of its
    content. `media`: the parts of the question, without words where there are others."""

    kind: str
    row: Row
    tokens: np.ndarray
    media: tuple[Part, ...]

    @classmethod
    def of(cls, subject: Subject, sample: Sample, kind: str | None) -> Probed:
        """The first part of a question, or its first of a kind. Raises RowError for a question without one."""
        messages = sample.messages[:-1] if sample.messages[-1].role == "assistant" else sample.messages
        messages = tuple(subject.engine.in_words(messages))
        encoder = subject.engine.encoder
        row = lay_out_clean(encoder.prompt(Sample(messages)))
        for number, message in enumerate(messages):
            for place, part in enumerate(message.parts):
                if kind in (None, part.type):
                    tokens = tokens_of(row, number, place)
                    if encoder.modality(part.type).head != "categorical":
                        tokens = tokens[row.ids[tokens] < 0]  # without headers
                    if len(tokens):
                        return cls(part.type, row, tokens, _media(messages))
        raise RowError(
            f"{sample.where or 'row'}: got no part {f'of type {kind!r} ' if kind else ''}with tokens in the question; expected one"
        )


def _media(messages: Sequence[Message]) -> tuple[Part, ...]:
    """The parts of messages, without words where there are others."""
    parts = tuple(part for message in messages for part in message.parts)
    return tuple(part for part in parts if part.type != WORDS) or parts


def probe(
    subject: Subject, samples: Sequence[Sample], label: str, *, kind: str | None = None, seed: int = 0
) -> Probing:
    """Probe the first part of each question, or its first of a `kind`, for a label in `meta`. Rows with the same media, or the same
    words without any, stand in one half. Raises ConfigError, RowError."""
    if len(samples) < FEWEST_ROWS:
        raise ConfigError(f"got {len(samples)} rows; expected at least {FEWEST_ROWS}, half of them to learn from")
    classes, labels = np.unique([label_of(sample, label) for sample in samples], return_inverse=True)
    parts = [Probed.of(subject, sample, kind) for sample in samples]
    rng = np.random.default_rng([seed, 64])
    learns = halves([one.media for one in parts], rng)
    if len(set(labels[learns])) < 2 or learns.all():
        raise ConfigError(
            f"got {len(classes)} labels meta.{label} of {len(samples)} rows; expected more of both, to learn from one half"
        )
    majority = float((labels[~learns] == np.bincount(labels[learns]).argmax()).mean())
    shuffled = rng.permutation(labels)
    layers = []
    for features in mean_states(subject, parts):
        subject.check()
        _, accuracy, penalty = right(features, labels, learns)
        by_heart, control, _ = right(features, shuffled, learns, (penalty,))
        layers.append(LayerProbe(accuracy, control, by_heart))
    kinds = ", ".join(sorted({one.kind for one in parts}))
    return Probing(label, kinds, len(classes), int(learns.sum()), int((~learns).sum()), majority, tuple(layers))


def halves(media: Sequence[tuple[Part, ...]], rng: np.random.Generator) -> np.ndarray:
    """[n] which rows a probe learns from, about half of them: all or none of those with the same media."""
    keys = [
        tuple((part.type, part.value if isinstance(part.value, str) else number) for part in of_row)
        for number, of_row in enumerate(media)
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    chosen = rng.permutation(len(numbers)) < len(numbers) / 2
    learns: np.ndarray = chosen[[numbers[key] for key in keys]]
    return learns


def mean_states(subject: Subject, parts: Sequence[Probed]) -> np.ndarray:
    """[layers + 1, n, D] means of the parts' hidden states."""
    network, vocabulary = subject.inside(), subject.engine.model.vocabulary
    of_batches: list[np.ndarray] = []
    first = 0
    while first < len(parts):
        subject.check()
        longest, last = 0, first
        while last < len(parts) and max(longest, len(parts[last].row)) * (last - first + 1) <= TOKENS_A_BATCH:
            longest, last = max(longest, len(parts[last].row)), last + 1
        last = max(last, first + 1)
        together = parts[first:last]
        longest = max(len(one.row) for one in together)
        batch = collate([[one.row] for one in together], longest, vocabulary).to(network.device)
        states = after_layers(network, batch)
        index = [torch.from_numpy(number * longest + one.tokens) for number, one in enumerate(together)]
        means = [
            torch.stack([state[of_part.to(state.device)].float().mean(dim=0) for of_part in index]) for state in states
        ]
        of_batches.append(torch.stack(means).cpu().numpy())
        first = last
    return np.concatenate(of_batches, axis=1)


def right(
    features: np.ndarray, labels: np.ndarray, learns: np.ndarray, penalties: Sequence[float] = PENALTIES
) -> tuple[float, float, float]:
    """The shares of rows of which a probe tells the label from [n, D] features: among those that it learns from, and among the others;
    and which of the penalties it took."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(np.array(penalties))).fit(
        features[learns], labels[learns]
    )
    of_row = classifier.predict(features) == labels
    return float(of_row[learns].mean()), float(of_row[~learns].mean()), float(classifier[-1].alpha_)
