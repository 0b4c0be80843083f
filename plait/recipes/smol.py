"""A small language model that learns to see, hear, draw and speak, and keeps every word it had.

SmolLM2-135M-Instruct is the trunk and stays frozen. Whisper tiny.en and EfficientNet-Lite0, frozen too, read what is given.
Two stages: `ALIGN` teaches the projectors to speak the trunk's language, then `RECIPE` adapters, embedders and heads.
"""

from __future__ import annotations

from plait.data.augment import AugmentConfig
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.model.transformer import TrunkConfig
from plait.recipes.recipe import Recipe, Sampling
from plait.train.optim import OptimConfig

MODALITIES = {
    "text": {},
    "image": {
        "patch": 16, "channels": 3, "max_patches": 16, "mean": 0.6, "std": 0.55, "reader": "efficientnet_lite0",
    },
    "audio": {"frames": 8, "block": 8, "max_seconds": 8.0, "reader": "whisper_tiny_en", "raw": False},
}  # fmt: skip
PROJECTORS = ("embedders.whisper_tiny_en.*", "embedders.efficientnet_lite0.*")
VARIED = {
    task: AugmentConfig(share=0.75, modalities={"image": {"move": 0.0}})
    for task in (
        "transcribe", "listen", "repeat", "name", "category", "colour", "clothes", "talk", "describe", "say-picture", "draw-heard",
    )
}  # fmt: skip

ALIGN = Recipe(
    name="smol-align",
    data="data/smol",
    modalities=MODALITIES,
    init="models/smollm2-135m-instruct",
    trainable=PROJECTORS,
    objective="align",
    alignment={"transcribe": "ctc", "name": "match"},
    variants=2,
    augment={task: VARIED[task] for task in ("transcribe", "name")},
    weights={"transcribe": 1.0, "name": 1.0},
    pack=PackConfig(length=512, sequences=64),
    optim=OptimConfig(name="adamw", lr=1e-3, betas=(0.9, 0.98), warmup=50, decay_fraction=0.7),
    pca=384,
    steps=600,
    ema_decay=0.99,
)

RECIPE = Recipe(
    name="smol",
    data="data/smol",
    modalities=MODALITIES,
    trunk=TrunkConfig(adapters={"image_given": 32, "audio_given": 32, "image_written": 64, "audio_written": 64}),
    init="runs/smol-align",
    trainable=("embedders.*", "flows.*", "tables.marks.*", "categorical.marks.*", "trunk.*.adapters.*"),
    alignment={"transcribe": "ctc", "name": "match"},
    variants=2,
    flow=FlowConfig(copies=2, time_mean=-2.0, time_std=1.2),
    pack=PackConfig(length=512, sequences=64),
    optim=OptimConfig(
        name="adamw", lr=1e-3, betas=(0.9, 0.98), warmup=100, decay_fraction=0.6, flow_lr_scale=0.2,
        lr_scales={"embedders.whisper_tiny_en.*": 0.3, "embedders.efficientnet_lite0.*": 0.3},
    ),
    weights={
        "transcribe": 4.0, "listen": 0.5, "say": 5.0, "repeat": 0.5, "name": 6.0, "category": 1.0, "colour": 1.0, "count": 1.5, "where": 1.0,
        "detect": 1.0, "clothes": 0.7, "talk": 2.0, "describe": 2.0, "draw": 8.0, "restyle": 2.0, "say-picture": 0.7,
        "draw-heard": 1.0,
    },
    augment=VARIED,
    loss_weights={"ctc": 0.2, "match": 0.2, "image": 1.0, "audio": 1.0},
    pca=384,
    steps=4000,
    ema_decay=0.995,
    turns=3,
    sampling=Sampling(max_tokens=240),
)  # fmt: skip
