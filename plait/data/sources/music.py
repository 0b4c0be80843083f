"""Five tunes cut into pieces, as examples of music. 8 kHz WAV, from Asterisk's music on hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import soundfile

from plait.data.sources import Entry, Source
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package(
    "apt", "asterisk-moh-opsound-wav", "2.03-1.1", "8f9d808a729d305c2d3343993f21ca5e6829e411682618dc8ea7aa8bc24a566c"
)
SOURCE = Source(
    name="music",
    what="pieces of five tunes",
    packages=(PACKAGE,),
    licence="CC BY-SA 3.0",
    attribution="music by Paul Shuler (Macroform), Manolo Camp and Reno Project, from opsound.org",
    public="https://packages.debian.org/bookworm/asterisk-moh-opsound-wav",
    size=17,
    share_alike=True,
)
PIECE = 6  # seconds


def entries(folder: Path) -> Iterator[Entry]:
    """Consecutive pieces of PIECE seconds without the shorter rest; the key is the tune.

    Raises DataError for damaged data.
    """
    root = folder / PACKAGE.folder / "usr" / "share" / "asterisk" / "moh"
    tunes = sorted(root.glob("*.wav"))
    if not tunes:
        raise DataError(f"{root} holds no .wav files; delete {PACKAGE.folder} and fetch it again")
    for path in tunes:
        try:
            with soundfile.SoundFile(path) as tune:
                rate, pieces = tune.samplerate, tune.frames // (PIECE * tune.samplerate)
                for number in range(pieces):
                    clip = (tune.read(PIECE * rate, dtype="float32"), rate)
                    facts = {"category": "music", "title": path.stem, "start": number * PIECE}
                    yield Entry("sound", path.stem, {"sound": clip}, {"en": "music"}, facts)
        except (RuntimeError, OSError) as error:
            raise DataError(f"{path} is no sound file ({error}); delete its package and fetch it again") from error
