"""`plait data show`: rows as they are, in the terminal and on a page."""

import base64
import io
import re

import numpy as np
import pytest
from built_folders import ARABIC, invoke, picture
from PIL import Image

from plait import api
from plait.contract import Part
from plait.data.augment import AugmentConfig
from plait.data.corpus import preview
from plait.errors import ConfigError, DataError, RowError
from plait.recipes import dictionary
from plait.runtime import pages


def section(page, task):
    return page.split(f'id="{task}"')[1].split("<h2")[0]


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
