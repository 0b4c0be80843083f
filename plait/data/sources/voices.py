"""Three more voices with telephone prompts: an Italian, a French and a Colombian, at 8 kHz.

Their packages have no transcripts, and their wording may differ from that of the source `prompts`: they serve tasks about
speakers and languages alone. Files are WAV, or GSM 06.10 without a header (`.gsm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from plait.data.sources import Entry, Medium, Source, left_out
from plait.data.sources.fetch import Package
from plait.data.sources.prompts import NO_SPEECH, TOO_LONG, is_speech
from plait.data.sources.recordings import MOST_SECONDS, seconds_of
from plait.errors import DataError

RATE = 8_000  # of GSM


@dataclass(frozen=True)
class Voice:
    """A speaker, the language, the licence, and the folder of the package with the recordings."""

    speaker: str
    language: str
    licence: str
    package: Package
    folder: str


VOICES = (
    Voice("voices-menardi", "it", "CC BY-SA 3.0 IT", Package("apt", "asterisk-prompt-it-menardi-wav", "1:1.4.22+mm20110907-3.1", "3094530d98f8758ac275572d59624c41f60969fef883f34f4886d144f3dfeb21"), "it_IT_f_Menardi"),
    Voice("voices-armelle", "fr", "BSD-like", Package("apt", "asterisk-prompt-fr-armelle", "20070613-2.2", "162570b1a9b3512a98f06b89f60c7c17cf1b9b52297315adca9a4e5be728bea3"), "fr"),
    Voice("voices-jimenez", "es", "GPL-2.0-only", Package("apt", "asterisk-prompt-es-co", "0.20070403-2.1", "6702696e045514699e87dc8fb70f370717e5df91f821f7bec8dd0df1be008e83"), "es"),
)  # fmt: skip

SOURCE = Source(
    name="voices",
    what="telephone prompts spoken by three more voices, without transcripts",
    packages=tuple(voice.package for voice in VOICES),
    licence="by voice: Menardi CC BY-SA 3.0 IT, Armelle BSD-like, Jiménez GPL-2.0-only",
    attribution=(
        "Italian prompts made by Marco Menardi and Paola Dal Zot, http://www.voip.ammdomus.it; French prompts spoken by "
        "Armelle Desjardins, copyright Michel Gutierrez; Spanish prompts spoken by July E. Jiménez, copyright Avatar Ltda."
    ),
    public="https://packages.debian.org/bookworm/asterisk-prompt-it-menardi-wav and the packages named beside it",
    size=30,
    share_alike=True,
)


def _read(path: Path) -> tuple[Medium, float]:
    """A clip and its seconds; GSM is decoded, since its files have no header. Raises DataError."""
    if path.suffix == ".wav":
        return path, seconds_of(path)
    try:
        samples, _ = soundfile.read(path, dtype="float32", format="RAW", subtype="GSM610", samplerate=RATE, channels=1)
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path} is no GSM 06.10 ({error}); delete its package and fetch it again") from error
    return (samples, RATE), len(samples) / RATE


def entries(folder: Path) -> Iterator[Entry]:
    """Clips voice by voice; the key is the prompt, as in the source `prompts`. Raises DataError for damaged data."""
    for voice in VOICES:
        root = folder / voice.package.folder / "usr" / "share" / "asterisk" / "sounds" / voice.folder
        recordings = sorted(path for path in root.rglob("*") if path.suffix in (".gsm", ".wav"))
        if not recordings:
            raise DataError(f"{root} holds no .gsm or .wav files; delete {voice.package.folder} and fetch it again")
        for path in recordings:
            prompt = path.relative_to(root).with_suffix("").as_posix()
            clip, seconds = _read(path)
            reason = NO_SPEECH if not is_speech(prompt) else TOO_LONG if seconds > MOST_SECONDS else ""
            if reason:
                yield left_out(reason, f"{voice.speaker} {prompt}")
                continue
            facts = {"speaker": voice.speaker, "language": voice.language, "prompt": prompt, "licence": voice.licence}
            yield Entry("speech", prompt, {"speech": clip}, facts=facts)
