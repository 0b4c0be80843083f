"""`plait explain`: what an answer hangs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from plait import registry
from plait.cli.app import app, make_folder
from plait.cli.generate import parse_arguments, request_options, write_part
from plait.contract import WORDS
from plait.errors import ConfigError

if TYPE_CHECKING:
    from plait.api.model import Model
    from plait.contract import Message, Part

USAGE = "plait explain RUN --image 7.png --text 'Which digit is this?' --html why.html"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN [--text WORDS | --image FILE | --audio FILE]... [key=value]...",
        help="A checkpoint or run folder; inputs in their order; settings, as for plait generate.",
    ),
]
To = Annotated[str, typer.Option(help="A modality, such as text, or auto: the model decides.")]
AnswerGiven = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="This answer instead of the model's own: words, or a file."),
]
Html = Annotated[Optional[Path], typer.Option(help="Write a page.")]  # noqa: UP045
Json = Annotated[Optional[Path], typer.Option(help="Write all numbers.")]  # noqa: UP045
Out = Annotated[Path, typer.Option(help="Folder for pictures and sound of the answer.")]


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
def explain(
    arguments: Inputs,
    to: To = "auto",
    answer: AnswerGiven = None,
    of: Annotated[
        str,
        typer.Option(
            help="answer; or token (patch, frame): each by itself; or one of them: token:2. Or layers: what each makes of the answer."
        ),
    ] = "answer",
    method: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="shapley, masking, relevance... Again for more; or all."),
    ] = None,
    html: Html = None,
    json: Json = None,
    out: Out = Path("."),
) -> None:
    """Say what an answer hangs on: which words, pieces of pictures and seconds of sound, and whether that is more than chance. Or what
    it would be if the model ended after each of its layers."""
    from plait.api import explaining

    methods = explaining.methods(method or [], of)  # before the work, not after it
    line = asked(arguments, to, out, USAGE)
    reply = line.answered(answer, out)
    summary, as_page, as_json = _outcome(line.model, line.question, reply, of, methods)
    tell(summary, {html: as_page, json: as_json})


@dataclass
class Asked:
    """A question on a command line, of a model. `to`: what is to be answered; `options` of the answer."""

    model: Model
    question: Message
    to: str
    options: Mapping[str, object]

    def answered(self, answer: str | None, out: Path) -> Message:
        """The model's own answer, which is printed, or the one that is given: words, or a file. Raises ConfigError, RowError."""
        from plait.contract import Message

        if answer is not None:
            if self.options:
                raise ConfigError(
                    f"got {next(iter(self.options))} with --answer; expected one of them: nothing is drawn then"
                )
            part = part_of(answer, "--answer")
            if self.to not in ("auto", part.type):
                raise ConfigError(
                    f"got --to {self.to} with an --answer of {part.type}; expected --to {part.type}, or none"
                )
            return Message("assistant", (part,))
        reply = self.model.reply((self.question,), to=None if self.to == "auto" else self.to, **self.options)
        for number, part in enumerate(reply.parts):
            typer.echo(write_part(part, out, number))
        return reply


def asked(arguments: list[str], to: str, out: Path, usage: str) -> Asked:
    """The question of a command line, and its model. Raises ConfigError, RowError."""
    kinds = registry.available()
    line = parse_arguments(arguments, kinds)
    if line.checkpoint is None or not line.inputs:
        raise ConfigError(f"got {'no input' if line.checkpoint else 'no checkpoint'}; expected both: {usage}")
    from plait import api
    from plait.contract import Message, Part

    options = request_options(line.settings, kinds)
    make_folder(out)
    question = Message("user", tuple(Part(kind, value) for kind, value in line.inputs))
    return Asked(api.load(line.checkpoint), question, to, options)


def tell(summary: str, files: Mapping[Path | None, Callable[[], str]]) -> None:
    """Print a summary, and write the files that were asked for."""
    from plait.runtime import pages

    typer.echo(summary)
    for path, content in files.items():
        if path is not None:
            pages.write_file(path, content())
            typer.echo(path)


def _outcome(
    model: Model, question: Message, reply: Message, of: str, methods: Sequence[str]
) -> tuple[str, Callable[[], str], Callable[[], str]]:
    """What is to be said of an answer: as text, and what makes a page and JSON of it. Raises ConfigError, RowError."""
    from plait.api import explaining

    if of == explaining.LAYERS:
        lens = model.lens_reply((question,), reply)
        return lens.table(), lambda: explaining.view_of(model, lens).page(), lambda: lens.to_json() + "\n"
    explanations = [model.explain_reply((question,), reply, of=of, method=name) for name in methods]
    tables = [f"{one.method}:\n{one.table()}" if len(explanations) > 1 else one.table() for one in explanations]
    return "\n".join(tables), lambda: explaining.page(explanations), lambda: explaining.as_json(explanations)


def part_of(value: str, option: str) -> Part:
    """What an option gives: a file by its name, else words. Raises ConfigError."""
    from plait.contract import Part

    kind = registry.kind_of_file(Path(value).suffix)
    if kind is None:
        return Part(WORDS, value)
    if not os.path.isfile(value):  # not `Path.is_file`, which raises for a name that is too long
        raise ConfigError(f"got {option} {value}; expected words, or a file that is there")
    return Part(kind, value)
