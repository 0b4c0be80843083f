"""Aligns the features of frozen encoders with words, before or while a language model learns to read them.

`ctc`: the features of a sound, in order, spell the answer (connectionist temporal classification, Graves et al., 2006).
Parts of the features are hidden meanwhile, as in SpecAugment (Park et al., 2019).
`match`: the mean of a picture's features is nearer to the mean of its own answer's words than to those of other answers, both
the batch's and those of the data (contrastive, Radford et al., 2021; a few pictures a step would not tell many names apart).
It compares directions, centred on the mean of the table, which itself stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import WORDS, Sample
from plait.data.letters import BLANK
from plait.data.pack import Batch, FlowTokens
from plait.data.sequence import CTC, MATCH
from plait.data.vocabulary import Vocabulary
from plait.model.init import generator_of
from plait.model.memory import Answer, Directions, directions
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import Pretrain

OTHERS = 4096  # answers that do not occur in a batch and are told from those that do
REMEMBERED = 16_384  # answers that the memory of a reader takes from the data
SHARPNESS = 32.0  # of a cosine, as a logit
HOLES, HOLE = 2, 4  # most holes of a sound, and most features in each
BANDS, BAND = 1, (0.05, 0.2)  # most bands that a sound lacks, and the share of a frame in each
NOISE = 0.1  # most noise, in units of the features' deviation


class Align:
    """Alignment losses, each a group of its own: beside those of `Pretrain`, or `alone`.

    `tasks` are those that are aligned; `others`: answers that `match` tells from a row's own, beside those of its batch.
    """

    def __init__(self, alone: bool, tasks: Collection[str], others: Sequence[Answer] = ()) -> None:
        self.alone, self.tasks = alone, frozenset(tasks)
        self.others = tuple(others)
        self.pretrain = Pretrain()

    def learns_from(self, sample: Sample) -> bool:
        """Alone: where its task is aligned."""
        return not self.alone or sample.task in self.tasks

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Those of pretraining, then the two alignments."""
        return (*(() if self.alone else self.pretrain.groups(model)), CTC, MATCH)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Letters to spell, and rows to match."""
        spelled = sum(len(ids) for _, how, ids in batch.alignment if how == CTC)
        matched = sum(how == MATCH for _, how, _ in batch.alignment)
        return {**self.pretrain.counts(batch), CTC: float(spelled), MATCH: float(matched)}

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        losses = {} if self.alone else dict(self.pretrain.sums(model, batch))
        zero = sum((p.sum() * 0.0 for p in learners(model)), torch.zeros((), device=model.device))
        return losses | {CTC: self._spelling(model, batch) + zero, MATCH: self._matching(model, batch) + zero}

    def _spelling(self, model: MultimodalTransformer, batch: Batch) -> Tensor:
        answers = {row: letters for row, how, letters in batch.alignment if how == CTC}
        losses = torch.zeros((), device=model.device)
        for reader in (reader for reader in model.vocabulary.readers.values() if reader.letters):
            inputs, _, rows = given_in(model, batch, reader.name, answers)
            if len(rows):
                numbers, counts = torch.unique_consecutive(rows, return_counts=True)
                logits = model.spellers[reader.name](hidden_in_part(inputs, counts, reader.letters), counts)
                targets = [torch.from_numpy(answers[row]) for row in numbers.tolist()]
                losses = losses + ctc(logits, counts * reader.letters, targets)
        return losses

    def _matching(self, model: MultimodalTransformer, batch: Batch) -> Tensor:
        answers = {row: ids for row, how, ids in batch.alignment if how == MATCH}
        vectors, numbers = [], []
        for name, projector in projectors(model).items():
            inputs, tokens, rows = given_in(model, batch, name, answers)
            if len(rows):
                vectors.append(projector(inputs, tokens.coordinates, tokens.time).float())
                numbers.append(rows)
        if not numbers:
            return torch.zeros((), device=model.device)
        return match(model.directions(), torch.cat(vectors), torch.cat(numbers), answers, self.others)


def answers_to_match(alignments: Iterable[tuple[str, np.ndarray] | None]) -> list[Answer]:
    """Distinct answers of rows that are matched, at most OTHERS of them, drawn from all."""
    distinct = sorted({tuple(map(int, ids)) for how, ids in filter(None, alignments) if how == MATCH})
    order = torch.randperm(len(distinct), generator=generator_of(0, "alignment.others")).tolist()
    return [distinct[number] for number in order[:OTHERS]]


def answers_to_remember(
    rows_by_task: Mapping[str, Iterable[Sample]], alignment: Mapping[str, str], vocabulary: Vocabulary
) -> dict[str, list[str]]:
    """Answers in words of the tasks that are matched, by the reader of what their rows show: the most frequent, at most
    REMEMBERED a reader."""
    counts: dict[str, Counter[str]] = {}
    for task, how in alignment.items():
        for sample in rows_by_task.get(task, ()) if how == MATCH else ():
            *questions, answer = sample.messages
            shown = {part.type for message in questions for part in message.parts}
            words = next((str(part.value) for part in answer.parts if part.type == WORDS), "")
            for name in shown & set(vocabulary.readers):
                reader = vocabulary.readers[name]
                if reader.words and words:
                    counts.setdefault(reader.name, Counter())[words] += 1
    return {reader: [text for text, _ in of.most_common(REMEMBERED)] for reader, of in counts.items()}


def projectors(model: MultimodalTransformer) -> dict[str, torch.nn.Module]:
    """The projectors of a model's readers, by name."""
    return {reader.name: model.embedders[reader.name] for reader in model.vocabulary.readers.values()}


