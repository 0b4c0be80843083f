"""Words as they are compared."""

from __future__ import annotations

import re
import unicodedata


def plain_words(words: str) -> str:
    """Words normalised for comparison: compatibility form, no case, no punctuation, single blanks."""
    folded = unicodedata.normalize("NFKC", words).casefold()
    letters = "".join(" " if unicodedata.category(letter)[0] in "PSZ" else letter for letter in folded)
    return re.sub(r"\s+", " ", letters).strip()
