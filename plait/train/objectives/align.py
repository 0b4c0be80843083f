"""Aligns the features of frozen encoders with the embeddings of words, before or while a language model learns to read them.

`ctc`: the features of a sound, in order, spell the answer (connectionist temporal classification, Graves et al., 2006).
`match`: the mean of a picture's features is nearer to the mean of its own answer's words than to those of other answers, both
the batch's and those of the data (contrastive, Radford et al., 2021; a few pictures a step would not tell many names apart).
Both compare directions, centred on the mean of the table, which itself stays as it is. Nothing is learned but the projectors:
the blank is a fixed direction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import WORDS, Sample
from plait.data.pack import Batch
from plait.data.vocabulary import Vocabulary
from plait.model.init import generator_of
from plait.model.layers import product
from plait.model.memory import Answer, Directions, directions
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import Pretrain

CTC, MATCH = "ctc", "match"
OTHERS = 4096  # ids, or answers, that do not occur in a batch and are told from those that do
REMEMBERED = 16_384  # answers that the memory of a reader takes from the data
LEAST = 1e-12  # probability of all other ids together
SHARPNESS = {CTC: 24.0, MATCH: 32.0}  # of a cosine, as a logit


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
        """Ids to spell, and rows to match."""
        spelled = sum(len(ids) for _, how, ids in batch.alignment if how == CTC)
        matched = sum(how == MATCH for _, how, _ in batch.alignment)
        return {**self.pretrain.counts(batch), CTC: float(spelled), MATCH: float(matched)}

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        losses = {} if self.alone else dict(self.pretrain.sums(model, batch))
        zero = sum(
            (p.sum() * 0.0 for e in projectors(model).values() for p in e.parameters()),
            torch.zeros((), device=model.device),
        )
        return losses | {how: self._sum(model, batch, how) + zero for how in (CTC, MATCH)}

    def _sum(self, model: MultimodalTransformer, batch: Batch, how: str) -> Tensor:
        rows = {row: ids for row, kind, ids in batch.alignment if kind == how}
        projected = features_of(model, batch, rows)
        if not projected:
            return torch.zeros((), device=model.device)
        numbers = torch.cat([n for _, n in projected])
        by_row = numbers.argsort(stable=True)
        vectors, numbers = torch.cat([v for v, _ in projected])[by_row], numbers[by_row]
        table = model.directions()
        if how == CTC:
            return ctc(table, vectors, numbers, rows)
        return match(table, vectors, numbers, rows, self.others)


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


def features_of(model: MultimodalTransformer, batch: Batch, rows: Mapping[int, object]) -> list[tuple[Tensor, Tensor]]:
    """Projected features [n, D] of the chosen `rows`, and the row of each, reader by reader; a row's lie in order."""
    projected = []
    chosen = torch.tensor(sorted(rows), device=model.device)
    for name, projector in projectors(model).items():
        tokens = batch.clean.get(name)
        if tokens is None or not len(chosen):
            continue
        row = batch.row.flatten()[tokens.index]
        keep = torch.isin(row, chosen).nonzero().flatten()
        if len(keep):
            inputs = tokens.inputs[keep].to(model.dtype)
            projected.append((projector(inputs, tokens.coordinates[keep], tokens.time[keep]).float(), row[keep]))
    return projected


def ctc(table: Directions, vectors: Tensor, numbers: Tensor, rows: Mapping[int, object]) -> Tensor:
    """The sum of CTC losses, over the ids that occur and OTHERS drawn from the table, so that `The` is told from `the`.

    Each row's own ids, the blank and all others as one are its classes: the loss and its gradient are those of the whole
    table, and the recursion over time sees tens of classes instead of thousands. A row with too few features for its ids
    gives zero.
    """
    device = vectors.device
    order = sorted(set(numbers.tolist()))
    targets = [torch.as_tensor(rows[row], device=device) for row in order]
    occurring, places = torch.unique(torch.cat(targets), return_inverse=True)
    blank = torch.randn(vectors.shape[1], generator=generator_of(0, "alignment.blank")).to(device)
    drawn = torch.Generator().manual_seed(int(occurring.sum()))
    size = len(table.weight)
    others = torch.randint(size, (min(OTHERS, size // 4),), generator=drawn).to(device)
    others = others[~torch.isin(others, occurring)]
    known = torch.cat((F.normalize(blank, dim=0)[None], table[torch.cat((occurring, others))]))
    logits = SHARPNESS[CTC] * product(directions(vectors, table.centre).to(table.dtype), known).float()
    lengths = torch.bincount(numbers)[torch.tensor(order, device=device)]
    own_ids = [
        torch.unique(target, return_inverse=True) for target in torch.split(places + 1, [len(t) for t in targets])
    ]
    classes = torch.nn.utils.rnn.pad_sequence(
        [ids for ids, _ in own_ids], batch_first=True
    )  # [R, U], 0 where there are fewer
    of_feature = torch.repeat_interleave(torch.arange(len(order), device=device), lengths)
    is_class = classes[of_feature] > 0
    whole = logits.logsumexp(dim=-1, keepdim=True)
    chosen = (logits.gather(1, classes[of_feature]) - whole).masked_fill(~is_class, -torch.inf)
    with_blank = torch.cat((logits[:, :1] - whole, chosen), dim=1)
    rest = (1.0 - with_blank.exp().sum(dim=-1, keepdim=True)).clamp_min(LEAST).log()
    logs = torch.cat((with_blank.masked_fill(with_blank.isinf(), math.log(LEAST)), rest), dim=1)
    losses = F.ctc_loss(
        torch.nn.utils.rnn.pad_sequence(list(torch.split_with_sizes(logs, lengths.tolist()))),
        torch.cat([inverse + 1 for _, inverse in own_ids]),
        lengths,
        torch.tensor([len(target) for target in targets], device=device),
        reduction="none",
        zero_infinity=True,
    )
    return losses.sum()


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
    logits = SHARPNESS[MATCH] * F.normalize(sums, dim=-1) @ table.means(list(distinct)).T
    return F.cross_entropy(
        logits, torch.tensor([distinct[answer] for answer in own], device=logits.device), reduction="sum"
    )
