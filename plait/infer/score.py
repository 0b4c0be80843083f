"""How likely a model finds given answers: classification as likelihood over a list of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from plait.contract import Message, Part, Sample
from plait.data.pack import best_fit, collate
from plait.data.sequence import Row
from plait.heads.categorical import log_softmax
from plait.infer.engine import Engine

ROWS_A_BATCH = 256


@torch.inference_mode()
def log_likelihoods(engine: Engine, questions: Sequence[tuple[Message, ...]], answers: Sequence[Part]) -> np.ndarray:
    """[questions, answers] log-probability of each categorical answer, summed over its tokens and the closing `<end>`."""
    made = np.zeros((len(questions), len(answers)))
    rng = np.random.default_rng(0)  # nothing is drawn: a categorical answer has no noised copies
    rows: list[tuple[int, int, Row]] = []
    for q, question in enumerate(questions):
        for a, answer in enumerate(answers):
            sample = Sample((*question, Message("assistant", (answer,))))
            rows.append((q, a, engine.encoder.row(sample, rng)))
    for start in range(0, len(rows), ROWS_A_BATCH):
        group = rows[start : start + ROWS_A_BATCH]
        length = max(len(row) for _, _, row in group)
        bins, left = best_fit([len(row) for _, _, row in group], len(group), length)
        if left:
            raise AssertionError("every row has a sequence of its own to fall back on")
        packed = [chosen for chosen in bins if chosen]
        batch = collate([[group[i][2] for i in chosen] for chosen in packed], length, engine.model.vocabulary)
        batch = batch.to(engine.model.device)
        hidden = engine.model.hidden(batch)
        target = batch.target.flatten()
        at = (target >= 0).nonzero().flatten()
        scores = log_softmax(engine.model.categorical(hidden[at])).gather(1, target[at, None])[:, 0].numpy(force=True)
        sequence, row_id = (at // length).tolist(), batch.row.flatten()[at].tolist()
        for s, r, score in zip(sequence, row_id, scores, strict=True):
            q, a, _ = group[packed[s][r]]
            made[q, a] += score
    return made
