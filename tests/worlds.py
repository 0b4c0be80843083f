"""Small worlds for tests: modalities, samples, models and data that are real but tiny."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.chat_template import ChatTemplate
from plait.data.sequence import Encoder, FlowConfig
from plait.data.vocabulary import Vocabulary
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig

TINY = TrunkConfig(dim=32, num_layers=2, num_heads=2, hidden=48)
SETTINGS = {
    "text": {"vocab_size": 280},
    "image": {"patch": 4, "channels": 1, "max_patches": 6},
    "audio": {"frames": 4, "block": 4},
}
WORDS = ("draw seven", "what is this?", "say it in German", "yes", "zwei", "四")


class PixelReader:
    """A reader of pictures without weights: what `features` makes of [height, width, 3] pixels from 0 to 1."""

    name, version, width = "pixels", "1", 4
    tokens = words = letters = 0

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """[n, width] of a picture."""
        raise NotImplementedError

    def prepare(self, modality, part):
        return np.asarray(part.value, np.float32)

    def vary(self, prepared, rng):
        return prepared

    def load(self, device):
        return lambda prepared: [self.features(pixels / 255).astype(np.float16) for pixels in prepared]


class Columns(PixelReader):
    """A feature a column of the picture, its mean colour, each two letters at most."""

    name, letters = "columns", 2

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """As `PixelReader.features`."""
        return np.pad(pixels.mean(axis=0), ((0, 0), (0, 1)))


def text(value: str) -> Part:
    return Part("text", value)


class World:
    """Modalities, vocabulary and a sample of every cell, mixed and multi-turn ones included."""

    def __init__(self) -> None:
        self.modalities = registry.build_all(SETTINGS)
        self.modalities["text"].fit([text(word) for word in WORDS])
        self.vocabulary = Vocabulary(self.modalities)
        self.encoder = Encoder(self.vocabulary, FlowConfig())

    def part(self, name: str, seed: int) -> Part:
        return self.modalities[name].example(seed)

    def sample(self, asked: list[Part], answer: list[Part], task: str = "") -> Sample:
        return Sample((Message("user", tuple(asked)), Message("assistant", tuple(answer))), task)

    def samples(self) -> list[Sample]:
        kinds = list(self.modalities)
        made = [
            self.sample([text(WORDS[0]), self.part(a, i)], [self.part(b, i + 1)], f"{a}->{b}")
            for i, (a, b) in enumerate((a, b) for a in kinds for b in kinds)
        ]
        made.append(self.sample([self.part("image", 3), self.part("audio", 4)], [text("yes")], "mixed"))
        made.append(self.sample([text("both")], [self.part("audio", 5), text("and"), self.part("image", 6)], "both"))
        made.append(Sample((Message(None, (text("a document"), self.part("image", 7), text("goes on"))),), "document"))
        turns = [
            Message("system", (text("be brief"),)),
            Message("user", (text("draw"),)),
            Message("assistant", (self.part("image", 8),)),
            Message("user", (text("say"),)),
            Message("assistant", (self.part("audio", 9),)),
        ]
        made.append(Sample(tuple(turns), "turns"))
        return made

    def model(
        self, config: TrunkConfig = TINY, dtype: torch.dtype = torch.float32, tied: tuple[str, ...] = ()
    ) -> MultimodalTransformer:
        model = MultimodalTransformer(config, self.vocabulary, seed=0, dtype=dtype, tied=tied)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():  # branches that begin at zero would hide mistakes
            for name, parameter in model.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    parameter.normal_(std=0.2, generator=generator)
        return model


def build_small_digits(folder: Path) -> Path:
    """The real builder with few rows, few settings and scikit-learn's digits."""
    from plait.data.sources import handwriting
    from plait.recipes import digits

    with (
        patch.object(digits, "ROWS_A_TASK", 40),
        patch.object(digits, "ROWS_A_TEST", 24),
        patch.object(digits, "ROWS_A_DEV", 12),
        patch.object(digits, "SETTINGS", {"train": 2, "judge": 1, "test": 1, "dev": 1}),
        patch.object(handwriting, "load", lambda cache, notes: handwriting._from_scikit_learn()),
    ):
        digits.build(folder, say=lambda what: None)
    return folder


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


TEMPLATE = """{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}<s>system
You are here to help.<e>
{% endif %}<s>{{ message['role'] }}
{{ message['content'] }}<e>
{% endfor %}{% if add_generation_prompt %}<s>assistant
{% endif %}"""


def templated(world):
    """The world, whose conversations a template lays out, with a system message of its own where there is none."""
    world.vocabulary = Vocabulary(world.modalities, ChatTemplate(TEMPLATE, {"<s>": 0, "<e>": 1}))
    world.encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.3))
    return world
