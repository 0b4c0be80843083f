"""A lens for pages: layers by tokens, as logit lenses are shown; of a flow answer, its parts as layers predict them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plait import registry
from plait.contract import Modality
from plait.errors import RowError
from plait.explain.explanation import place_in_words
from plait.explain.lens import AtTime, FlowReading, IdReading, Lens, TokenLens
from plait.explain.page import part_html
from plait.explain.view import Cell, LayerTable, View

OF_IDS = (
    "Each cell is the likeliest token if the model ended after so many layers, redder the more probable; bold where it is the one that came. "
    "A cell's title has the next ones."
)
OF_FLOW = (
    "Distances of predicted tokens to the data (root mean square), redder the nearer to the best; below, the answer as it is predicted after "
    "so many layers from what noise leaves of it."
)
PICTURED = 3  # noised copies of which predictions are shown
MOST_ROWS = 16  # layers of which predictions are shown


def lens_view(lens: Lens, modality: Modality, check: Callable[[], object] = lambda: None) -> View:
    """The tables of a lens on an answer of a modality. `check` is called before each medium that is written."""
    layers = list(range(lens.layers, -1, -1))
    heads = [_heading(lens, number, token) for number, token in enumerate(lens.tokens)]
    readings = [token.reading for token in lens.tokens]
    tables = [LayerTable(heads, layers, [[_cell(reading, layer) for reading in readings] for layer in layers])]
    if lens.times:
        tables.append(_by_time(lens.times, layers))
        tables.append(_predictions(lens, modality, check))
    kind, caption = ("flow", OF_FLOW) if lens.times else ("ids", OF_IDS)
    return View(kind, "What the layers make of this answer", caption, tables)


def _heading(lens: Lens, number: int, token: TokenLens) -> tuple[str, str]:
    where = place_in_words(lens.answer.parts[lens.part].type, token.region)
    return token.label or str(number + 1), where


def _cell(reading: IdReading | FlowReading, layer: int) -> Cell:
    if isinstance(reading, FlowReading):
        share = min(reading.to_data) / max(reading.to_data[layer], 1e-9)
        title = f"to the last layer's prediction {reading.to_last[layer]:.3f}"
        return Cell(f"{reading.to_data[layer]:.2f}", share, title)
    first = reading.best[layer][0]
    others = "\n".join(f"{choice.probability:.3f} {choice.text}" for choice in reading.best[layer])
    title = f"{others}\nwhat came: {reading.probability[layer]:.3f}, rank {reading.rank[layer] + 1}"
    name = first.text if first.text.strip() else repr(first.text)
    return Cell(name, first.probability, title, first.id == reading.id)


def _by_time(times: Sequence[AtTime], layers: Sequence[int]) -> LayerTable:
    heads = [(f"time {one.time:.2f}", "") for one in times]
    return LayerTable(heads, layers, [[_cell(one.reading, layer) for one in times] for layer in layers])


def _predictions(lens: Lens, modality: Modality, check: Callable[[], object]) -> LayerTable:
    """The answer as some layers predict it from some of its noised copies."""
    copies = sorted({round(n * (len(lens.times) - 1) / (PICTURED - 1)) for n in range(PICTURED)})
    step = -(-(lens.layers + 1) // MOST_ROWS)
    layers = list(range(lens.layers, -1, -step))
    heads = [(f"time {lens.times[copy].time:.2f}", "") for copy in copies]
    return LayerTable(
        heads, layers, [[_shown(lens, modality, layer, copy, check) for copy in copies] for layer in layers]
    )


def _shown(lens: Lens, modality: Modality, layer: int, copy: int, check: Callable[[], object]) -> Cell:
    """A prediction as its modality shows it."""
    check()
    if registry.renders(modality.name) is None:
        return Cell()
    try:
        return Cell(html=part_html(modality.write(lens.segment_at(layer, copy))))
    except RowError as error:
        return Cell(str(error))
