"""Names of persons, as they are kept."""

from __future__ import annotations

import unicodedata

from plait.errors import ConfigError

LONGEST = 100  # characters


def canonical(name: str) -> str:
    """A name in one spelling (NFC), with single blanks. Raises ConfigError for one that is empty, too long or not printable."""
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not tidy or len(tidy) > LONGEST or not tidy.isprintable():
        raise ConfigError(f"got the name {name!r:.60}; expected one of up to {LONGEST} printable characters")
    return tidy
