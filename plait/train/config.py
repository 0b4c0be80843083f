"""What a training needs to know: the configurations of its parts in one object, without what only an evaluation uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from plait.data.augment import AugmentConfig
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.model.transformer import TrunkConfig, vanilla
from plait.train.objectives.reference import PreferenceConfig
from plait.train.optim import OptimConfig


class TrainingConfig(BaseModel):
    """Data, model and schedule of one training. Unknown keys are errors; a recipe adds its name and promises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: str = Field(description="folder of the data: train.jsonl and what the evaluation needs")
    hold_out: dict[str, float] = Field(
        default_factory=dict,
        description="split -> share of train.jsonl, by content; a file SPLIT.jsonl takes its place",
    )
    modalities: dict[str, dict[str, Any]] = Field(description="name -> settings of each modality")
    trunk: TrunkConfig = TrunkConfig()
    flow: FlowConfig = FlowConfig()
    pack: PackConfig = PackConfig()
    optim: OptimConfig = OptimConfig()
    init: str = Field(
        "", description="what the weights start from: a base by its name, or a checkpoint, run folder or archive"
    )
    stands: bool = Field(
        False, description="whether checkpoints stand on the one that init names, and hold only what differs from it"
    )
    stages: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="name -> settings that differ: what is trained before, in this order, each from the one before",
    )
    trainable: tuple[str, ...] = Field(("*",), description="patterns of the names of parameters that move")
    tied: tuple[str, ...] = Field((), description="tables of ids whose head has their weights")
    weights: dict[str, float] = Field(default_factory=dict, description="task -> share of the rows")
    augment: dict[str, AugmentConfig] = Field(
        default_factory=dict, description="task -> how often and how what is given is varied"
    )
    objective: Literal["pretrain", "recall", "align", "codec", "sketch", "dpo", "grpo"] = Field(
        "pretrain",
        description="recall: rows that are replayed are answered as the model did when the training began; align: the alignment losses alone; codec: the trained parts of codecs alone, on media; sketch: what tokens are to be "
        "expected by the symbols around them alone; dpo: preferences; grpo: own answers with their advantage",
    )
    preference: PreferenceConfig = PreferenceConfig()
    alignment: dict[str, Literal["ctc", "match", "find"]] = Field(
        default_factory=dict,
        description="task -> how features of its questions are aligned with its answers: ctc with their letters, match with words; find: a "
        "finder learns to write them",
    )
    replay: str = Field(
        "", description="folder of rows that were learned from before: their tasks are called earlier/NAME in weights"
    )
    features: str = Field("", description="folder of cached features; none: features in the folder of the data")
    variants: int = Field(0, ge=0, description="varied copies of each medium that features are computed of")
    loss_weights: dict[str, float] = Field(default_factory=dict, description="loss group -> weight, 1 if not named")
    steps: int = Field(1000, ge=1)
    pca: int = Field(0, ge=0, strict=True, description="principal components of the data that flow heads know; 0: none")
    seed: int = 0
    dtype: str = Field("auto", pattern="^(auto|float32|bfloat16)$", description="of the trunk's arithmetic")
    device: str = Field("auto", pattern="^(auto|cpu|cuda|mps)$", description="where the training computes")
    compile: bool = Field(False, description="torch.compile the trunk's layers")
    flex_attention: bool = Field(True, description="compiled on a CUDA device, FlexAttention instead of a dense mask")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average")
    save_every: int = Field(250, ge=1, description="steps between checkpoints")
    log_every: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if self.stands and not self.init:
            raise ValueError("stands=true without init; expected the checkpoint that what is trained stands on")
        for name in self.stages:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise ValueError(f"stages names {name!r}; expected small letters, digits and hyphens")
            try:
                self.stage(name)
            except ValidationError as error:
                problem = error.errors()[0]
                where = ".".join(map(str, (name, *problem["loc"])))
                raise ValueError(f"stages.{where}: {problem['msg']} (got {problem['input']!r})") from error
        return self

    def stage(self, name: str) -> Self:
        """The settings of a stage: these, but for those that differ. Raises ValidationError for impossible ones."""
        return type(self)(**_changed(self, self.stages[name] | {"name": f"{self.name}.{name}", "stages": {}}))

    @field_validator("trunk", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        """`trunk=vanilla` is the founding paper's Transformer at the default width and depth."""
        return vanilla() if value == "vanilla" else value

    @field_validator("augment", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        """A number in the place of a task's settings is its share: `augment.read=0.5`."""
        if not isinstance(value, dict):
            return value
        return {
            task: {"share": entry} if isinstance(entry, int | float) and not isinstance(entry, bool) else entry
            for task, entry in value.items()
        }


def _changed(settings: BaseModel, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes: groups of settings, such as optim, setting by setting; anything else takes the old one's place."""
    changed = settings.model_dump()
    for key, value in changes.items():
        group = getattr(settings, key, None)
        changed[key] = _changed(group, value) if isinstance(group, BaseModel) and isinstance(value, Mapping) else value
    return changed
