"""Media from strangers: small files that would be huge, formats that run programs, sound that is none. Every refusal comes before
the work, and says what to do."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from PIL import EpsImagePlugin, ImageFile
from PIL import Image as Pictures

from plait import registry
from plait.contract import Part
from plait.errors import RowError
from plait.modalities.audio import Audio
from plait.modalities.image import Image
from plait.runtime.pictures import FORMATS, MAX_PIXELS, open_picture

MB = 2**20
SUFFIX_OF = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
BOMB = 179_560_000  # pixels of 13,400 x 13,400


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes that Python and NumPy hold at once while working."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def never(*arguments, **options):
    raise AssertionError("decoded what had to be refused from its header")


def silence(seconds: int, rate: int = 8000, form: str = "FLAC") -> bytes:
    """Silence, written a second at a time: long vorbis writes overflow libsndfile's stack."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, format=form) as file:
        for _ in range(seconds):
            file.write(np.zeros(rate, np.float32))
    return buffer.getvalue()


def with_total(flac: bytes, total: int) -> bytes:
    """A FLAC file whose header announces `total` samples (36 bits of STREAMINFO)."""
    facts = int.from_bytes(flac[18:26], "big") >> 36 << 36 | total
    return flac[:18] + facts.to_bytes(8, "big") + flac[26:]


def png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of a few bytes that claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def long_flac():
    data = silence(20 * 60)
    assert len(data) < 30_000, "silence takes no room"
    return data


@pytest.mark.parametrize("work", ["check", "read"])
@pytest.mark.parametrize("as_file", [False, True])
def test_minutes_in_a_small_file_are_refused_from_the_header(long_flac, tmp_path, monkeypatch, work, as_file):
    path = tmp_path / "quiet.flac"
    path.write_bytes(long_flac)
    part = Part("audio", str(path) if as_file else long_flac)
    monkeypatch.setattr(soundfile.SoundFile, "read", never)
    audio = Audio()

    def refused():
        with pytest.raises(RowError, match=r"got 1200\.0 s; expected at most 30\.0 s: cut the clip"):
            getattr(audio, work)(part)

    assert peak_memory(refused) < MB, "20 minutes of float32 are 38 MB"


def test_a_clip_of_the_very_length_is_read(long_flac, monkeypatch):
    """The bound is the setting, not something smaller: one sample more is too long."""
    whole = silence(2)
    assert Audio(max_seconds=2.0).read(Part("audio", whole)).blocks
    with pytest.raises(RowError, match="expected at most"):
        Audio(max_seconds=1.9999).check(Part("audio", whole))
    assert len(Audio(max_seconds=1200.0).samples(Part("audio", long_flac))) == 1200 * 16_000


@pytest.mark.parametrize("form", ["OGG", "WAV", "MP3"])
def test_other_containers_announce_their_length_too(form, monkeypatch):
    if form not in soundfile.available_formats():
        pytest.skip("this libsndfile cannot write it")
    data = silence(60, form=form)
    monkeypatch.setattr(soundfile.SoundFile, "read", never)
    with pytest.raises(RowError, match=r"got 6\d\.\d s; expected at most 30\.0 s"):
        Audio().check(Part("audio", data))


def test_a_header_that_lies_about_the_length_gains_nothing(long_flac):
    """Of an unknown length nothing is decoded; of a shorter one no more than it says; a longer one is cut off."""
    with pytest.raises(RowError, match="expected at most"):
        Audio().check(Part("audio", with_total(long_flac, 0)))
    assert len(Audio().mono(Part("audio", with_total(long_flac, 4000)))[0]) == 4000
    with pytest.raises(RowError, match="expected a whole"):
        Audio().check(Part("audio", with_total(silence(1), 8000 * 9)))


