"""A lens as a page in one file: layers by tokens, as logit lenses are shown; of a flow answer, its parts as layers predict them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup

from plait import registry
from plait.contract import Modality
from plait.errors import RowError
from plait.explain.explanation import place_in_words
from plait.explain.lens import AtTime, FlowReading, IdReading, Lens, TokenLens
from plait.explain.page import part_html

PAGE = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plait · layers</title><style>{style}
body {{ display: block; padding: 1.5rem; height: auto; }}
.lens {{ overflow-x: auto; margin-block: 1rem; }}
.lens table {{ border-collapse: collapse; font-size: .85rem; width: auto; }}
.lens th, .lens td {{ padding: .15rem .4rem; border: 1px solid var(--line); text-align: center; white-space: pre; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; }}
.lens tbody th {{ position: sticky; inset-inline-start: 0; background: var(--back); color: var(--soft); font-weight: 400; }}
.lens .came {{ font-weight: 700; }}
.lens .shown {{ max-width: none; padding: .2rem; }}
.lens .shown img {{ display: block; margin-inline: auto; image-rendering: pixelated; }}
.lens .shown audio {{ display: block; width: 14rem; height: 2rem; }}</style></head>
<body><h1>{title}</h1>
<p class="soft">{caption}</p>
{tables}
</body></html>
""")
OF_IDS = (
    "Each cell is the likeliest token if the model ended after so many layers, redder the more probable; bold where it is the one that came. "
    "A cell's title has the next ones."
)
OF_FLOW = (
    "Distances of predicted tokens to the data (root mean square), redder the nearer to the best; below, the answer as it is predicted after "
    "so many layers from what noise leaves of it."
)
TABLE = Markup(
    '<div class="lens"><table><thead><tr><th>layers</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
)
HOT = "217, 72, 15"  # as in heat.js
PICTURED = 3  # noised copies of which predictions are shown
MOST_ROWS = 16  # layers of which predictions are shown


def lens_page(lens: Lens, modality: Modality) -> str:
    """The page of a lens on an answer of a modality."""
    layers = list(range(lens.layers, -1, -1))
    heads = [_heading(lens, number, token) for number, token in enumerate(lens.tokens)]
    readings = [token.reading for token in lens.tokens]
    tables = [table(heads, layers, [[_cell(reading, layer) for reading in readings] for layer in layers])]
    if lens.times:
        tables.append(_by_time(lens.times, layers))
        tables.append(_predictions(lens, modality))
    return filled("What the layers make of this answer", OF_FLOW if lens.times else OF_IDS, tables)


def filled(title: str, caption: str, tables: Sequence[Markup]) -> str:
    """The page with tables."""
    style = Markup((files("plait") / "web" / "style.css").read_text(encoding="utf-8"))
    return PAGE.format(style=style, title=title, caption=caption, tables=Markup("\n").join(tables))


def _heading(lens: Lens, number: int, token: TokenLens) -> Markup:
    where = place_in_words(lens.answer.parts[lens.part].type, token.region)
    return Markup('<th title="{}">{}</th>').format(where, token.label or number + 1)


def table(heads: Sequence[Markup], layers: Sequence[int], cells: Sequence[Sequence[Markup]]) -> Markup:
    """A row a number of layers."""
    rows = [
        Markup("<tr><th>{}</th>{}</tr>").format(layer, Markup("").join(row))
        for layer, row in zip(layers, cells, strict=True)
    ]
    return TABLE.format(heads=Markup("").join(heads), rows=Markup("\n").join(rows))


def _cell(reading: IdReading | FlowReading, layer: int) -> Markup:
    if isinstance(reading, FlowReading):
        share = min(reading.to_data) / max(reading.to_data[layer], 1e-9)
        title = f"to the last layer's prediction {reading.to_last[layer]:.3f}"
        return heated(f"{reading.to_data[layer]:.2f}", share, title)
    first = reading.best[layer][0]
    others = "\n".join(f"{choice.probability:.3f} {choice.text}" for choice in reading.best[layer])
    title = f"{others}\nwhat came: {reading.probability[layer]:.3f}, rank {reading.rank[layer] + 1}"
    name = first.text if first.text.strip() else repr(first.text)
    return heated(name, first.probability, title, first.id == reading.id)


def heated(text: str, share: float, title: str, came: bool = False) -> Markup:
    """A cell, redder the larger its share from 0 to 1."""
    return Markup('<td{} style="background: rgba({}, {:.3f})" title="{}">{}</td>').format(
        Markup(' class="came"') if came else "", HOT, 0.85 * min(1.0, max(0.0, share)), title, text
    )


def _by_time(times: Sequence[AtTime], layers: Sequence[int]) -> Markup:
    heads = [Markup("<th>time {:.2f}</th>").format(one.time) for one in times]
    return table(heads, layers, [[_cell(one.reading, layer) for one in times] for layer in layers])


def _predictions(lens: Lens, modality: Modality) -> Markup:
    """The answer as some layers predict it from some of its noised copies."""
    copies = sorted({round(n * (len(lens.times) - 1) / (PICTURED - 1)) for n in range(PICTURED)})
    step = -(-(lens.layers + 1) // MOST_ROWS)
    layers = list(range(lens.layers, -1, -step))
    heads = [Markup("<th>time {:.2f}</th>").format(lens.times[copy].time) for copy in copies]
    cells = [
        [Markup('<td class="shown">{}</td>').format(_shown(lens, modality, layer, copy)) for copy in copies]
        for layer in layers
    ]
    return table(heads, layers, cells)


def _shown(lens: Lens, modality: Modality, layer: int, copy: int) -> Markup:
    """A prediction as its modality shows it."""
    if registry.renders(modality.name) is None:
        return Markup("")
    try:
        return Markup(part_html(modality.write(lens.segment_at(layer, copy))))
    except RowError as error:
        return Markup.escape(str(error))
