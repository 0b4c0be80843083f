"""What layers make of something, as tables of layers by tokens: data for the pages, or a page in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from markupsafe import Markup

HOT, HEAT = "217, 72, 15", 0.55  # as in heat.js
PAGE = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plait · layers</title><style>{style}
body {{ display: block; padding: 1.5rem; height: auto; }}</style></head>
<body><h1>{title}</h1>
<p class="soft">{caption}</p>
{tables}
</body></html>
""")
TABLE = Markup(
    '<div class="lens" tabindex="0"><table><thead><tr><th scope="col">layers</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
)


@dataclass(frozen=True)
class Cell:
    """`text`, redder the larger its `share` from 0 to 1, in bold if it `came`; `title` says more. Or the `html` of a medium."""

    text: str = ""
    share: float = 0.0
    title: str = ""
    came: bool = False
    html: str = ""

    def markup(self) -> Markup:
        """As an element."""
        if self.html:
            return Markup('<td class="shown">{}</td>').format(Markup(self.html))
        heat = f"{HEAT * min(1.0, max(0.0, self.share)):.3f}"
        return Markup('<td{} style="background: rgba({}, {})" title="{}">{}</td>').format(
            Markup(' class="came"') if self.came else "", HOT, heat, self.title, self.text
        )


@dataclass(frozen=True)
class LayerTable:
    """A row of `cells` for each number of `layers`; `heads`: the text and the title of each column."""

    heads: Sequence[tuple[str, str]]
    layers: Sequence[int]
    cells: Sequence[Sequence[Cell]]

    def markup(self) -> Markup:
        """As an element."""
        heads = [Markup('<th scope="col" title="{}">{}</th>').format(title, text) for text, title in self.heads]
        rows = [
            Markup('<tr><th scope="row">{}</th>{}</tr>').format(layer, Markup("").join(cell.markup() for cell in row))
            for layer, row in zip(self.layers, self.cells, strict=True)
        ]
        return TABLE.format(heads=Markup("").join(heads), rows=Markup("\n").join(rows))


@dataclass(frozen=True)
class View:
    """Tables under a title and a caption; in other languages those of its `kind`, with the `figures` that they name."""

    kind: str
    title: str
    caption: str
    tables: Sequence[LayerTable] = ()
    figures: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the pages, which draw it themselves."""
        return asdict(self)

    def page(self) -> str:
        """A page in one file."""
        web = files("plait") / "web"
        style = "".join((web / name).read_text(encoding="utf-8") for name in ("style.css", "heat.css"))
        tables = Markup("\n").join(table.markup() for table in self.tables)
        return PAGE.format(style=Markup(style), title=self.title, caption=self.caption, tables=tables)
