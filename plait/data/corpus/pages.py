"""Pages about a data set, from this folder's templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from plait.runtime.pages import grouped, write_file


def write_page(path: Path, template: str, **values: Any) -> None:
    """Renders a template of this package into the file `path`."""
    environment = Environment(
        loader=PackageLoader("plait.data.corpus", "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = grouped
    write_file(path, environment.get_template(template).render(**values))