def learners(model: MultimodalTransformer) -> list[Tensor]:
    """Weights that an alignment moves."""
    modules = (*projectors(model).values(), *model.spellers.values())
    return [parameter for module in modules for parameter in module.parameters()]


def given_in(
    model: MultimodalTransformer, batch: Batch, name: str, rows: Mapping[int, object]
) -> tuple[Tensor, FlowTokens, Tensor]:
    """What the reader called `name` gives in the chosen `rows`: inputs [n, width] in the model's dtype, their tokens, and
    the row of each, in order; a row's lie side by side."""
    tokens = batch.clean.get(name)
    if tokens is None:
        nothing = torch.zeros(0, dtype=torch.long)
        return nothing, FlowTokens(nothing, nothing, nothing, nothing, nothing), nothing
    row = batch.row.flatten()[tokens.index]
    keep = torch.isin(row, torch.tensor(sorted(rows), device=row.device)).nonzero().flatten()
    chosen = FlowTokens(*(getattr(tokens, field.name)[keep] for field in fields(tokens)))
    return chosen.inputs.to(model.dtype), chosen, row[keep]


@torch.no_grad()
def hidden_in_part(features: Tensor, counts: Tensor, frames: int) -> Tensor:
    """[N, width] features of sounds with `counts` features each -> the same in noise, without some stretches of time and some
    bands of every one of `frames` frames a feature. What is hidden depends on the features alone."""
    drawn = torch.Generator().manual_seed(
        int(features[:: max(1, len(features) // 64)].float().abs().sum() * 256) % 2**31
    )

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=drawn).to(features.device)

    sounds, width = len(counts), features.shape[1] // frames
    sound = torch.repeat_interleave(torch.arange(sounds, device=features.device), counts)
    place = torch.arange(len(features), device=features.device) - (counts.cumsum(0) - counts)[sound]
    hidden = torch.zeros_like(sound, dtype=torch.bool)
    for _ in range(HOLES):
        first, length = uniform(sounds) * counts, (uniform(sounds) * (HOLE + 1)).floor() * (uniform(sounds) < 2 / 3)
        hidden |= (place >= first[sound].floor()) & (place < (first.floor() + length)[sound])
    channel = torch.arange(width, device=features.device)
    lacking = torch.zeros(sounds, width, dtype=torch.bool, device=features.device)
    for _ in range(BANDS):
        first, share = uniform(sounds, 1), BAND[0] + (BAND[1] - BAND[0]) * uniform(sounds, 1)
        is_lacking = uniform(sounds, 1) < 0.5
        lacking |= is_lacking & (channel >= first * width) & (channel < (first + share) * width)
    amount = NOISE * uniform(sounds)[sound] * features.float().std()
    noise = torch.randn(features.shape, generator=drawn).to(features.device)
    noisy = features + (amount[:, None] * noise).to(features.dtype)
    return noisy.masked_fill(hidden[:, None] | lacking.repeat(1, frames)[sound], 0.0)


def ctc(logits: Tensor, slots: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """[B, T, classes] logits, [B] slots of each sound, classes to spell -> the sum of CTC losses. A sound with too few slots
    gives zero."""
    return F.ctc_loss(
        logits.log_softmax(dim=-1).transpose(0, 1),
        torch.cat(list(targets)).to(logits.device),
        slots,
        torch.tensor([len(target) for target in targets], device=logits.device),
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def match(
    table: Directions,
    vectors: Tensor,
    numbers: Tensor,
    rows: Mapping[int, object],
    others: Sequence[Answer] = (),
) -> Tensor:
    """The sum over rows of the cross-entropy of picking the row's own answer among the distinct ones of the batch and
    the `others`."""
    order = sorted(set(numbers.tolist()))
    number_of_row = {row: number for number, row in enumerate(order)}
    index = torch.tensor([number_of_row[row] for row in numbers.tolist()], device=vectors.device)
    sums = torch.zeros(len(order), vectors.shape[1], device=vectors.device).index_add(
        0, index, directions(vectors, table.centre)
    )
    own: list[Answer] = [tuple(map(int, rows[row])) for row in order]  # type: ignore[call-overload]
    distinct = {answer: number for number, answer in enumerate(dict.fromkeys((*own, *others)))}
    logits = SHARPNESS * F.normalize(sums, dim=-1) @ table.means(list(distinct)).T
    return F.cross_entropy(
        logits, torch.tensor([distinct[answer] for answer in own], device=logits.device), reduction="sum"
    )
