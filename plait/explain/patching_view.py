"""What comes back by patching, for pages: layers by groups of tokens."""

from __future__ import annotations

from plait.explain.patching import Patching, in_words
from plait.explain.view import Cell, LayerTable, View

TITLE = "Where the answer is"
CAPTION = (
    "The model reads another question, but after so many layers the states of these tokens are those of the question: the share of the "
    "difference between the two scores that comes back, redder the more. Down a column: until where the answer can be read from these tokens."
)


def patching_view(patching: Patching) -> View:
    """The table; none where nothing is telling."""
    if not patching.is_telling:
        return View("untelling", TITLE, patching.caption, figures=patching.figures)
    heads = [(label, "") for label in patching.labels]
    columns = list(zip(patching.labels, patching.restored, strict=True))
    layers = list(range(len(patching.restored[0]) - 1, -1, -1))
    cells = [[Cell(in_words(shares[layer]), shares[layer], label) for label, shares in columns] for layer in layers]
    return View(
        "patched", TITLE, f"{CAPTION} {patching.caption}.", [LayerTable(heads, layers, cells)], patching.figures
    )
