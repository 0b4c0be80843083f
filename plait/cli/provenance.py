"""`plait verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from plait import registry
from plait.cli.app import app
from plait.errors import ConfigError, PlaitError


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Pictures and sound.")],
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file.")] = False,
) -> None:
    """Tell whether files say that a model made them, and whether they have the mark of what Plait draws and says. Fails where
    one has neither.

    The mark of a file that was edited much, or is very small, may be lost: nothing found is no proof of a human hand.
    """
    facts_of_files = [_verified(file) for file in files]
    for file, facts in zip(files, facts_of_files, strict=True):
        typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else f"{file}: {_in_words(facts)}")
    if any("error" in facts or not (facts["declared"] or facts["marked"]) for facts in facts_of_files):
        raise typer.Exit(1)


def _verified(file: Path) -> dict[str, Any]:
    """What is known of a file, or its `error`."""
    try:
        kind = next((kind for kind in registry.available() if file.suffix.lower() in registry.suffixes(kind)), None)
        transfer = registry.transfers(kind) if kind else None
        if transfer is None:
            raise ConfigError(f"{file}: no picture or sound by its name; expected a file such as answer-0.png")
        known = registry.provenance(transfer.decode(file.read_bytes()))
    except OSError as error:
        return {"file": str(file), "error": f"{error.strerror or error}; expected a file that can be read"}
    except PlaitError as error:
        return {"file": str(file), "error": str(error)}
    return {
        "file": str(file), "declared": known.declared, "marked": known.is_marked, "evidence": round(float(known.evidence or 0), 2),
        "needed": known.needed,
    }  # fmt: skip


def _in_words(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return f"! {facts['error']}"
    declared = "".join(letter if letter.isprintable() else "?" for letter in facts["declared"])  # a stranger wrote it
    says = f"says that a model made it ({declared})" if declared else "says nothing of where it came from"
    mark = "has the mark" if facts["marked"] else "no mark found"
    return f"{says}; {mark} ({facts['evidence']:.1f} standard deviations, {facts['needed']:.1f} needed)"
