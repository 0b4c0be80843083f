"""A model's chat template: what it puts around the words of a conversation, as pieces that are special, fixed or somebody's.

Templates are Jinja, as in tokenizer_config.json and in GGUF files. They are rendered in a sandbox, with a placeholder where a
message's content goes, so that what people write never reaches the template, and media can stand where words can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from plait.errors import ConfigError

OPEN, CLOSE = "\ue000", "\ue001"  # of a placeholder: letters for private use, which no template has
PLACEHOLDER = re.compile(f"{OPEN}([0-9]+){CLOSE}")
PADDING = " \n"  # around a placeholder, to see whether a template trims it


@dataclass(frozen=True)
class Special:
    """One special token, by name."""

    name: str


@dataclass(frozen=True)
class Fixed:
    """Text of the template itself."""

    text: str


@dataclass(frozen=True)
class Content:
    """The content of message `message`; the template trims white space around it if `trimmed`."""

    message: int
    trimmed: bool


Piece = Special | Fixed | Content


class ChatTemplate:
    """A template in Jinja, and the ids of its tokenizer's special tokens, by name. `names`: what templates call some of them,
    such as `bos_token`. Raises ConfigError for a template that does not compile."""

    def __init__(self, source: str, specials: Mapping[str, int], names: Mapping[str, str] | None = None) -> None:
        self.source, self.specials, self.names = source, dict(specials), dict(names or {})
        by_length = sorted(specials, key=len, reverse=True)
        self._specials = re.compile("(" + "|".join(map(re.escape, by_length)) + ")") if by_length else None
        self._render = _compiled(source)

    def pieces(self, roles: Sequence[str], answering: bool = False) -> list[Piece]:
        """What a conversation of messages of these roles consists of, in order; with `answering`, up to where the next
        answer begins.

        Raises ConfigError where the template refuses such a conversation, or drops or repeats a message.
        """
        rendered = self._rendered(roles, "", answering)
        cuts = PLACEHOLDER.split(rendered)  # fixed, number, fixed, number, ..., fixed
        written = list(map(int, cuts[1::2]))  # numbers of messages
        if written != list(range(len(roles))):
            raise ConfigError(
                f"the chat template writes the messages {written} of a conversation of {len(roles)} ({', '.join(roles)}); "
                "expected each once and in order"
            )
        padded, at = self._rendered(roles, PADDING, answering), 0
        pieces: list[Piece] = []
        for fixed, number in zip(cuts[::2], [*written, None], strict=True):
            pieces += self._fixed(fixed)
            at = self._skip(padded, at, fixed)
            if number is not None:
                bare = f"{OPEN}{number}{CLOSE}"
                trimmed = padded.startswith(bare, at)
                at = self._skip(padded, at, bare if trimmed else f"{PADDING}{bare}{PADDING}")
                pieces.append(Content(number, trimmed))
        return pieces

    def end(self) -> str:
        """Name of the special token that ends an answer. Raises ConfigError where none follows one."""
        pieces = self.pieces(["user", "assistant"])
        after = pieces[pieces.index(next(p for p in pieces if isinstance(p, Content) and p.message == 1)) + 1 :]
        if not after or not isinstance(after[0], Special):
            raise ConfigError(
                "the chat template ends an answer without a special token; expected one, such as <|im_end|>"
            )
        return after[0].name

    def state(self) -> dict[str, Any]:
        """The keyword arguments that rebuild it, as JSON."""
        return {"source": self.source, "specials": self.specials, "names": self.names}

    def _rendered(self, roles: Sequence[str], around: str, answering: bool) -> str:
        """The conversation with placeholders for contents, and white space around each."""
        messages = [
            {"role": role, "content": f"{around}{OPEN}{number}{CLOSE}{around}"} for number, role in enumerate(roles)
        ]
        return self._render(messages=messages, add_generation_prompt=answering, **self.names)

    @staticmethod
    def _skip(rendered: str, at: int, expected: str) -> int:
        """Where the text after `expected` begins. Raises ConfigError if something else stands there."""
        if not rendered.startswith(expected, at):
            raise ConfigError(
                "the chat template changes the content of messages; expected it to write them as they are, or trimmed on both "
                "sides"
            )
        return at + len(expected)

    def _fixed(self, text: str) -> Iterator[Piece]:
        """Text of the template, cut at special tokens."""
        for number, cut in enumerate(self._specials.split(text) if self._specials else [text]):
            if cut:
                yield Special(cut) if number % 2 else Fixed(cut)


def _refuse(reason: str) -> None:
    raise ConfigError(f"the chat template refuses this conversation: {reason}")


@lru_cache(8)
def _compiled(source: str) -> Callable[..., str]:
    """The template's `render`, as the makers of such templates expect it to run."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    try:
        template = environment.from_string(source)
    except TemplateError as error:
        raise ConfigError(f"the chat template is no valid Jinja: {error}") from error

    def render(**context: Any) -> str:
        try:
            return template.render(**context)
        except ConfigError:
            raise
        except Exception as error:  # whatever an expression of the template raises
            raise ConfigError(f"the chat template cannot be rendered: {error}") from error

    return render
