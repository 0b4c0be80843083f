"""What the language model that a recipe stands on answers to texts: the answers to the same texts spoken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plait.contract import WORDS, Message, Part
from plait.runtime.files import atomic_write

if TYPE_CHECKING:
    from plait.infer.engine import Engine

LONGEST = 48  # tokens of an answer
AT_ONCE = 64  # texts that are answered together
_ENDS = re.compile(r"[.?!][\"')\u201d]*(?=\s|$)")
_STOPS_WITHIN = re.compile(
    r"(^\d+|\b([A-Za-z]|Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e))\.$"
)  # numbers of lists, initials, short forms


def whole_sentences(text: str) -> str:
    """The first line of a text up to the end of its last whole sentence; empty where none ends."""
    line = text.strip().split("\n")[0].strip()
    ends = (match.end() for match in _ENDS.finditer(line) if not _STOPS_WITHIN.search(line[: match.start() + 1]))
    return line[: max(ends, default=0)]


def replies(init: str, texts: Sequence[str], file: Path, say: Callable[[str], None] = print) -> dict[str, str]:
    """The answer of the language model `init` to each text that it answers in a whole sentence. Keeps answers in `file`, and
    uses none of another model or length.

    Raises MissingError, ConfigError or CheckpointError as `plait.train.bases.opened` does, and what an answer raises.
    """
    by = f"{init}, at most {LONGEST} tokens"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    known: dict[str, str] = stored["replies"] if stored.get("by") == by else {}
    if new := sorted(set(texts) - set(known)):
        from plait.infer.request import Request

        engine = _engine_of(init)
        for first in range(0, len(new), AT_ONCE):
            asked = new[first : first + AT_ONCE]
            requests = [
                Request((Message("user", (Part(WORDS, text),)),), to=WORDS, max_tokens=LONGEST) for text in asked
            ]
            for text, answer in zip(asked, engine.generate(requests), strict=True):
                if answer.error is not None:
                    raise answer.error
                known[text] = whole_sentences("".join(str(part.value) for part in answer.message.parts))
            atomic_write(file, json.dumps({"by": by, "replies": known}, ensure_ascii=False, indent=0))
            say(f"answered {min(first + AT_ONCE, len(new)):,} of {len(new):,} texts")
    return {text: known[text] for text in texts if known[text]}


def _engine_of(init: str) -> Engine:
    from plait.infer.engine import Engine
    from plait.runtime.device import resolve_device, resolve_dtype
    from plait.train import bases, checkpoint

    device = resolve_device("auto")
    with bases.opened(init) as folder:
        network, _ = checkpoint.load(folder, resolve_dtype("auto", device))
    return Engine(network.to(device).for_inference())
