"""What the language model that a recipe stands on answers to texts: the answers to the same texts spoken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from plait.contract import WORDS, Message, Part
from plait.runtime.files import atomic_write

LONGEST = 48  # tokens of an answer
AT_ONCE = 64  # texts that are answered together


def whole_sentences(text: str) -> str:
    """The first line of a text up to the end of its last whole sentence; empty where none ends."""
    line = text.strip().split("\n")[0].strip()
    return line[: max(line.rfind(mark) for mark in ".?!") + 1]


def replies(init: str, texts: Sequence[str], file: Path, say: Callable[[str], None] = print) -> dict[str, str]:
    """The answer of the language model `init` to each text that it answers in a whole sentence. Keeps answers in `file`.

    Raises MissingError, ConfigError or CheckpointError as `plait.train.bases.opened` does.
    """
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if new := sorted(set(texts) - set(known)):
        from plait import api
        from plait.infer.request import Request
        from plait.train import bases

        with bases.opened(init) as folder:
            model = api.load(folder)
        for first in range(0, len(new), AT_ONCE):
            asked = new[first : first + AT_ONCE]
            requests = [
                Request((Message("user", (Part(WORDS, text),)),), to=WORDS, max_tokens=LONGEST) for text in asked
            ]
            for text, answer in zip(asked, model.generate_all(requests), strict=True):
                known[text] = whole_sentences("".join(str(part.value) for part in answer.message.parts))
            atomic_write(file, json.dumps(known, ensure_ascii=False, indent=0))
            say(f"answered {min(first + AT_ONCE, len(new)):,} of {len(new):,} texts")
    return {text: known[text] for text in texts if known[text]}
