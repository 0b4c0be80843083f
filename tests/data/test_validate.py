"""A corpus of bad rows: each is named with its file, line, what was got, what was expected and how to mend it."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from worlds import World

from plait import api
from plait.data.validate import BadRow, check_file
from plait.errors import DataError

WORLD = World()


def png(size=(8, 8), mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def wav(samples, rate=16_000, subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def bomb(width, height):
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def row(*parts, answer="yes"):
    return {"messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": answer}]}


def shows(path):
    return row({"type": "image", "image": path})


def sounds(path):
    return row({"type": "audio", "audio": path})


TONE = (0.1 * np.sin(np.arange(4000) / 9)).astype(np.float32)
NAN = np.array([0.1, np.nan] * 500, np.float32)
GOOD_FILES = {
    "good.png": png(),
    "good.wav": wav(TONE),
}
BAD_FILES = {  # name -> (bytes, what the message must say)
    "truncated.png": (png((40, 40), "RGB")[:60], "cannot decode"),
    "cut.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\0" * 40, "is no picture"),
    "empty.png": (b"", "bytes"),
    "text.png": (b"not a picture at all", "is no picture"),
    "html.png": (b"<html><body>404</body></html>", "is no picture"),
    "bomb.png": (bomb(60_000, 60_000), "cannot decode"),
    "wide.png": (bomb(9_000, 8_000), "at most 64 million"),
    "corrupt.png": (png((30, 30))[:-20] + b"\xff" * 20, "cannot decode"),
    "truncated.wav": (wav(TONE)[:30], "cannot decode"),
    "empty.wav": (b"", "bytes"),
    "text.wav": (b"RIFFxxxxnothing", "cannot decode"),
    "picture.wav": (png(), "cannot decode"),
    "silent.wav": (wav(np.zeros(0, np.float32)), "no samples"),
    "nan.wav": (wav(NAN, subtype="FLOAT"), "finite"),
    "infinite.wav": (wav(np.array([np.inf, 0.1] * 500, np.float32), subtype="FLOAT"), "finite"),
    "huge.wav": (wav(np.array([3e38, -3e38] * 500, np.float32), subtype="FLOAT"), "a sample of 3e+38"),
    "long.wav": (wav(np.zeros(8_000 * 40, np.float32), rate=8_000), "at most"),
}
ODD_FILES = {  # unusual but whole: these must be accepted
    "stereo.wav": wav(np.stack([TONE, TONE], 1)),
    "8bit.wav": wav(TONE, subtype="PCM_U8"),
    "24bit.wav": wav(TONE, subtype="PCM_24"),
    "44k.wav": wav(TONE, rate=44_100),
    "float.wav": wav(TONE, subtype="FLOAT"),
    "short.wav": wav(TONE[:10]),
    "grey16.png": png(mode="I;16"),
    "rgba.png": png(mode="RGBA"),
    "palette.png": png(mode="P"),
    "bilevel.png": png(mode="1"),
    "one.png": png((1, 1)),
    "strip.png": png((200, 2)),
}


def _saved(mode, form, frames=1):
    buffer = io.BytesIO()
    pictures = [Image.new(mode, (8, 8), index) for index in range(frames)]
    more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(buffer, form, **more)
    return buffer.getvalue()


ODD_FILES |= {
    "cmyk.jpg": _saved("CMYK", "JPEG"),
    "animated.gif": _saved("L", "GIF", 3),
    "picture.bmp": _saved("L", "BMP"),
    "picture.webp": _saved("RGB", "WEBP"),
    "picture.tiff": _saved("F", "TIFF"),
}

BAD_ROWS = [  # (row as an object or as raw bytes, what the message must say)
    ({}, "exactly one of"),
    ([], "JSON object"),
    (3, "JSON object"),
    ("text", "JSON object"),
    (None, "JSON object"),
    ({"messages": []}, "at least one message"),
    ({"messages": "hello"}, "at least one message"),
    ({"messages": [3]}, "'role' and 'content'"),
    ({"messages": [{"role": "user", "content": "a"}]}, "nobody answers"),
    ({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}, "nobody answers"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "unknown role"),
    ({"messages": [{"role": 3, "content": "a"}]}, "unknown role"),
    ({"messages": [{"role": None, "content": "a"}]}, "unknown role"),
    ({"messages": [{"content": "a"}]}, "unknown role"),
    ({"messages": [{"role": "user"}]}, "'role' and 'content'"),
    ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "'role' and 'content'"),
    ({"messages": [{"role": "assistant", "content": None}]}, "at least one part"),
    ({"messages": [{"role": "assistant", "content": 3}]}, "at least one part"),
    ({"messages": [{"role": "assistant", "content": []}]}, "at least one part"),
    ({"messages": [{"role": "assistant", "content": ""}]}, "not empty"),
    ({"messages": [{"role": "assistant", "content": ["a"]}]}, "an object such as"),
    ({"messages": [{"role": "assistant", "content": [{"text": "a"}]}]}, "an object such as"),
    ({"messages": [{"role": "assistant", "content": [{"type": "video", "video": "a"}]}]}, "unknown part type"),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
        "unknown part",
    ),
    ({"messages": [{"role": "assistant", "content": [{"type": "text"}]}]}, "no value"),
    ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": None}]}]}, "expected text"),
    ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": 7}]}]}, "expected text"),
    ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": ["a"]}]}]}, "expected text"),
    ({"content": "a", "messages": []}, "exactly one of"),
    ({"content": ""}, "not empty"),
    ({"content": "a", "label": 3}, "unknown keys"),
    ({"prompt": "a", "completion": "b"}, "unknown keys"),
    (shows("missing.png"), "No such file"),
    (shows("../outside.png"), "leaves the data folder"),
    (shows("/etc/passwd"), "leaves the data folder"),
    (shows("media/../../outside.png"), "leaves the data folder"),
    (shows("."), "leaves the data folder"),
    (shows(""), "leaves the data folder"),
    (shows("folder"), "expected a plain file"),
    (shows("pipe"), "expected a plain file"),
    (shows("link.png"), "link out of the data folder"),
    (shows("dangling.png"), "link out of the data folder"),
    (shows("http://example.org/a.png"), "No such file"),
    (shows("data:image/png;base64,AAAA"), "No such file"),
    (shows(3), "expected the path of a file"),
    (shows(None), "expected the path of a file"),
    (shows("a\0b.png"), "null byte"),
    (shows("n" * 5000 + ".png"), "name too long"),
    (sounds("good.png"), "cannot decode"),
    (shows("good.wav"), "is no picture"),
    (b"{not json", "not JSON"),
    (b'{"content": "a"} {"content": "b"}', "not JSON"),
    (b'{"content": "a"', "not JSON"),
    (b'{"content": NaN}', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"content": "\xff\xfe"}', "not UTF-8"),
    (json.dumps({"content": "\u4e2d\u6587"}, ensure_ascii=False).encode("utf-16"), "UTF-8"),
    (b'{"content": "\\ud800"}', "surrogate"),
    (b"\0" * 50, "not JSON"),
]


def prepare(folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    for name, content in {**GOOD_FILES, **ODD_FILES, **{n: c for n, (c, _) in BAD_FILES.items()}}.items():
        (data / name).write_bytes(content)
    (folder / "outside.png").write_bytes(png())
    (data / "folder").mkdir()
    os.mkfifo(data / "pipe")
    (data / "link.png").symlink_to(folder / "outside.png")
    (data / "dangling.png").symlink_to(folder / "nowhere.png")


def write(data: Path, rows) -> Path:
    path = data / "rows.jsonl"
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


def check(path):
    bad: list[BadRow] = []
    found = check_file(path, WORLD.modalities, bad.append)
    return found, bad


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    prepare(folder)
    return folder / "data"


def test_the_corpus_is_large():
    assert len(BAD_ROWS) + len(BAD_FILES) + len(ODD_FILES) >= 60


@pytest.mark.parametrize("number", range(len(BAD_ROWS)))
def test_bad_rows(data, number):
    bad_row, named = BAD_ROWS[number]
    found, bad = check(write(data, [{"content": "good"}, bad_row, {"content": "better"}]))
    assert (found.rows, found.good, list(found.bad_lines)) == (3, 2, [2]), bad
    assert bad[0].line == 2
    assert bad[0].problem.startswith("rows.jsonl:2")
    assert named in bad[0].problem
    assert "expected" in bad[0].problem


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(data, name):
    made = shows(name) if name.endswith(("png", "jpg")) else sounds(name)
    found, bad = check(write(data, [made, shows("good.png"), sounds("good.wav")]))
    assert list(found.bad_lines) == [1], bad
    assert BAD_FILES[name][1] in bad[0].problem
    assert "expected" in bad[0].problem


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_are_read(data, name):
    found, bad = check(write(data, [sounds(name) if name.endswith("wav") else shows(name)]))
    assert found.good == 1, bad


def test_duplicates_are_counted(data):
    twice = row({"type": "text", "text": "same"})
    found, _ = check(write(data, [twice, {**twice, "task": "other"}, {"content": "once"}]))
    assert found.duplicates == 1


def test_a_line_too_long_to_hold(data, monkeypatch):
    monkeypatch.setattr("plait.data.validate.LONGEST_LINE", 1000)
    found, bad = check(write(data, [{"content": "a"}, {"content": "b" * 5000}, {"content": "c"}]))
    assert (found.rows, list(found.bad_lines)) == (3, [2])
    assert "bytes" in bad[0].problem


def test_blank_lines_keep_the_numbers(data):
    found, _ = check(write(data, [{"content": "a"}, b"", {"content": ""}]))
    assert (found.rows, list(found.bad_lines)) == (2, [3])


def test_a_byte_order_mark_is_no_fault(data):
    path = write(data, [{"content": "a"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert check(path)[0].good == 1


TINY = [
    "trunk.dim=32",
    "trunk.num_layers=1",
    "trunk.num_heads=2",
    "steps=2",
    "pack.sequences=2",
    "dtype=float32",
    "weights={}",
]


@pytest.fixture
def folder(tmp_path):
    """Thirty rows of text, three of them bad."""
    rows = [row({"type": "text", "text": f"say {n}"}, answer=str(n)) for n in range(30)]
    rows[3], rows[10], rows[29] = {"content": ""}, b"{", shows("missing.png")
    data = tmp_path / "data"
    data.mkdir()
    write(data, rows).rename(data / "train.jsonl")
    return data


def test_bad_rows_never_end_a_run(folder, tmp_path, capsys):
    run = tmp_path / "run"
    api.train("digits", f"data={folder}", *TINY, out=run, threads=1)
    assert "30 rows checked" in capsys.readouterr().err
    listed = [json.loads(line) for line in (run / "bad_rows.jsonl").read_text().splitlines()]
    assert [bad["line"] for bad in listed] == [4, 11, 30]
    assert all(bad["file"] == "train.jsonl" and "expected" in bad["problem"] for bad in listed)
    api.train("digits", f"data={folder}", *TINY, out=run, threads=1, resume=True)


def test_strict_stops_before_step_one(folder, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"3 rows of .*data are bad.*train.jsonl:4"):
        api.train("digits", f"data={folder}", *TINY, out=run, strict=True, threads=1)
    assert len((run / "bad_rows.jsonl").read_text().splitlines()) == 3
    api.train("digits", f"data={folder}", *TINY, out=tmp_path / "lenient", threads=1)
    with pytest.raises(DataError, match="3 rows of"):
        api.train("digits", f"data={folder}", *TINY, out=tmp_path / "lenient", resume=True, strict=True, threads=1)
    lines = (folder / "train.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "train.jsonl").write_bytes(b"".join(lines[n] for n in range(30) if n not in (3, 10, 29)))
    api.train("digits", f"data={folder}", *TINY, out=run, strict=True, threads=1)
    assert (run / "bad_rows.jsonl").read_text() == ""


def test_only_bad_rows(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write(data, [{"content": ""}]).rename(data / "train.jsonl")
    with pytest.raises(DataError, match="no good row of 1"):
        api.train("digits", f"data={data}", *TINY, out=tmp_path / "run", threads=1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        check(tmp_path / "rows.jsonl")
