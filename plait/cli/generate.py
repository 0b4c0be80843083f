"""`plait generate`: any mix of inputs, settings as `key=value`; `plait fuse`: a medium and words to a new medium."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from plait import registry
from plait.cli.app import app, make_folder
from plait.errors import ConfigError

SETTINGS = ("seed", "steps", "guidance", "temperature", "max_tokens", "choices")  # of plait.infer.request.Request
FORMER = {  # flags that were settings once, by the name of the setting now
    "seed": "seed", "steps": "steps", "guidance": "guidance", "temperature": "temperature", "size": "image.size",
}  # fmt: skip
FUSED = Path("runs/fuse")  # what plait train fuse makes
USAGE = "plait generate RUN --text WORDS --image FILE --to audio seed=1 steps=20 image.size=28x28"


@dataclass
class CommandLine:
    """A parsed command line of `plait generate`: (modality, value) of the inputs in order, settings by dotted name."""

    checkpoint: Path | None = None
    inputs: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    former: dict[str, str] = field(default_factory=dict)  # settings that were given by a flag, as once


def parse_arguments(arguments: Sequence[str], kinds: Sequence[str]) -> CommandLine:
    """Parse `RUN --KIND VALUE ... key=value ...` in any order. Raises ConfigError for any other argument."""
    line = CommandLine()
    words = iter(arguments)
    for word in words:
        if word.startswith("--"):
            kind, equals, value = word[2:].partition("=")
            if kind in FORMER:
                line.former[FORMER[kind]] = value if equals else _next_value(word, words)
                continue
            if kind not in kinds:
                raise ConfigError(f"got {word}; expected one of {', '.join(f'--{name}' for name in kinds)}: {USAGE}")
            line.inputs.append((kind, value if equals else _next_value(word, words)))
        elif "=" in word and not Path(word).exists():
            key, _, value = word.partition("=")
            line.settings[key] = value
        elif line.checkpoint is None:
            line.checkpoint = Path(word)
        else:
            raise ConfigError(
                f"got {word!r} after the checkpoint {line.checkpoint}; expected --KIND VALUE or key=value: {USAGE}"
            )
    return line


def _next_value(flag: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise ConfigError(f"got {flag} without a value; expected one after it: {USAGE}")
    return value


def request_options(settings: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """Fields of `Request` from settings: `steps` is a field, `image.size` an option of a modality. Raises ConfigError for
    any other."""
    from plait.recipes.overrides import parse_value

    options: dict[str, Any] = {}
    for key, text in settings.items():
        value = parse_value(text) if isinstance(text, str) else text
        kind, dot, name = key.partition(".")
        if dot and kind in kinds and name:
            options.setdefault("options", {}).setdefault(kind, {})[name] = value
        elif key == "choices":
            options[key] = tuple(choice.strip() for choice in str(text).split(",")) if isinstance(text, str) else text
        elif key in SETTINGS:
            options[key] = value
        else:
            raise ConfigError(
                f"got the setting {key!r}; expected one of {', '.join(SETTINGS)}, or an option of a modality such as "
                "image.size=28x28"
            )
    return options


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
def generate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [--text WORDS | --image FILE | --audio FILE]... [key=value]...",
            help="A checkpoint, run folder or archive; inputs in their order, --KIND VALUE for every modality; settings: "
            "seed, steps (Euler steps a block), guidance (1: off), temperature (0: the likeliest token), max_tokens, "
            "choices (with --to text: one of these, such as choices=yes,no), "
            "image.size=WIDTHxHEIGHT. Those of the recipe where none are given.",
        ),
    ],
    to: Annotated[str, typer.Option(help="A modality, such as text, or auto: the model decides.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for pictures and sound.")] = Path("."),
    mark: Annotated[bool, typer.Option(help="Whether they say that a model made them.")] = True,
) -> None:
    """Answer any mix of inputs. Prints text; writes files and prints their names."""
    kinds = registry.available()
    line = parse_arguments(arguments, kinds)
    for setting, value in line.former.items():
        typer.echo(
            f"note: --{setting.rpartition('.')[2]} {value} is {setting}={value} now, and will go with the next release",
            err=True,
        )
        line.settings.setdefault(setting, value)
    if line.checkpoint is None:
        raise ConfigError(f"got no checkpoint; expected a run folder, a checkpoint or an archive: {USAGE}")
    if not line.inputs:
        raise ConfigError(
            f"nothing was asked; give at least one of {', '.join(f'--{kind}' for kind in kinds)}: {USAGE}"
        )
    options = request_options(line.settings, kinds)
    make_folder(out)  # before the work, not after it
    from plait import api

    parts = [api.Part(kind, value) for kind, value in line.inputs]
    reply = api.load(line.checkpoint).generate(parts, to=None if to == "auto" else to, **options)
    for number, part in enumerate(reply.parts):
        typer.echo(write_part(part, out, number, mark))


@app.command()
def fuse(
    medium: Annotated[
        Path, typer.Argument(metavar="PICTURE", help="A picture, or another medium that the model reads and writes.")
    ],
    words: Annotated[str, typer.Argument(help="What is to become of it.")],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[key=value]...", help="seed, steps, guidance, image.size=WIDTHxHEIGHT."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The new file.")] = Path("fused.png"),
    model: Annotated[Path, typer.Option(help="A checkpoint, run folder or archive.")] = FUSED,
    mark: Annotated[bool, typer.Option(help="Whether it says that a model made it.")] = True,
) -> None:
    """Make a new picture of a picture and words; the model for it: plait train fuse."""
    if odd := [word for word in settings or () if "=" not in word]:
        raise ConfigError(
            f"got {odd[0]!r} after the words; expected key=value: put what you want of the medium in one pair of quotes"
        )
    pairs = dict(word.split("=", 1) for word in settings or ())
    options = request_options(pairs, registry.available())
    kind = registry.kind_of_file(medium.suffix)
    if kind is None or not os.path.isfile(medium):  # not `Path.is_file`, which raises for a name that is too long
        raise ConfigError(f"got {medium}; expected a file that is there, of a kind such as .png")
    transfers = registry.transfers(kind)
    form = out.suffix.lower().removeprefix(".").replace("jpg", "jpeg")
    if transfers is None or form not in transfers.formats() or os.path.lexists(out):
        known = " or ".join(f".{name}" for name in (transfers.formats() if transfers else ()))
        raise ConfigError(
            f"got --out {out}; expected the name of a new file that ends in {known or 'nothing: it cannot be written'}"
        )
    if model == FUSED and not model.exists():
        raise ConfigError(
            f"{model} is not there; train it with plait train fuse, or name another with --model, such as smol"
        )
    make_folder(out.parent)
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"got --out {out}; expected a folder that may be written to")
    from plait import api

    reply = api.load(model).generate([api.Part(kind, str(medium)), words], to=kind, **options)
    answers = [part for part in reply.parts if part.type == kind]
    if not answers:
        raise ConfigError(
            f"{model} made nothing of the kind {kind}; expected a model that was trained to: plait train fuse"
        )
    marks = registry.marks(kind)
    data = transfers.encode(marks.mark(answers[0]) if marks is not None and mark else answers[0], form)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; expected a file that may be written") from error
    typer.echo(out)


def free_stem(out: Path, number: int) -> str:
    """answer-NUMBER, or with the next number that no file has, so that earlier answers stay."""
    while any(out.glob(f"answer-{number}.*")):
        number += 1
    return f"answer-{number}"


def write_part(part: Any, out: Path, number: int, mark: bool = True) -> str:
    """The value of a part that is printed; for other parts, writes a file to `out`, with the `mark` of what a model made, and
    returns its name."""
    renders, marks = registry.renders(part.type), registry.marks(part.type)
    if marks is not None and mark:
        part = marks.mark(part)
    if renders is None:
        return str(part.value)
    path = renders.save(part, out, free_stem(out, number))
    return str(part.value) if path is None else str(path)
