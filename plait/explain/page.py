"""Explanations of an answer as a page in one file: heat over words, pictures and seconds, and how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from plait import registry
from plait.contract import WORDS, Part
from plait.errors import RowError
from plait.explain.explanation import Explanation, figures_of, outcome_of, sentence

PAGE = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plait · why</title><style>{style}
body {{ display: block; padding: 1.5rem; height: auto; }}</style></head>
<body><h1>What this answer hangs on</h1>
<p class="soft">Red speaks for the answer, blue against it. A token of the answer in a frame can be chosen.</p>
<div class="heat" id="heat"></div>
<script type="application/json" id="told">{told}</script>
<script type="module">{script}
new Heat(document.getElementById("heat"), JSON.parse(document.getElementById("told").textContent));</script>
</body></html>
""")


def described(explanation: Explanation) -> dict[str, Any]:
    """An explanation for pages: media as HTML, and what is to be said of each map."""
    entry = explanation.as_dict()
    for message, of_message in zip((*explanation.messages, explanation.answer), entry["messages"], strict=True):
        for part, of_part in zip(message.parts, of_message["parts"], strict=True):
            if part.type != WORDS:
                of_part["html"] = part_html(part)
    for one, of_map in zip(explanation.maps, entry["maps"], strict=True):
        of_map |= {
            "outcome": outcome_of(one.verdict),
            "figures": figures_of(one.verdict),
            "sentence": sentence(one.verdict),
        }
    return entry


def part_html(part: Part) -> str:
    """A part as its modality shows it, or its kind."""
    renders = registry.renders(part.type)
    try:
        return str(renders.html(part)) if renders is not None else str(Markup.escape(part.type))
    except RowError as error:
        return str(Markup.escape(str(error)))


def page(explanations: Sequence[Explanation]) -> str:
    """One page of explanations of the same answer, by several methods."""
    web = files("plait") / "web"
    data = json.dumps([described(one) for one in explanations], ensure_ascii=False)
    return PAGE.format(
        style=Markup((web / "style.css").read_text(encoding="utf-8") + (web / "heat.css").read_text(encoding="utf-8")),
        told=Markup(data.replace("<", "\\u003c")),
        script=Markup((web / "heat.js").read_text(encoding="utf-8")),
    )
