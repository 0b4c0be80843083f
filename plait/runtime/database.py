"""A file of SQLite that holds what people say, from the moment on that they are told so."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from plait.errors import ConfigError, DataError

CHECKPOINTS = 100


class StorageError(DataError):
    """Something could not be kept, as on a full disk; it has to be sent again."""


class Database:
    """The file at `path`, which is made with the tables of the `schema` if they are missing. A kill at any moment loses nothing that was
    answered for. Raises ConfigError; `expected` says which file would do."""

    def __init__(self, path: Path, schema: str, expected: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)  # before SQLite does: what people say is for nobody else
            with closing(self._open()) as file:
                file.execute("PRAGMA journal_mode = WAL")
                file.executescript(schema)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"{path}: {error}; expected {expected}") from error

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        file.execute("PRAGMA secure_delete = ON")
        return file

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with closing(self._open()) as file:
            return file.execute(query, values).fetchall()

    def vacuum(self) -> None:
        """Write the file anew without what was deleted, in its pages or in its log."""
        with closing(self._open()) as file:
            file.execute("VACUUM")
        self._truncate_log()

    def removed(self, query: str, *values: object) -> int:
        """How many rows a query deletes, for good: nothing of them is left in the file."""
        with closing(self._open()) as file:
            count = file.execute(query, values).rowcount
        if count:
            self._truncate_log()
        return count

    def _truncate_log(self) -> None:
        with closing(self._open()) as file:
            for _ in range(CHECKPOINTS):  # a reader may hold it up
                if not file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    break
                time.sleep(0.05)
