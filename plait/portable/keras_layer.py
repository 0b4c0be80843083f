"""A checkpoint as a layer of Keras 3, on its torch backend: media in, vectors out, to be learned on with one's own data.

layer = Medium.of("runs/demo", "image", like="seven.png")
model = keras.Sequential([keras.Input((1, 784)), layer, keras.layers.Dense(10)])
model.fit(numpy.stack([layer.tokens(picture) for picture in pictures]), labels)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plait import registry
from plait.contract import Part
from plait.data.chat_template import ChatTemplate
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError, MissingError, RowError
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.portable.graphs import Given
from plait.train import checkpoint

NEEDS = "the layer needs Keras 3 on its torch backend: python -m pip install 'plait[keras]', and KERAS_BACKEND=torch before keras is imported"
try:
    import keras
except ImportError as error:  # of keras, or of a backend that is not there
    raise MissingError(f"{NEEDS}; got: {error}") from error

if keras.backend.backend() != "torch":
    raise MissingError(f"{NEEDS}; got the backend {keras.backend.backend()}")


@keras.saving.register_keras_serializable("plait")
class Medium(keras.layers.Layer):  # type: ignore[misc]
    """Media of one modality and one size as a trained trunk sees them: [B, n, W] continuous tokens, or [B, n] ids -> [B, D], the
    mean of their hidden states, or with `pooled` false [B, n, D].

    `tokens` makes them of media. A model with such a layer is saved and loaded as any other: how the layer is made is in its
    configuration, and its weights are among the model's.
    """

    def __init__(
        self, network: dict[str, Any], modality: str, header: Sequence[str], pooled: bool = True, **settings: Any
    ) -> None:
        """`network`: how the model is made, and `header`, what stands before the tokens: `of` knows both. Raises ConfigError for a
        modality that the trunk does not read, and for a model with a chat template."""
        super().__init__(**settings)
        self.described, self.modality, self.header, self.pooled = network, modality, tuple(header), pooled
        template = network["template"]
        modalities = {name: registry.build(name, state) for name, state in network["modalities"].items()}
        vocabulary = Vocabulary(modalities, ChatTemplate(**template) if template else None)
        if template:
            raise ConfigError(
                "this model lays conversations out by a chat template, of which a medium alone is no part; expected a model without one"
            )
        if modality not in modalities:
            raise ConfigError(f"got modality {modality!r}; expected one of {', '.join(modalities)}")
        if modality in vocabulary.readers:
            raise ConfigError(
                f"{modality} goes through a reader in this model; expected a modality that the trunk reads itself"
            )
        self.codec = modalities[modality]
        whole = MultimodalTransformer(TrunkConfig(**network["trunk"]), vocabulary, seed=None)
        self.given: Any = Given(whole, modality, self.header)  # Keras wraps it, so that its weights are a layer's

    @classmethod
    def of(cls, path: str | Path, modality: str, like: Any, pooled: bool = True, **settings: Any) -> Medium:
        """The layer of a checkpoint or run folder, with its weights, for media of the size of one (`like`: a path, a string, a
        picture, samples). Raises CheckpointError, RowError, and as `__init__` does."""
        network, _ = checkpoint.load(checkpoint.locate(Path(path)))
        vocabulary = network.vocabulary
        described = {
            "trunk": network.trunk.config.model_dump(mode="json"),
            "modalities": {name: each.state() for name, each in vocabulary.modalities.items()},
            "template": vocabulary.template.state() if vocabulary.template else None,
        }
        if modality not in vocabulary.modalities:
            raise ConfigError(f"got modality {modality!r}; expected one of {', '.join(vocabulary.modalities)}")
        header = vocabulary.modalities[modality].read(Part(modality, like)).blocks[0].header
        layer = cls(described, modality, header, pooled, **settings)
        layer.given.module.load_state_dict(Given(network, modality, header).state_dict())
        return layer

    def tokens(self, value: Any) -> Any:
        """[n, W] or [n] tokens of a medium. Raises RowError for one of another size than the layer is for, or of several blocks."""
        blocks = self.codec.read(Part(self.modality, value)).blocks
        if len(blocks) > 1:
            raise RowError(
                f"got {self.modality} of {len(blocks)} blocks; expected one block: cut it into shorter parts"
            )
        if self.header and blocks[0].header != self.header:
            raise RowError(
                f"got {' '.join(blocks[0].header)}; expected {' '.join(self.header)}, as the layer was made for"
            )
        return blocks[0].tokens

    def call(self, tokens: Any) -> Any:
        hidden = self.given(tokens)
        return hidden.mean(dim=1) if self.pooled else hidden

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of what `call` gives."""
        dim = self.described["trunk"]["dim"]
        return (shape[0], dim) if self.pooled else (shape[0], shape[1], dim)

    def get_config(self) -> dict[str, Any]:
        """What `__init__` takes."""
        return {
            **super().get_config(),
            "network": self.described,
            "modality": self.modality,
            "header": list(self.header),
            "pooled": self.pooled,
        }
