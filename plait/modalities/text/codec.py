"""Text: byte-level BPE, trained in seconds on the training split. Any script, no unknown token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError

if TYPE_CHECKING:
    from torch import nn


def check(part: Part) -> None:
    """Raises RowError for what is no text, or none that UTF-8 can write."""
    if not isinstance(part.value, str):
        raise RowError(f"text part: got {type(part.value).__name__}; expected a string")
    try:
        part.value.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"text part: {error}; expected characters that UTF-8 can write") from error


class Text:
    """Categorical modality; every token is a block of its own and needs no header.

    `vocab_size` is the largest vocabulary that `fit` may learn (256 bytes and the merges); `tokenizer_json` is a
    trained tokenizer in the format of the `tokenizers` library. Before `fit` the vocabulary is the 256 bytes.
    `careless` is the probability of each slip of `augment`. `reader` names a frozen language model that also reads what is given
    (`readers`); without `raw` it alone does. Raises ConfigError for impossible settings.
    """

    name = "text"
    head: HeadKind = "categorical"

    def __init__(
        self,
        vocab_size: int = 1024,
        tokenizer_json: Mapping[str, Any] | None = None,
        careless: float = 0.0,
        reader: str = "",
        raw: bool = True,
    ) -> None:
        if vocab_size < 256:
            raise ConfigError(f"text: vocab_size is {vocab_size}; expected at least 256, one id for each byte")
        if not 0 <= careless <= 1:
            raise ConfigError(f"text: careless is {careless}; expected a chance from 0 to 1")
        self.vocab_size, self.careless, self.reader, self.raw = vocab_size, careless, reader, raw
        self._tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json)) if tokenizer_json else self._train([])

    @property
    def token_width(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def _train(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE())
        # A digit is a token: a model that has numbers as single tokens cannot see which are neighbours.
        digits = pre_tokenizers.Split(Regex(r" ?[0-9]"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    def grammar(self) -> Sequence[str]:
        return ()

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        return ()

    def block_len(self, header: Sequence[str]) -> int:
        return 1

    def ends(self, header: Sequence[str]) -> bool:
        return True

    def coordinates(self, header: Sequence[str], before: Sequence[Sequence[str]] = ()) -> np.ndarray:
        return np.zeros((1, 0), np.float32)

    def check(self, part: Part) -> None:
        check(part)

    def tokenise(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """[n] ids of a text, and the number of the first character of each."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return np.asarray(encoded.ids, np.int64), np.asarray([start for start, _ in encoded.offsets], np.int64)

    def read(self, part: Part) -> Segment:
        self.check(part)
        ids = np.asarray(self._tokenizer.encode(part.value).ids, np.int64)
        return Segment(self.name, (Block((), ids),))

    def write(self, segment: Segment) -> Part:
        ids = np.concatenate([block.tokens for block in segment.blocks]) if segment.blocks else np.zeros(0, np.int64)
        return Part(self.name, self._tokenizer.decode(ids.tolist(), skip_special_tokens=False))

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        return tokens

    def embedder(self, dim: int) -> nn.Module:
        from torch import nn

        return nn.Embedding(self.token_width, dim)

    def fit(self, parts: Iterable[Part]) -> None:
        self._tokenizer = self._train(sorted({part.value for part in parts}))

    def state(self) -> dict[str, Any]:
        tokenizer = json.loads(self._tokenizer.to_str())
        reads = {"reader": self.reader, "raw": self.raw} if self.reader else {}
        return {"vocab_size": self.vocab_size, "tokenizer_json": tokenizer, "careless": self.careless} | reads

    def example(self, seed: int) -> Part:
        return Part(self.name, ("seven", "四十二", "vingt et un", "a\nb 🙂")[seed % 4])
