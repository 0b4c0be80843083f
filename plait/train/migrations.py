"""Checkpoints of every format that was ever written, as today's: numbered pure functions. Files on disk stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from plait.contract import WORDS
from plait.data.vocabulary import MARKS

FORMAT = 9

Config = dict[str, Any]
BY_TABLES = 5  # the first format whose ids lie in tables
RENAMED_SETTINGS = {  # format 5: (where in the recipe, name before) -> name since
    ("", "principal"): "pca",
    ("", "average"): "ema_decay",
    ("optim", "fall"): "decay_fraction",
    ("optim", "wide_share"): "flow_lr_scale",
    ("flow", "null_share"): "null_prob",
    ("flow", "uniform_share"): "uniform_prob",
    ("flow", "soft_share"): "context_noise_prob",
    ("flow", "soft_floor"): "context_noise_min_time",
    ("flow", "end_share"): "end_prob",
}


def _from_1(config: Config) -> Config:
    """Format 2: the recipe says how long its conversations are; before, all recipes asked single questions."""
    return {**config, "format": 2, "recipe": {"turns": 1, **config["recipe"]}}


def _from_2(config: Config) -> Config:
    """Format 3: config.json has a hash of its own."""
    return {**config, "format": 3}


def _from_3(config: Config) -> Config:
    """Format 4: flow heads may know principal components, which lie beside the weights; before, the recipe could say that
    maps start along them, which is over once a run has begun."""
    return {**config, "format": 4, "recipe": {**config["recipe"], "principal": 0}}


def _from_4(config: Config) -> Config:
    """Format 5: settings have the field's names, augmentation is a table of its own with a share a task, and ids lie in a
    table for the marks and one for each categorical modality."""
    recipe = dict(config["recipe"])
    for (part, before), since in RENAMED_SETTINGS.items():
        node = recipe
        if part:
            recipe[part] = node = dict(recipe.get(part, {}))
        if before in node:
            node[since] = node.pop(before)
    recipe["augment"] = {task: {"share": share} for task, share in recipe.pop("vary", {}).items()}
    return {**config, "format": 5, "recipe": recipe, "tied": []}


def _from_5(config: Config) -> Config:
    """Format 6: a checkpoint may have the chat template of the model that it was made from."""
    return {**config, "format": 6, "template": None}


def _from_6(config: Config) -> Config:
    """Format 7: a checkpoint may stand on a base, whose weights it does not hold, and its training may have stages."""
    return {**config, "format": 7, "base": None}


def _from_7(config: Config) -> Config:
    """Format 8: it is said what was drawn and never trained. Readers of pictures have places for answers to several questions;
    before for one, and what learned that layout is refused (`checkpoint.load_model`)."""
    return {**config, "format": 8, "unlearned": []}


def _from_8(config: Config) -> Config:
    """Format 9: a checkpoint may stand on another, and hold only what differs."""
    return {**config, "format": 9, "parent": None}


MIGRATIONS: dict[int, Callable[[Config], Config]] = {
    1: _from_1,
    2: _from_2,
    3: _from_3,
    4: _from_4,
    5: _from_5,
    6: _from_6,
    7: _from_7,
    8: _from_8,
}


def migrate_config(config: Config) -> Config:
    """config.json of any format as today's."""
    while config["format"] < FORMAT:
        config = MIGRATIONS[config["format"]](config)
    return config


TABLES_BEFORE = {"ids.weight": "tables.{}.weight"} | {
    f"categorical.logits.{kind}": f"categorical.{{}}.logits.{kind}" for kind in ("weight", "bias")
}


def migrate_tensors(tensors: Mapping[str, Tensor], written_as: int, marks: int) -> dict[str, Tensor]:
    """Weights by today's names, from a checkpoint of format `written_as` with `marks` names of marks and grammar.

    Before format 5 one table held the marks and, after them, the ids of the only categorical modality, text.
    """
    if written_as >= BY_TABLES:
        return dict(tensors)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in TABLES_BEFORE:
            renamed[TABLES_BEFORE[name].format(MARKS)] = tensor[:marks].clone()
            renamed[TABLES_BEFORE[name].format(WORDS)] = tensor[marks:].clone()
        else:
            renamed[name.replace(".trust.", ".log_var.")] = tensor
    return renamed
