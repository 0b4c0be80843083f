"""Aligns the features of frozen encoders with words, before or while a language model learns to read them.

`ctc`: the features of a sound, in order, spell the answer (connectionist temporal classification, Graves et al., 2006).
Parts of the features are hidden meanwhile (plait.data.hidden).
`match`: the mean of a picture's features is nearer to the mean of its own answer's words than to those of other answers, both
the batch's and those of the data (contrastive, Radford et al., 2021; a few pictures a step would not tell many names apart).
It compares directions, centred on the mean of the table, which itself stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import WORDS, Sample
from plait.data.asked import is_finder
from plait.data.letters import BLANK
from plait.data.pack import Batch
from plait.data.row import Alignment
from plait.data.sequence import CTC, FIND, MATCH
from plait.data.vocabulary import Vocabulary
from plait.model.finder import Finder, letters_of
from plait.model.init import generator_of
from plait.model.lexicon import words_in
from plait.model.memory import Answer, Directions
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import Pretrain

OTHERS = 4096  # answers that do not occur in a batch and are told from those that do
REMEMBERED = 16_384  # answers that the memory of a reader takes from the data
SHARPNESS = 32.0  # of a cosine, as a logit


class Align:
    """Alignment losses, each a group of its own: beside those of `Pretrain`, or `alone`.

    `tasks` are those that are aligned, and how; `others`: answers by task that `match` tells from a row's own, beside those of its
    batch.
    """

    def __init__(
        self, alone: bool, tasks: Collection[str], others: Mapping[str, Sequence[Answer]] | None = None
    ) -> None:
        self.alone, self.tasks = alone, frozenset(tasks)
        self.finds = isinstance(tasks, Mapping) and FIND in tasks.values()
        self.others = dict(others or {})
        self.pretrain = Pretrain()

    def learns_from(self, sample: Sample) -> bool:
        """Alone: where its task is aligned."""
        return not self.alone or sample.task in self.tasks

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Those of pretraining, then the two alignments."""
        return (*(() if self.alone else self.pretrain.groups(model)), CTC, MATCH, FIND)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Letters to spell, and rows to match."""
        spelled = sum(len(own.answer) for own in batch.alignment.values() if own.how == CTC)
        matched = sum(own.how == MATCH for own in batch.alignment.values())
        letters = sum(len(text) + 1 for _, of_media in self._to_find(batch) for _, text in of_media)
        return {**self.pretrain.counts(batch), CTC: float(spelled), MATCH: float(matched), FIND: float(letters)}

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        losses = {} if self.alone else dict(self.pretrain.sums(model, batch))
        zero = sum((p.sum() * 0.0 for p in learners(model)), torch.zeros((), device=model.device))
        return losses | {
            CTC: self._spelling(model, batch) + zero,
            MATCH: self._matching(model, batch) + zero,
            FIND: self._finding(model, batch) + zero,
        }

    def _spelling(self, model: MultimodalTransformer, batch: Batch) -> Tensor:
        answers = {row: own.answer for row, own in batch.alignment.items() if own.how == CTC}
        losses = torch.zeros((), device=model.device)
        for reader in (reader for reader in model.vocabulary.readers.values() if reader.letters):
            inputs, rows = given_in(model, batch, reader.name, answers)
            if len(rows):
                numbers, counts = torch.unique_consecutive(rows, return_counts=True)
                logits = model.spellers[reader.name](inputs, counts)
                targets = [torch.from_numpy(answers[row]) for row in numbers.tolist()]
                losses = losses + ctc(logits, counts * reader.letters, targets)
        return losses

    def _to_find(self, batch: Batch) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
        """What each finder should write: the number of a medium among those that it reads, and the answer; nothing, of questions
        that are matched."""
        for name in filter(is_finder, batch.clean if self.finds else ()):
            tokens = batch.clean[name]
            begins = (tokens.coordinates[:, 0] == 0).nonzero().flatten()
            rows = batch.row.flatten()[tokens.index[begins]].tolist()
            known = [(number, own) for number, row in enumerate(rows) if (own := batch.alignment.get(row)) is not None]
            yield name, [(n, own.answer.astype(np.uint8).tobytes() if own.how == FIND else b"") for n, own in known]

    def _finding(self, model: MultimodalTransformer, batch: Batch) -> Tensor:
        """Of letters of what is to be found, and of its end."""
        losses = torch.zeros((), device=model.device)
        for name, of_media in self._to_find(batch):
            finder = model.finders[name]
            assert isinstance(finder, Finder)
            if of_media:
                media = model.media_of(batch.clean[name], name)[[number for number, _ in of_media]]
                letters = letters_of([text for _, text in of_media], model.device)
                losses = losses + finder.loss(media, model.unit_words(), letters, model.dtype)
        return losses

    def _matching(self, model: MultimodalTransformer, batch: Batch) -> Tensor:
        losses = torch.zeros((), device=model.device)
        for name, task in model.memories:
            answers = {
                row: tuple(map(int, own.answer))
                for row, own in batch.alignment.items()
                if own.how == MATCH and own.task == task
            }
            inputs, rows = given_in(model, batch, name, answers)
            if len(rows):
                pointing = model.pointing(name, task, model.seen_by(name, inputs))
                media = rows.view(len(pointing), -1)[:, 0]
                losses = losses + match(model.directions(), pointing, media, answers, self.others.get(task, ()))
        return losses


def answers_to_match(alignments: Iterable[Alignment | None]) -> dict[str, list[Answer]]:
    """Distinct answers of rows that are matched, by task, at most OTHERS of each, drawn from all."""
    distinct: dict[str, set[Answer]] = {}
    for own in alignments:
        if own is not None and own.how == MATCH:
            distinct.setdefault(own.task, set()).add(tuple(map(int, own.answer)))
    drawn = {}
    for task, answers in distinct.items():
        order = torch.randperm(len(answers), generator=generator_of(0, "alignment.others")).tolist()
        drawn[task] = [sorted(answers)[number] for number in order[:OTHERS]]
    return drawn


def answers_to_remember(
    rows_by_task: Mapping[str, Iterable[Sample]], alignment: Mapping[str, str], vocabulary: Vocabulary
) -> dict[str, dict[str, list[str]]]:
    """Answers in words of the tasks that are matched, by the reader of what their rows show and by task: the most frequent, at
    most REMEMBERED."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for task, how in alignment.items():
        for sample in rows_by_task.get(task, ()) if how == MATCH else ():
            *questions, answer = sample.messages
            if any(message.role == "assistant" for message in questions):
                continue  # several answers: such rows are not aligned
            shown = {part.type for message in questions for part in message.parts}
            words = next((str(part.value) for part in answer.parts if part.type == WORDS), "")
            for name in shown & set(vocabulary.readers):
                reader = vocabulary.readers[name]
                if reader.words and words:
                    counts.setdefault(reader.name, {}).setdefault(task, Counter())[words] += 1
    return {
        reader: {task: [text for text, _ in of.most_common(REMEMBERED)] for task, of in by_task.items()}
        for reader, by_task in counts.items()
    }


