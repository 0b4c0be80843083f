"""When the words of clips are said, by a shipped model that hears letters: for a voice that reads them (docs/adr/0036)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plait.contract import Part
from plait.data.features import FeatureReader
from plait.data.letters import AlignmentError
from plait.runtime.files import atomic_write, sha256_of

if TYPE_CHECKING:
    from plait.infer.engine import Engine

HEARD_BY = "smol"
CLEARLY = -1.0  # mean log probability of letters, below which a clip hardly says its text
STORED_EVERY = 500  # clips
Times = list[tuple[str, float, float, list[float]]]


def times_of(
    texts: Mapping[str, str], file: Path, features: Path, say: Callable[[str], None] = print
) -> dict[str, Times]:
    """When each word is said in each sound file that says a text: [word, first second, last second, seconds of its letters],
    without the files that hardly say theirs. Keeps times in `file`, what was read of the sounds in the folder `features`.

    Raises MissingError, ConfigError or CheckpointError where the model that hears them cannot be had.
    """
    by = _version()
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    known: dict[str, Times] = stored["times"] if stored.get("by") == by else {}
    keys = {path: f"{Path(path).name} {text}" for path, text in texts.items()}
    if new := {path: text for path, text in texts.items() if keys[path] not in known}:
        from plait.infer.timing import letter_times

        engine = _engine(features)
        for number, (path, text) in enumerate(sorted(new.items()), start=1):
            try:
                words, log_probability = letter_times(engine.model, engine.encoder, Part("audio", path), text)
            except AlignmentError:  # no words, or more than the clip has room for
                words, log_probability = [], CLEARLY
            known[keys[path]] = words if log_probability > CLEARLY else []
            if number % STORED_EVERY == 0 or number == len(new):
                atomic_write(file, json.dumps({"by": by, "times": known}, ensure_ascii=False, indent=0))
                say(f"heard when words are said in {number:,} of {len(new):,} clips")
    return {path: known[key] for path, key in keys.items() if known[key]}


def _version() -> str:
    """Which model hears."""
    from plait.train import checkpoint, shipped

    return f"{HEARD_BY} {sha256_of(shipped.checkpoints()[HEARD_BY] / checkpoint.CONFIG)[:12]}"


def _engine(features: Path) -> Engine:
    from plait.infer.engine import Engine
    from plait.runtime.device import resolve_device, resolve_dtype
    from plait.train import checkpoint, shipped

    device = resolve_device("auto")
    network, _ = checkpoint.load(shipped.checkpoints()[HEARD_BY], resolve_dtype("auto", device))
    engine = Engine(network.to(device).for_inference())
    assert isinstance(engine.encoder.features, FeatureReader)
    engine.encoder.features.keep_in(features)
    return engine
