"""What comes back by patching, as a page in one file: layers by groups of tokens."""

from __future__ import annotations

from markupsafe import Markup

from plait.explain.lens_page import filled, heated, table
from plait.explain.patching import Patching, in_words

CAPTION = (
    "The model reads another question, but after so many layers the states of these tokens are those of the question: the share of the "
    "answer's score that comes back, redder the more. Down a column: until where the answer is in these tokens."
)


def patching_page(patching: Patching) -> str:
    """The page."""
    heads = [Markup("<th>{}</th>").format(label) for label in patching.labels]
    layers = range(len(patching.restored[0]) - 1, -1, -1)
    cells = [[heated(in_words(shares[layer]), shares[layer], label) for label, shares in zip(patching.labels, patching.restored, strict=True)] for layer in layers]  # fmt: skip
    return filled("Where the answer is", CAPTION, [table(heads, layers, cells)])
