"""Answers within a grammar, such as a JSON schema: what may follow is asked of llguidance, token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from plait.contract import Modality
from plait.errors import ConfigError, MissingError

END = "<|plait end|>"  # stands for the end of an answer in the grammar's own vocabulary


def _llguidance() -> Any:
    try:
        import llguidance
        import llguidance.numpy
    except ModuleNotFoundError as error:
        raise MissingError(
            "answers within a grammar need the package llguidance, which is not installed; install it with: "
            "python -m pip install llguidance"
        ) from error
    return llguidance


def of_schema(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON texts that fit a schema, without blanks between their marks. Raises ConfigError, MissingError."""
    compact = {**schema, "x-guidance": {"whitespace_flexible": False}}
    return checked(str(_llguidance().LLMatcher.grammar_from_json_schema(json.dumps(compact))))


def of_lark(grammar: str) -> str:
    """A grammar in llguidance's variant of Lark. Raises ConfigError, MissingError."""
    return checked(str(_llguidance().LLMatcher.grammar_from_lark(grammar)))


def checked(grammar: str) -> str:
    """The grammar, if it is one. Raises ConfigError, MissingError."""
    if problem := _llguidance().LLMatcher.validate_grammar(grammar, None):
        raise ConfigError(f"this grammar or schema cannot be used: {problem}")
    return grammar


class Grammar:
    """The way through a grammar of one answer. `offset`: of the modality's ids; `end`: the id that ends an answer. Raises
    ConfigError, MissingError."""

    def __init__(self, modality: Modality, grammar: str, offset: int, end: int) -> None:
        vocabulary = _vocabulary(cast(Any, modality))
        self.offset, self.end, self.size = offset, end, modality.token_width
        self.matcher = _llguidance().LLMatcher(vocabulary, grammar)
        self._check()
        self.bits = _llguidance().numpy.allocate_token_bitmask(1, vocabulary.vocab_size)

    def _check(self) -> None:
        if self.matcher.is_error():
            raise ConfigError(f"an answer within this grammar is not possible: {self.matcher.get_error()}")

    def legal(self) -> np.ndarray:
        """Ids that may follow. Raises ConfigError for a grammar that is too complex."""
        if self.matcher.is_stopped():
            self._check()
            return np.array([self.end])
        _llguidance().numpy.fill_next_token_bitmask(self.matcher, self.bits, 0)
        self._check()
        allowed = np.flatnonzero(np.unpackbits(self.bits.view(np.uint8)[0], bitorder="little")[: self.size + 1])
        return np.where(allowed == self.size, self.end, allowed + self.offset)

    def take(self, index: int) -> None:
        """Go on with an id among the legal ones."""
        self.matcher.consume_token(index - self.offset)


@lru_cache(maxsize=4)
def _vocabulary(modality: Any) -> Any:
    """The modality's tokens as llguidance knows them, and one more for the end."""
    tokenizer = Tokenizer.from_str(json.dumps(modality.state()["tokenizer_json"]))
    tokenizer.add_special_tokens([END])
    last = tokenizer.token_to_id(END)
    assert last == modality.token_width, "the end comes behind all other tokens"
    return _llguidance().LLTokenizer(tokenizer.to_str(), eos_token=last)
