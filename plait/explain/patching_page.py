"""What comes back by patching, as a page in one file: layers by groups of tokens."""

from __future__ import annotations

from markupsafe import Markup

from plait.explain.lens_page import filled, heated, table
from plait.explain.patching import Patching, in_words

CAPTION = (
    "The model reads another question, but after so many layers the states of these tokens are those of the question: the share of the "
    "difference between the two scores that comes back, redder the more. Down a column: until where the answer can be read from these tokens."
)


def patching_page(patching: Patching) -> str:
    """The page."""
    if not patching.is_telling:
        return filled("Where the answer is", patching.caption, [])
    heads = [Markup("<th>{}</th>").format(label) for label in patching.labels]
    columns = list(zip(patching.labels, patching.restored, strict=True))
    layers = range(len(patching.restored[0]) - 1, -1, -1)
    cells = [[heated(in_words(shares[layer]), shares[layer], label) for label, shares in columns] for layer in layers]
    return filled("Where the answer is", f"{CAPTION} {patching.caption}.", [table(heads, layers, cells)])