def words_to_expect(rows_by_task: Mapping[str, Iterable[Sample]], alignment: Mapping[str, str]) -> dict[str, int]:
    """Words of the answers of aligned tasks and how often each stands in different answers, where sounds are aligned too."""
    if CTC not in alignment.values():
        return {}
    return words_in(
        str(part.value)
        for task in alignment
        for sample in rows_by_task.get(task, ())
        for part in sample.messages[-1].parts
        if part.type == WORDS
    )


def learners(model: MultimodalTransformer) -> list[Tensor]:
    """Weights that an alignment moves."""
    return [parameter for module in (model.askers, model.spellers, model.finders) for parameter in module.parameters()]


def given_in(
    model: MultimodalTransformer, batch: Batch, name: str, rows: Mapping[int, object]
) -> tuple[Tensor, Tensor]:
    """What the reader called `name` gives in the chosen `rows`: [n, width] in the model's dtype, and the row of each; they
    lie in order."""
    tokens = batch.clean.get(name)
    if tokens is None:
        return torch.zeros(0), torch.zeros(0, dtype=torch.long)
    row = batch.row.flatten()[tokens.index]
    keep = torch.isin(row, torch.tensor(sorted(rows), device=row.device)).nonzero().flatten()
    return tokens.inputs[keep].to(model.dtype), row[keep]


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
    table: Directions, pointing: Tensor, media: Tensor, answers: Mapping[int, Answer], others: Sequence[Answer] = ()
) -> Tensor:
    """The sum over rows of the cross-entropy of picking the row's own of the distinct `answers` of the batch and the `others`.
    `pointing` [M, D] are the directions of media, `media` [M] their rows."""
    order = sorted(set(media.tolist()))
    number_of_row = {row: number for number, row in enumerate(order)}
    index = torch.tensor([number_of_row[row] for row in media.tolist()], device=pointing.device)
    sums = torch.zeros(len(order), pointing.shape[1], device=pointing.device).index_add(0, index, pointing)
    right_answers = [answers[row] for row in order]
    distinct = {answer: number for number, answer in enumerate(dict.fromkeys((*right_answers, *others)))}
    logits = SHARPNESS * F.normalize(sums, dim=-1) @ table.means(list(distinct)).T
    return F.cross_entropy(
        logits, torch.tensor([distinct[answer] for answer in right_answers], device=logits.device), reduction="sum"
    )
