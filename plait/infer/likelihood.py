"""How likely a model finds given answers: classification as likelihood over a list of labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from plait.contract import Block, Message, Part, Sample, Segment
from plait.data.pack import begin_alike, beginning, best_fit, collate
from plait.data.row import Row, lay_out_clean
from plait.heads.categorical import log_softmax
from plait.infer.engine import Engine

ROWS_A_BATCH, TOKENS_A_BATCH = 256, 32_768
LONGEST = 512  # tokens of a question and its answers that are scored in one sequence


Asked = tuple[Message, ...]


def log_likelihoods(engine: Engine, questions: Sequence[Asked], answers: Sequence[Part]) -> np.ndarray:
    """[questions, answers] log-probability of each categorical answer, summed over its tokens and the closing `<end>`."""
    pairs = [(question, answer) for question in questions for answer in answers]
    return pair_log_likelihoods(engine, pairs).reshape(len(questions), len(answers))


def pair_log_likelihoods(engine: Engine, pairs: Sequence[tuple[Asked, Part]]) -> np.ndarray:
    """[pairs] log-probability of each question's own answer, summed over its tokens and the closing `<end>`."""
    return np.array([sum(logs) for logs in _by_token(engine, pairs)])


def token_log_probabilities(
    engine: Engine, questions: Sequence[Asked], answers: Sequence[Part | None]
) -> list[list[tuple[float, tuple[int, int]]]]:
    """For each answer in words its tokens: (log-probability, (first, last + 1) of the characters it writes)."""
    written = [(number, answer) for number, answer in enumerate(answers) if answer is not None and answer.value]
    by_token = _by_token(engine, [(questions[number], answer) for number, answer in written])
    located: list[list[tuple[float, tuple[int, int]]]] = [[] for _ in answers]
    for (number, answer), logs in zip(written, by_token, strict=True):
        modality = engine.encoder.modality(answer.type)
        ids = modality.read(answer).blocks[0].tokens
        ends = [
            len(str(modality.write(Segment(answer.type, (Block((), ids[:k]),))).value)) for k in range(len(ids) + 1)
        ]
        located[number] = list(zip(logs, itertools.pairwise(ends), strict=False))  # the last is that of <end>
    return located


@torch.inference_mode()
def _by_token(engine: Engine, pairs: Sequence[tuple[Asked, Part]]) -> list[list[float]]:
    """Log-probabilities of the tokens of every (question, answer), `<end>` the last. Nothing is drawn, and of a conversation
    only the last answer counts. Answers to one question that follow each other share it in one sequence."""
    logs: list[list[float]] = [[] for _ in pairs]
    for start, rows in _batches(engine, pairs):
        packed = _packed(rows)
        order = [index for sequence in packed for index in sequence.rows]  # rows are numbered as they lie
        batch = collate(
            [[replace(rows[index], shared=sequence.shared) for index in sequence.rows] for sequence in packed],
            max(sequence.length for sequence in packed),
            engine.model.vocabulary,
            [beginning(rows[sequence.rows[0]], sequence.shared) if sequence.shared else None for sequence in packed],
        ).to(engine.model.device)
        hidden = engine.model.hidden(batch)
        target = batch.target.flatten()
        at = (target >= 0).nonzero().flatten()
        scores = log_softmax(engine.model.logits(hidden[at])).gather(1, target[at, None])[:, 0].tolist()
        for row, score in zip(batch.row.flatten()[at].tolist(), scores, strict=True):
            logs[start + order[row]].append(score)
    return logs


def _batches(engine: Engine, pairs: Sequence[tuple[Asked, Part]]) -> Iterator[tuple[int, list[Row]]]:
    """Rows of the pairs, as many at once as bounds of rows and tokens let, with the number of the first."""
    rows: list[Row] = []
    for number, (question, answer) in enumerate(pairs):
        row = lay_out_clean(engine.encoder.scored(Sample(engine.in_words(tuple(question))), answer))
        if rows and (len(rows) == ROWS_A_BATCH or sum(map(len, rows)) + len(row) > TOKENS_A_BATCH):
            yield number - len(rows), rows
            rows = []
        rows.append(row)
    if rows:
        yield len(pairs) - len(rows), rows


@dataclass
class Packed:
    """Numbers of the rows of one sequence, how many tokens all begin with alike and hold once, and its length."""

    rows: list[int]
    shared: int
    length: int


def _packed(rows: Sequence[Row]) -> list[Packed]:
    """Rows that follow each other with the same question in one sequence, as long as it has room; the others side by side."""
    groups: list[Packed] = []
    for number, row in enumerate(rows):
        question, last = _question(row), groups[-1] if groups else None
        first = rows[last.rows[0]] if last else row
        if last and 0 < question == _question(first) and begin_alike(first, row, question):
            longer = last.length + len(row) - question
            if longer <= LONGEST:
                last.rows.append(number)
                last.shared, last.length = question, longer
                continue
        groups.append(Packed([number], 0, len(row)))
    sharing, alone = [group for group in groups if group.shared], [group for group in groups if not group.shared]
    longest = max(group.length for group in groups)
    bins, left = best_fit([group.length for group in alone], len(alone), longest)
    assert not left, "every row has a sequence of its own to fall back on"
    side_by_side = [
        Packed([alone[i].rows[0] for i in chosen], 0, sum(alone[i].length for i in chosen)) for chosen in bins if chosen
    ]
    return sharing + side_by_side


def _question(row: Row) -> int:
    """How many tokens come before the first that predicts a token of the answer."""
    return int(np.argmax(row.target >= 0))
