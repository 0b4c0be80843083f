"""What is drawn from a head's prediction: an id from logits, a velocity from clean tokens. For many requests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from plait.model.multimodal import MultimodalTransformer

FEW = 2048  # ids: so few are computed by themselves, not with all others
LIKELY = 256  # ids that are sorted first


def legal_logits(model: MultimodalTransformer, hidden: Tensor, legal: Sequence[np.ndarray]) -> Tensor:
    """[R, D] hidden states -> [R, V] logits; of a state with few `legal` ids only theirs, and -inf for most others."""
    few = [row for row, ids in enumerate(legal) if len(ids) <= FEW]
    if not few:
        return model.logits(hidden)
    ids = torch.from_numpy(np.unique(np.concatenate([legal[row] for row in few]))).to(hidden.device)
    rows = torch.tensor(few, device=hidden.device)
    logits = hidden.new_full((len(hidden), model.vocabulary.size), -torch.inf, dtype=torch.float32)
    logits[rows[:, None], ids] = model.logits(hidden[rows], ids)
    if many := sorted({*range(len(legal))} - {*few}):
        logits[many] = model.logits(hidden[many])
    return logits


def sample_ids(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """[R] choices among the [R, V] `logits` that are legal; temperature 0 takes the best.

    `uniform` [R] in [0, 1) is each request's own chance: an id is where it falls in the cumulative probabilities, likeliest
    first, of those that hold `top_p` of them (Holtzman et al., 2020). Where numbers are not finite, the choice means nothing.
    """
    best = logits.max(dim=-1)
    chosen, is_drawn = best.indices.cpu(), best.values.isfinite().cpu() & (temperature.cpu() > 0)
    for row in is_drawn.nonzero().flatten().tolist():
        scaled = logits[row].cpu().double()  # which not every device has
        shares = torch.softmax(scaled / max(float(temperature[row]), 1e-6), dim=-1)
        chosen[row] = _drawn(shares, float(top_p[row]), float(uniform[row]))
    return chosen.to(logits.device)


def _drawn(shares: Tensor, top_p: float, uniform: float, count: int = LIKELY) -> int:
    """The id that a chance falls on, by the [V] `shares` of all.

    The `count` likeliest are sorted alone, which is mostly enough; of equals the first comes first."""
    is_all = count >= len(shares)
    least = shares.topk(min(count, len(shares))).values[-1]
    ids = (shares >= least).nonzero().flatten()
    likeliest, order = shares[ids].sort(dim=0, descending=True, stable=True)
    cumulative = likeliest.cumsum(dim=0)
    kept = int((cumulative - likeliest < top_p).sum())  # the likeliest always
    is_known = is_all or kept < len(ids)  # how much those hold that are kept
    aim = uniform * (float(cumulative[kept - 1]) if is_known else 1.0)
    if not is_all and (aim >= cumulative[-1] or (not is_known and top_p < 1.0)):
        return _drawn(shares, top_p, uniform, len(shares))
    return int(ids[order[min(int(torch.searchsorted(cumulative, aim, right=True)), kept - 1)]])


def middle(logits: Tensor, ids: Tensor) -> int:
    """The id, among `ids` in their order, at which half of the likelihood by [V] `logits` is reached: their median."""
    before = torch.softmax(logits[ids].double().cpu(), dim=-1).cumsum(dim=-1)
    return int(ids[int((before < 0.5).sum().clamp_max(len(ids) - 1))])


def chance(logits: Tensor, chosen: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Log-probability of the chosen id among the legal ones of [V] `logits`, and `count` of the likeliest with theirs."""
    logs = torch.log_softmax(logits.float(), dim=-1)
    top = logs.topk(count)
    likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return float(logs[chosen]), [(index, log) for index, log in likeliest if log > -torch.inf]


def guided(x_hat: Tensor, null: Tensor, guidance: Tensor) -> Tensor:
    """[n, W] predictions moved away from those of the null stream by [n] `guidance` (arXiv:2207.12598); since all share one
    z, guiding clean tokens guides their velocities."""
    return null + guidance[:, None] * (x_hat - null)


def euler_step(z: Tensor, x_hat: Tensor, t: Tensor, following: Tensor) -> Tensor:
    """z [n, W] at times t [n] moved to `following` along v = (x_hat - z) / (1 - t); t < 1."""
    share = ((following - t) / (1.0 - t))[:, None]
    return z + share * (x_hat - z)
