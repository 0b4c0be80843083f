"""How well a model does a target with some of what it was given hidden.

Tokens are hidden by the one rule of the mask (plait.data.hidden): the row reads as if they were not there. A piece of a medium that a
reader or a finder reads, or that a token or two stand for, is left out of the medium, which is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from plait import registry
from plait.contract import WORDS, Message, Sample
from plait.data.hidden import HIDDEN
from plait.data.pack import Batch, collate
from plait.data.row import FlowBlock, Ids, Row
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import ConfigError, RowError
from plait.explain.units import Unit, tokens_of, units_of, with_part, words_taken_out
from plait.infer.engine import Engine
from plait.model.multimodal import MultimodalTransformer

COPIES = 8  # noised ones of a block, whose losses are averaged
TOKENS_A_BATCH = 8192
KEPT_ROWS = 256  # of media that were read without pieces


@dataclass(frozen=True)
class Target:
    """What is explained: tokens `first` to `last` (the end if None) of the `part` of an answer, counted over its blocks."""

    part: int = 0
    first: int = 0
    last: int | None = None


class Scorer:
    """The score of a target, of an `answer` to messages: the sum of the log-probabilities of its words, or minus the mean flow loss of
    its tokens under noise that is drawn once. `units` are what can be hidden; the token from which the model goes on to the target is none
    of them, since it cannot be hidden from itself.

    Raises ConfigError for a target that the answer does not have, RowError for what cannot be read.
    """

    def __init__(
        self, engine: Engine, messages: Sequence[Message], answer: Message, target: Target = Target(), seed: int = 0,
        flow: FlowConfig | None = None,
    ) -> None:  # fmt: skip
        self.engine, self.target, self.seed = engine, target, seed
        self.messages, self.answer = tuple(engine.in_words(tuple(messages))), answer
        self.check: Callable[[], object] = lambda: None  # called between two batches; what it raises ends the work
        if not 0 <= target.part < len(answer.parts):
            raise ConfigError(f"got part {target.part} of an answer of {len(answer.parts)}; expected one of them")
        settings = {"copies": COPIES, "null_prob": 0.0, "context_noise_prob": 0.0, "end_prob": 1.0, "mask_prob": 0.0}
        self.vocabulary = engine.model.vocabulary
        self.encoder = Encoder(
            self.vocabulary,
            (flow or FlowConfig()).model_copy(update=settings),
            features=engine.encoder.features,
        )
        self.kind = answer.parts[target.part].type
        self.is_categorical = self.vocabulary.modalities[self.kind].head == "categorical"
        self._rows: dict[frozenset[tuple[int, int, int]], Row] = {}
        self.row = self._row(frozenset())
        self.chosen = self._chosen()
        self.units = self._units()
        if not self.units:
            raise ConfigError("nothing was given that could be hidden; expected a question with words or media")

    def _row(self, missing: frozenset[tuple[int, int, int]]) -> Row:
        """The row of the target without pieces (message, part, piece)."""
        if missing not in self._rows:
            if len(self._rows) > KEPT_ROWS:
                self._rows.clear()
            messages = self.messages
            for number, place in {(number, place) for number, place, _ in missing}:
                part = messages[number].parts[place]
                regions = registry.regions(part.type)
                assert regions is not None
                pieces = {piece for n, p, piece in missing if (n, p) == (number, place)}
                bare = regions.without(self.encoder.modality(part.type), part, pieces)
                messages = with_part(messages, number, place, bare)
            self._rows[missing] = self._laid_out(messages)
        return self._rows[missing]

    def _laid_out(self, messages: Sequence[Message]) -> Row:
        last, part = len(messages), self.target.part
        sample = Sample((*messages, self.answer))
        elements = self.encoder.elements(sample, np.random.default_rng(self.seed))
        for element in elements:
            is_target = (element.origin.message, element.origin.part) == (last, part)
            element.learned = is_target and isinstance(element, Ids if self.is_categorical else FlowBlock)
        ends = max((number for number, element in enumerate(elements) if element.learned), default=-1)
        if ends < 0:
            raise RowError(f"got an answer whose part {part} is empty; expected something to explain")
        return self.encoder.lay_out(elements[: ends + 1], np.random.default_rng([self.seed, 61]))

    @property
    def token_numbers(self) -> np.ndarray:
        """[n] number of the answer's token that each loss of the row belongs to, in the order of the losses."""
        if self.is_categorical:
            return np.arange(int((self.row.target >= 0).sum()))
        numbers, first, passed = [], 0, 0
        of_answer = (len(self.messages), self.target.part)
        for span in self.row.spans:
            if (span.origin.message, span.origin.part) == of_answer and self.row.ids[span.first] < 0:
                if span.copy == 1:
                    first, passed = passed, passed + span.count
                if span.copy > 0:
                    numbers.append(np.arange(first, first + span.count))
        return np.concatenate(numbers)

    def _chosen(self) -> np.ndarray:
        """[n] which losses of the row count."""
        counts = self.token_numbers
        first, last = self.target.first, int(counts.max()) + 1 if self.target.last is None else self.target.last
        if not 0 <= first < last <= counts.max() + 1:
            raise ConfigError(
                f"got tokens {first} to {last} of an answer of {counts.max() + 1}; expected some of them, the last one not included"
            )
        chosen: np.ndarray = (counts >= first) & (counts < last)
        return chosen

    def _units(self) -> list[Unit]:
        """What stands in blocks before the target's first."""
        if self.is_categorical:
            asking = int(np.flatnonzero(self.row.target >= 0)[self.chosen][0])
            block = int(self.row.block[asking]) + 1
        else:
            asking = -1
            block = int(self.row.block[self.row.noised[self.kind].index[self.chosen]].min())
        is_read = self.encoder.features is not None
        units = units_of(self.row, (*self.messages, self.answer), self.vocabulary, block, is_read)
        return [unit for unit in units if asking not in unit.tokens]

    @property
    def tokens(self) -> int:
        """Tokens of the whole part of the answer, if it is the target."""
        return int(self.token_numbers.max()) + 1

    @property
    def none_hidden(self) -> np.ndarray:
        """[units] all False."""
        return np.zeros(len(self.units), bool)

    def row_without(self, hidden: np.ndarray) -> Row:
        """The row in which the units [units] that are `hidden` cannot be seen. A medium all of whose pieces are hidden is hidden by its
        tokens: an empty one would still be one. A finder looks for what is asked in the words that are left."""
        missing = [unit for unit, is_hidden in zip(self.units, hidden, strict=True) if is_hidden]
        kept = {(unit.message, unit.part) for unit, gone in zip(self.units, hidden, strict=True) if not gone}
        whole = {(unit.message, unit.part) for unit in missing if unit.piece >= 0} - kept
        pieces = [unit for unit in missing if unit.piece >= 0 and (unit.message, unit.part) not in whole]
        row = self._row(frozenset((unit.message, unit.part, unit.piece) for unit in pieces))
        if self.vocabulary.finders and any(unit.kind == WORDS for unit in missing):
            row = self._searched_anew(row, missing)
        tokens = [token for unit in missing for token in unit.tokens]
        for message, part in whole:
            of_part = tokens_of(row, message, part)
            tokens += of_part[row.ids[of_part] < 0].tolist()
        if not tokens:
            return row
        copy = row.copy.copy()
        copy[tokens] = HIDDEN
        return replace(row, copy=copy)

    def _searched_anew(self, row: Row, missing: Sequence[Unit]) -> Row:
        """The row whose finders read the question without some words."""
        asked = self._laid_out(words_taken_out(self.messages, missing, self.vocabulary))
        names = [layout.name for layout in self.vocabulary.finders.values() if layout.name in row.clean]
        clean = {name: replace(row.clean[name], inputs=asked.clean[name].inputs) for name in names}
        return replace(row, clean=row.clean | clean)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """A sequence a row."""
        longest = max(map(len, rows))
        return collate([[row] for row in rows], longest, self.vocabulary).to(self.engine.model.device)

    def scores(self, hidden: np.ndarray) -> np.ndarray:
        """[n] scores with the units [n, units] hidden. Rows that are alike are asked once."""
        distinct, inverse = np.unique(hidden, axis=0, return_inverse=True)
        at_once = max(1, TOKENS_A_BATCH // len(self.row))
        of_distinct = []
        for first in range(0, len(distinct), at_once):
            self.check()
            rows = [self.row_without(one) for one in distinct[first : first + at_once]]
            of_distinct.append(self.scores_by(self.engine.model, self.batch(rows)))
        scores: np.ndarray = np.concatenate(of_distinct)[inverse.reshape(-1)]
        return scores

    @torch.inference_mode()
    def scores_by(self, network: MultimodalTransformer, batch: Batch) -> np.ndarray:
        """[B] scores of a batch of rows, one a sequence, by a model."""
        losses = network.token_losses(batch)
        of_target = losses["" if self.is_categorical else self.kind].loss.float().view(len(batch.row), -1)
        chosen = of_target[:, torch.from_numpy(self.chosen).to(of_target.device)]
        score = -(chosen.sum(dim=1) if self.is_categorical else chosen.mean(dim=1))
        return score.cpu().numpy()


def flow_of(config: Mapping[str, object]) -> FlowConfig:
    """The flow settings that a checkpoint with this configuration was trained with."""
    recipe = config.get("recipe")
    flow = recipe.get("flow", {}) if isinstance(recipe, Mapping) else {}
    return FlowConfig(**flow)
