"""What is drawn from a head's prediction: an id from logits, a velocity from clean tokens. For many requests at once."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_ids(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """[R] choices among the [R, V] `logits` that are legal; temperature 0 takes the best.

    `uniform` [R] in [0, 1) is each request's own chance: an id is where it falls in the cumulative probabilities, likeliest
    first, of those that hold `top_p` of them (Holtzman et al., 2020).
    """
    best = logits.argmax(dim=-1)
    device, logits = logits.device, logits.cpu()  # in float64, which not every device has
    temperature, top_p, uniform = temperature.cpu(), top_p.cpu(), uniform.cpu()
    scaled = logits.double() / temperature.double().clamp_min(1e-6)[:, None]
    shares, order = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = shares.cumsum(dim=-1) - shares
    shares = torch.where(before < top_p.double()[:, None], shares, 0.0)  # the likeliest always stays
    cumulative = shares.cumsum(dim=-1)
    aim = uniform.double()[:, None] * cumulative[:, -1:]
    rank = torch.searchsorted(cumulative, aim, right=True).clamp_max(logits.shape[-1] - 1)
    drawn = order.gather(1, rank)[:, 0]
    return torch.where(temperature <= 0, best.cpu(), drawn).to(device)


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
