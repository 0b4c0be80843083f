"""`plait patch`: in which tokens, after which layers, an answer is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.app import app
from plait.cli.explain import AnswerGiven, Html, Inputs, Json, Out, To, asked, part_of, tell

USAGE = "plait patch RUN --text 'Say two.' --counterfactual 'Say nine.'"


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
def patch(
    arguments: Inputs,
    counterfactual: Annotated[
        str, typer.Option(help="Words, or a file, in the place of the part of that kind: of as many tokens.")
    ],
    to: To = "auto",
    answer: AnswerGiven = None,
    html: Html = None,
    json: Json = None,
    out: Out = Path("."),
) -> None:
    """Say in which tokens, and after which layers, what makes the answer is: have the model read a counterfactual in which some states are
    those of the question, and see how much of the answer's score comes back."""
    from plait.api import explaining

    other = part_of(counterfactual, "--counterfactual")
    line = asked(arguments, to, out, USAGE)
    changed = explaining.instead(line.question, other)  # before the model answers, not after it
    reply = line.answered(answer, out)
    patching = line.model.patch_reply((line.question,), (changed,), reply)
    page, numbers = (lambda: explaining.view_of(line.model, patching).page()), (lambda: patching.to_json() + "\n")
    tell(patching.table(), {html: page, json: numbers})
