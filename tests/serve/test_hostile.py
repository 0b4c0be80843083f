"""Hundreds of damaged media: each is refused or read, none ends the process for the next one, and memory stays bounded."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from plait.serve.errors import ApiError
from plait.serve.media import MediaDecoder

CASES = 560
GROWTH = 400  # MiB that the decoding process may grow by


def seeds():
    """Whole files of every format: (modality, bytes)."""
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    samples = np.sin(np.arange(6000) / 9) * 0.3
    files = []
    for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        buffer = io.BytesIO()
        picture.save(buffer, format)
        files.append(("image", buffer.getvalue()))
    for format, subtype in (
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 16_000 if subtype != "OPUS" else 24_000, format=format, subtype=subtype)
        files.append(("audio", buffer.getvalue()))
    return files


def damaged(data, rng):
    """Cut, flipped, filled, doubled, or with a header that promises too much."""
    held = bytearray(data)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(held[: rng.integers(1, len(held))])
    if kind == 1:
        for at in rng.integers(0, len(held), 1 + len(held) // 100):
            held[at] ^= 1 << rng.integers(8)
    elif kind == 2:
        at = rng.integers(len(held))
        held[at : at + 64] = rng.bytes(64)
    elif kind == 3:
        at = int(rng.integers(4, 48))
        held[at : at + 4] = b"\xff\xff\xff\x7f" if rng.integers(2) else b"\x7f\xff\xff\xff"
    elif kind == 4:
        return bytes(held[: len(held) // 2]) + bytes(held)
    else:
        return rng.bytes(int(rng.integers(1, 4000)))
    return bytes(held)


def resident_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads memory from /proc")
def test_damaged_media_are_refused_one_by_one():
    rng, files = np.random.default_rng(3), seeds()

    async def look():
        decoder, refused, read = MediaDecoder(), 0, 0
        for kind, data in files:
            assert (await decoder.decode(kind, data, "whole")).type == kind
        before, ended = resident_mib(decoder.process.pid), 0
        for number in range(CASES):
            kind, data = files[number % len(files)]
            process = decoder.process
            try:
                await decoder.decode(kind, damaged(data, rng), "it")
                read += 1
            except ApiError as error:
                refused += error.status == 400
            ended += decoder.process is not process
        for kind, data in files:
            assert (await decoder.decode(kind, data, "whole")).type == kind
        grown = resident_mib(decoder.process.pid) - before
        await decoder.close()
        return refused, read, ended, grown

    refused, read, ended, grown = asyncio.run(look())
    assert refused + read == CASES
    assert refused > CASES // 3
    assert read, "some damage can be read past"
    assert ended <= CASES // 100, "few files end the process that reads them"
    assert grown < GROWTH
