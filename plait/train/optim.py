"""Optimizer and schedule: Muon for the trunk's matrices, AdamW for everything else, one learning rate for both."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.optim import Optimizer

WIDE = (".tokens.weight", ".predict.weight", ".log_var.weight")  # of plait.heads.flow
SHARE = "share of the rate"  # of a group of parameters


class OptimConfig(BaseModel):
    """Learning rate and schedule: linear warm-up, a plateau, then a linear fall to zero."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["muon", "adamw"] = "muon"
    lr: float = Field(2e-3, gt=0, description="peak learning rate; Muon's updates are scaled to AdamW's size")
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0)
    warmup: int = Field(50, ge=0, description="steps of linear warm-up")
    decay_fraction: float = Field(
        0.5, ge=0, le=1, description="share of the steps, at the end, over which the rate falls to zero"
    )
    flow_lr_scale: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of the rate, for the maps from continuous tokens and to them: small where they start well",
    )
    lr_scales: dict[str, float] = Field(
        default_factory=dict,
        description="pattern of parameters' names -> share of the rate; the first that fits counts",
    )
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of optimizer step `step` (from 0) of `steps`."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        left = (steps - step) / max(1.0, self.decay_fraction * steps)
        return self.lr * min(rise, left, 1.0)


def build(config: OptimConfig, model: nn.Module) -> list[Optimizer]:
    """Optimizers over the parameters of `model` that move; matrices inside `trunk` go to Muon if it is chosen."""
    matrices: list[nn.Parameter] = []
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {  # by share of the rate, and whether they decay
        (share, decays): []
        for share in dict.fromkeys((1.0, config.flow_lr_scale, *config.lr_scales.values()))
        for decays in (True, False)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_trunk = name.startswith("trunk.") or ".trunk." in name
        if config.name == "muon" and in_trunk and parameter.ndim == 2 and ".adapters." not in name:
            matrices.append(parameter)
            continue
        share = config.flow_lr_scale if name.endswith(WIDE) else 1.0
        share = next((s for pattern, s in config.lr_scales.items() if fnmatchcase(name, pattern)), share)
        groups[share, parameter.ndim == 2].append(parameter)
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": found, "weight_decay": config.weight_decay if decays else 0.0, SHARE: share}
                for (share, decays), found in groups.items()
                if found
            ],
            lr=config.lr,
            betas=config.betas,
            fused=True,
        )
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get(SHARE, 1.0)
