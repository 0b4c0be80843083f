"""Other people's formats to rows. One file an importer; a new one is found by being there.

An importer module has `HELP` (one line: what it reads), `matches(source)` (whether this looks like its format) and
`records(source)`, which yields what there is; `SIGNS` and `GENERALITY` if it wants them. What importers share is in
`core`: the walk over files, the reader of lists, the search for the files that they name, boxes, and the report of what
is passed over. `run` takes the records: media are checked and copied beside the rows under a name by their content, and
rows are split by content where the source gives no splits.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from plait.data.importers.core.intake import Intake
from plait.data.importers.core.records import Record, split_in
from plait.data.importers.core.report import Report
from plait.data.importers.core.source import Source
from plait.data.importers.core.writer import Writer, by_content
from plait.errors import ConfigError, DataError, PlaitError

__all__ = [
    "Importer",
    "Record",
    "Report",
    "Source",
    "Writer",
    "by_content",
    "detect",
    "importer",
    "names",
    "run",
    "split_in",
]


class Importer(Protocol):
    """What a module of this package provides. It may also have `SIGNS`, modalities and endings of files that its sources
    have, and `GENERALITY`: of several formats that match the one with the smallest is meant (0 if it does not say)."""

    HELP: str

    def matches(self, source: Source) -> bool: ...

    def records(self, source: Source) -> Iterator[Record]:
        """What the source holds. Entries that cannot be used are passed over in `source.report`."""


def names() -> tuple[str, ...]:
    """Importers that are there: the modules of this package, but not its folders."""
    return tuple(sorted(entry.name for entry in pkgutil.iter_modules(__path__) if not entry.ispkg))


def importer(name: str) -> Importer:
    """The importer `name`. Raises ConfigError."""
    if name not in names():
        raise ConfigError(f"unknown format {name!r}; expected one of {', '.join(names())}")
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]


def detect(path: Path) -> str:
    """The one format that a file or folder looks like. Raises DataError when there is none, or more than one."""
    return _detect(Source(path))


def _detect(source: Source) -> str:
    if not source.path.exists():
        raise DataError(f"{source.path} is not there; expected a file or folder to import")
    matching, problems = [], []
    for name in names():
        try:
            if importer(name).matches(source):
                matching.append(name)
        except DataError as error:
            problems.append(error)
        except Exception as error:  # a stranger's file may have anything in it
            problems.append(DataError(f"{source.path} as {name}: {error!r}; expected {importer(name).HELP}"))
    least = min((getattr(importer(name), "GENERALITY", 0) for name in matching), default=0)
    meant = [name for name in matching if getattr(importer(name), "GENERALITY", 0) == least]
    if len(meant) == 1:
        return meant[0]
    if not meant and problems:
        raise problems[0]
    choice = f"name it with --format ({', '.join(names())})"
    if meant:
        raise DataError(f"{source.path} looks like {' and '.join(meant)}; expected one: {choice}")
    nearest = _nearest(source)
    raise DataError(
        f"{source.path} looks like none of the known formats: there is {source.seen()}; expected one: {choice}"
        + (f"; nearest is {nearest}: {importer(nearest).HELP}" if nearest else "")
    )


def _nearest(source: Source) -> str:
    """The format of whose signs the most are there, of several the most general; nothing where there are none."""
    here = {kind for _, kind in source.media}

    def fit(name: str) -> tuple[int, int]:
        module = importer(name)
        count = sum(sign in here or bool(source.ending(sign)) for sign in getattr(module, "SIGNS", ()))
        return count, getattr(module, "GENERALITY", 0)

    nearest = max(names(), key=fit)
    return nearest if fit(nearest)[0] else ""


def run(
    path: Path, folder: Path, form: str | None = None, say: Callable[[str], None] = print, strict: bool = False
) -> dict[str, int]:
    """Import a file or folder into the new `folder`; returns rows by split. `strict` stops at the first entry that cannot be
    used; otherwise such entries are passed over, if they are not more than a tenth. Raises ConfigError, DataError."""
    source = Source(path, Report(strict))
    name = form or _detect(source)
    writer = Writer(folder)  # refuses a folder that is in use or cannot be written, before any work
    say(f"reading {path} as {name}: {importer(name).HELP}")
    with writer:
        try:
            counts = _convert(source, name, writer)
            writer.note({"format": 1, "imported": {"from": str(path), "as": name}, "rows": counts})
        except PlaitError:
            writer.discard()
            raise
        except Exception as error:  # a reader may raise anything for a damaged source
            writer.discard()
            where = f" near {source.report.current}" if source.report.current else ""
            raise DataError(
                f"{path} as {name}{where}: {error!r}; expected {importer(name).HELP}: is the source whole?"
            ) from error
        except BaseException:
            writer.discard()
            raise
    for line in source.report.lines():
        say(line)
    return counts


def _convert(source: Source, name: str, writer: Writer) -> dict[str, int]:
    """Write all rows of the source; returns their numbers by split. Raises DataError where there is too little to learn
    from."""
    intake, report = Intake(), source.report
    for record in importer(name).records(source):
        source.use(
            *(
                part.value
                for message in record.sample.messages
                for part in message.parts
                if isinstance(part.value, Path)
            )
        )
        with report.entry(record.where):
            writer.add(intake.checked(record))
            report.take(record.where)
    report.check_share()
    source.account()
    counts = writer.finish()
    if not counts.get("train"):
        counted = ", ".join(f"{count} of {split}" for split, count in counts.items()) or "none at all"
        raise DataError(
            f"{source.path} as {name} gave no training rows ({counted}); expected some: is it the format that you mean? "
            + "; ".join(report.lines())
        )
    return counts
