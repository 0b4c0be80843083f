"""Prompts: what people are asked to make, and the rows that come of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plait import registry
from plait.contract import WORDS, Modality
from plait.data.rows import parse_row
from plait.errors import ConfigError, DataError, RowError

ITEM = "$item"  # in the rows of a prompt: what the person makes
KEYS = {"type", "prompt", "how", "label", "question", "rows"}
MOST = 100_000
LONGEST = 5000  # characters of a prompt


@dataclass(frozen=True)
class Prompt:
    """Something to make: its modality, what the person is told, how they make it (one of `ways_of` its type, where the page would choose another), and templates of
    rows in which ITEM stands for it."""

    id: str
    type: str
    words: str
    how: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()


def read(path: Path, kind: str = "", how: str = "") -> list[Prompt]:
    """Prompts of a `.jsonl` file of objects with `type` and `prompt`, or of any other file of a line each, which are all of one `kind`.

    Beside these an object may have `how`; `label` and `question`, for a row that asks what was made; or `rows`, with "$item" as the value of
    a part. Without any of the two a row orders it by the prompt's words. Raises DataError, ConfigError."""
    if how and not any(how in ways_of(each) for each in registry.available()):
        every = sorted({way for each in registry.available() for way in ways_of(each)})
        raise ConfigError(f"got how {how!r:.40}; expected one of {', '.join(every)}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a file of prompts in UTF-8"
        ) from error
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        if path.suffix == ".jsonl":
            prompt = _parsed(line, where, kind, how)
        else:
            prompt = _prompt({"type": kind, "prompt": line.strip(), "how": how}, where)
        prompts[prompt.id] = prompt
    if not 0 < len(prompts) <= MOST:
        raise DataError(f"{path} has {len(prompts)} prompts; expected 1 to {MOST}")
    return list(prompts.values())


def ways_of(kind: str) -> tuple[str, ...]:
    """How people make something of a modality on a page."""
    checks = registry.checks(kind)
    return checks.WAYS if checks is not None else ("write",) if kind == WORDS else ("upload",)


def _parsed(line: str, where: str, kind: str, how: str) -> Prompt:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(raw, dict) or set(raw) - KEYS:
        raise DataError(f"{where}: got {line[:80]!r}; expected an object of {', '.join(sorted(KEYS))}")
    fits = raw.get("type", kind) == kind or (raw["type"] in registry.available() and how in ways_of(raw["type"]))
    return _prompt({"type": kind, "how": how if fits else ""} | raw, where)


def _prompt(raw: Mapping[str, Any], where: str) -> Prompt:
    kind, words = raw["type"], raw.get("prompt")
    if kind not in registry.available():
        raise ConfigError(
            f"{where}: got the type {kind!r}; expected one of {', '.join(registry.available())}: say it in the file, or by --type"
        )
    how = str(raw.get("how") or "")
    if how and how not in (ways := ways_of(kind)):
        raise ConfigError(f"{where}: got how {how!r:.40} of the type {kind}; expected {' or '.join(ways)}, or none")
    if not isinstance(words, str) or not 0 < len(words.strip()) <= LONGEST:
        raise DataError(f"{where}: got the prompt {words!r:.60}; expected 1 to {LONGEST} characters")
    rows = raw.get("rows", _rows(kind, words, raw))
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and "messages" in row and f'"{ITEM}"' in json.dumps(row) for row in rows
    ):
        raise DataError(
            f'{where}: got the rows {rows!r:.80}; expected a list of rows with messages, with "{ITEM}" as the value of a part'
        )
    for row in rows:
        try:
            parse_row(filled(row, "item"), Path(), _modalities(), where)
        except RowError as error:
            raise DataError(f"{error}; expected rows that can be trained on once {ITEM} is an item") from error
    digest = hashlib.blake2b(
        json.dumps([kind, words, raw.get("how"), rows], sort_keys=True).encode(), digest_size=8
    ).hexdigest()
    return Prompt(digest, kind, words.strip(), how, tuple(rows))


@cache
def _modalities() -> Mapping[str, Modality]:
    return registry.build_all(registry.available())


def _rows(kind: str, words: str, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a prompt that has no templates."""
    item = {"type": kind, kind: ITEM}
    rows = [{"messages": [{"role": "user", "content": words}, {"role": "assistant", "content": [item]}]}]
    if "label" in raw:
        asked = {"type": WORDS, WORDS: str(raw.get("question") or "What is this?")}
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": [item, asked]},
                    {"role": "assistant", "content": str(raw["label"])},
                ]
            }
        )
    return rows


def filled(template: Mapping[str, Any], value: str) -> dict[str, Any]:
    """A row of a template, with `value` where ITEM stands."""

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(each) for key, each in node.items()}
        if isinstance(node, list):
            return [fill(each) for each in node]
        return value if node == ITEM else node

    row: dict[str, Any] = fill(dict(template))
    return row
