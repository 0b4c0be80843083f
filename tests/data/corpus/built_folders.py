"""A small data folder as the dictionary builds it, packed in shards, and one with rows in files."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from plait import registry
from plait.cli import app
from plait.contract import Message, Part, Sample
from plait.data.rows import dump_row
from plait.data.shards import ShardWriter

ARABIC = "قطة"


BOXES = "cat [100, 200, 500, 600]; cat [600, 600, 900, 900]"


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def words(value):
    return Part("text", value)


def picture(seed, size=(40, 40)):
    return Part("image", Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)))


def sound(seconds):
    return Part("audio", ((0.3 * np.sin(np.arange(int(16_000 * seconds)) / 9)).astype(np.float32), 16_000))


def row(task, asked, answer, **meta):
    return Sample((Message("user", tuple(asked)), Message("assistant", (answer,))), task, meta)


def rows_about(number):
    """Rows of a group."""
    seen = picture(number)
    naming = {"phrasing": "{picture} What is this, in {language}?", "language": "ar"}
    drawing = {"phrasing": "Draw {name} ({style}).", "language": "ar"}
    return [
        row("name", [seen, words("What is this, in Arabic?")], words(ARABIC), **naming),
        row("draw", [words(f"Draw {ARABIC} (flat).")], seen, **drawing),
        row("detect", [picture(100 + number, (600, 300)), words("Find every cat.")], words(BOXES)),
        row("say", [words("Say miau.")], sound(0.5 if number % 2 else 1.2), language="es"),
        row("transcribe", [sound(0.5), words("What are the words?")], words("miau"), language="es"),
        row("written-language", [words("Language of: miau")], words(["Spanish", "English"][number % 4 == 0]), language="es"),
    ]  # fmt: skip


def described(folder, **facts):
    """The manifest of a build."""
    source = {"what": "things", "from": "https://example.org/things", "licence": "public domain"}
    counted = {"items": {"drawing": 8}, "left_out": {"too dark": 3, "too long": 1}}
    manifest = {"format": 1, "sources": [source | counted], "notes": ["a note"], "files": {}, **facts}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder of the recipe `dictionary`: training rows in shards, held-out rows beside their media."""
    folder = tmp_path_factory.mktemp("packed")
    with ShardWriter(folder, "train", registry.build_all(["text", "image", "audio"])) as writer:
        for number in range(8):
            writer.add(rows_about(number))
    picture(50).value.save(folder / "held.png")
    held = Part("image", "held.png")
    for split in ("dev", "phrasing", "test"):
        asked = [held, words(f"A question of {split}?")]
        lines = [dump_row(row("name", asked, words(f"{split} {n}"), language="he")) for n in range(3)]
        (folder / f"name.{split}.jsonl").write_text("\n".join(lines) + "\n")
    described(folder, counts={"train": 8, "test": 1}, joined=2)
    return folder


@pytest.fixture
def listed(tmp_path):
    """A folder of the recipe `fashion`: training rows in train.jsonl, and the official test."""
    for number in range(6):
        picture(number, (28, 28)).value.convert("L").save(tmp_path / f"{number}.png")
    lines = [
        dump_row(row("image->text classes", [Part("image", f"{n}.png")], words(["coat", "shirt"][n % 2])))
        for n in range(6)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:4]) + "\n")
    (tmp_path / "test.jsonl").write_text("\n".join(lines[4:]) + "\n")
    (tmp_path / "labelled-train.jsonl").write_text("no rows to look at\n")
    described(tmp_path)
    return tmp_path