def test_channels_that_cancel_are_refused_with_the_reason(tmp_path):
    tone = 0.3 * np.sin(np.arange(8000) / 9)
    path = tmp_path / "anti.wav"
    soundfile.write(path, np.stack([tone, -tone], axis=1), 16_000, subtype="FLOAT")
    for value in (str(path), (np.stack([tone, -tone], axis=1).astype(np.float32), 16_000)):
        with pytest.raises(RowError, match=r"cancel each other out.*save one channel alone"):
            Audio().read(Part("audio", value))


def test_channels_that_differ_are_mixed():
    """One silent channel, unlike ones and two silent ones are sound."""
    audio = Audio()
    tone, other = np.sin(np.arange(4000) / 9), np.sin(np.arange(4000) / 31)
    alone = audio.samples(Part("audio", (tone, 16_000)))
    half = audio.samples(Part("audio", (np.stack([tone, 0 * tone], axis=1), 16_000)))
    np.testing.assert_allclose(half, alone, atol=1e-6)  # the level is made up for
    mixed = audio.samples(Part("audio", (np.stack([tone, other], axis=1), 16_000)))
    assert np.corrcoef(mixed, tone)[0, 1] > 0.6
    assert np.corrcoef(mixed, other)[0, 1] > 0.6
    assert not audio.samples(Part("audio", (np.zeros((4000, 2)), 16_000))).any()


def test_more_channels_than_a_recording_has_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.zeros((10, 33)), 16_000)
    monkeypatch.setattr(soundfile.SoundFile, "read", never)
    with pytest.raises(RowError, match="33 channels; expected at most 32"):
        Audio().check(Part("audio", str(path)))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.array([0.0, np.inf]), "not finite"),
        (np.array([[0.1, np.nan]]), "not finite"),
        (np.array([1e30]), r"a sample of 1e\+30"),
        (np.zeros(0), "no samples"),
        (np.zeros((0, 2)), "no samples"),
    ],
)
def test_sound_that_is_no_sound_is_refused(samples, reason):
    with pytest.raises(RowError, match=reason):
        Audio().check(Part("audio", (samples, 16_000)))


def test_a_number_is_no_file_handle():
    """libsndfile takes a number for an open file and closes it: standard input would go."""
    with pytest.raises(RowError, match="got the number 0"):
        Audio().check(Part("audio", 0))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [13_400, 10_000, 8_001])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(side, monkeypatch):
    assert BOMB == 13_400**2
    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    data = png(side, side)
    assert len(data) < 200

    def refused():
        with pytest.raises(RowError, match=r"expected a(t most 64 million| whole picture)"):
            Image().check(Part("image", data))

    assert peak_memory(refused) < MB


def test_as_many_pixels_as_are_allowed_are_decoded():
    """The bound is where it is said to be: 8,000 x 8,000 in one bit a pixel reach the decoder, which finds them cut short."""
    assert MAX_PIXELS == 8000**2
    with pytest.raises(RowError, match="cannot decode bytes"):
        open_picture(png(8000, 8000, depth=1))


@pytest.mark.parametrize(("width", "height"), [(100_001, 1), (1, 100_001)])
def test_a_side_that_cannot_be_scaled_is_refused(width, height):
    with pytest.raises(RowError, match=f"got {width}x{height} pixels; expected sides of 1 to 100000"):
        Image().check(Part("image", png(width, height)))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"
PROGRAMS = {
    "eps": POSTSCRIPT,
    "ps": POSTSCRIPT.replace(b" EPSF-3.0", b""),
    "dos-eps": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<6IH", 32, len(POSTSCRIPT), 0, 0, 0, 0, 0xFFFF)
    + b"\0\0"
    + POSTSCRIPT,
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("suffix", ["", ".png"])
def test_what_a_program_would_draw_is_no_picture(name, suffix, tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript: not even its header is looked at here, whatever the file is called."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", never)
    path = tmp_path / (f"drawing{suffix}" if suffix else f"drawing.{name}")
    path.write_bytes(PROGRAMS[name])
    for value in (str(path), path, PROGRAMS[name]):
        with pytest.raises(RowError, match="is no picture; expected one of PNG, JPEG"):
            Image().check(Part("image", value))
    with pytest.raises(Pictures.UnidentifiedImageError):
        registry.measures("image").facts(Part("image", str(path)))


def test_pillow_would_have_opened_the_drawing():
    """Without the list of formats EPS is opened: what the test above forbids can happen."""
    assert Pictures.open(io.BytesIO(POSTSCRIPT)).format == "EPS"


@pytest.mark.parametrize("form", ["PPM", "PCX", "TGA", "ICO", "SGI", "DDS", "ICNS", "XBM", "MSP"])
def test_only_the_formats_that_are_named_are_opened(form):
    buffer = io.BytesIO()
    Pictures.new("1" if form in ("XBM", "MSP") else "RGB", (32, 32), 1).save(buffer, form)
    Pictures.open(io.BytesIO(buffer.getvalue()))  # Pillow itself would
    with pytest.raises(RowError, match="is no picture"):
        open_picture(buffer.getvalue())


@pytest.mark.parametrize("form", FORMATS)
def test_every_named_format_is_opened(form, tmp_path):
    """From a path, its text, and bytes, and whatever the suffix says."""
    Pictures.init()
    if form not in Pictures.SAVE:
        pytest.skip("this Pillow cannot write it")
    path = tmp_path / f"a.{SUFFIX_OF[form]}"
    ramp = Pictures.fromarray(np.tile(np.arange(0, 256, 8, np.uint8), (32, 1))).convert("RGB")
    ramp.save(path, form)
    liar = tmp_path / "liar.bmp"
    liar.write_bytes(path.read_bytes())
    modality = Image(patch=8, channels=3, max_patches=16)
    for value in (path, str(path), path.read_bytes(), str(liar)):
        modality.check(Part("image", value))
        levels = np.asarray(modality.write(modality.read(Part("image", value))).value, int)
        assert levels.shape == (32, 32, 3)
        assert np.abs(levels - np.asarray(ramp, int)).mean() < 4, "another picture came out"


def test_suffixes_are_those_of_the_formats():
    """What a person may attach is what is opened, and the other way round."""
    Pictures.init()
    known = Pictures.registered_extensions()
    offered = registry.suffixes("image")
    assert {known[suffix] for suffix in offered} == set(FORMATS)
    assert {suffix for suffix in offered if suffix != suffix.lower()} == set()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_levels_that_are_no_numbers_are_refused(bad):
    levels = np.full((4, 4), 0.5, np.float32)
    levels[1, 2] = bad
    buffer = io.BytesIO()
    Pictures.fromarray(levels).save(buffer, "TIFF")
    with pytest.raises(RowError, match="pixels that are not finite numbers"):
        Image().check(Part("image", buffer.getvalue()))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.linspace(0, 1, 16, dtype=np.float32), np.linspace(0, 255, 16)),
        (np.linspace(0, 255, 16, dtype=np.float32), np.linspace(0, 255, 16)),
        (np.linspace(-300, 600, 16, dtype=np.float32), np.linspace(-300, 600, 16).clip(0, 255)),
        (np.linspace(0, 65535, 16).astype(np.uint16), np.linspace(0, 255, 16)),
        (np.linspace(0, 65535, 16).astype(np.int32), np.linspace(0, 255, 16)),
        (np.linspace(0, 200, 16).astype(np.uint16), np.linspace(0, 200, 16)),
    ],
)
def test_levels_of_every_depth_keep_their_order(levels, expected):
    """Shares from 0 to 1, bytes, 16 bits, and what lies outside of them."""
    buffer = io.BytesIO()
    Pictures.fromarray(levels.reshape(4, 4)).save(buffer, "TIFF")
    image = Image(patch=4, channels=1, max_patches=1)
    read = np.asarray(image.write(image.read(Part("image", buffer.getvalue()))).value, float)
    np.testing.assert_allclose(read.ravel(), expected, atol=1.01)
