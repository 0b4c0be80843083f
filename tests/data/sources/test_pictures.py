"""Sources of pictures, read from small packages made here in their real layouts."""

import gzip
import json
import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from plait.data import sources
from plait.data.sources import bccd, clothes, emoji, handwriting, maps, openclipart
from plait.errors import DataError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def test_every_source_says_where_it_is_from_and_is_pinned():
    for name in sources.names():
        source = sources.module(name).SOURCE
        assert source.name == name
        assert all((source.what, source.licence, source.attribution, source.size > 0))
        assert source.public.startswith("https://")
        for package in source.packages:
            assert package.manager == "git" or (len(package.sha256) == 64 and package.version), (name, package.name)


# emoji

SVG = '<path fill="{}" d="M0 0h32v32H0z"/>'
THUMBS, TONED, CAT = "1f44d", "1f44d-1f3fd", "1f408"


@pytest.fixture
def emoji_packages(tmp_path):
    pytest.importorskip("resvg_py")
    for family in emoji.FAMILIES[:-1]:
        folder = tmp_path / family.package.folder / "package"
        icons = {"thumbs-up": {"body": SVG.format("gold")}, "thumbs-up-medium": {"body": SVG.format("tan")}}
        icons |= {"cat": {"body": SVG.format("black"), "width": 64}, "logo": {"body": SVG.format("red")}}
        write(folder / "icons.json", {"icons": icons, "width": 32, "height": 32})
        chars = {THUMBS: "thumbs-up", TONED: "thumbs-up-medium", "1f408-fe0f": "cat"}
        write(folder / "chars.json", {} if family.style == "fluent-color" else chars)
    folder = tmp_path / emoji.SOLID.package.folder / "package/assets"
    folder.mkdir(parents=True)
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(folder / f"{CAT}.webp")
    for kind, package in emoji.NAMES.items():
        for language, word in (("en", "cat"), ("fr", "chat")):
            notes = {"🐈": {"tts": [word], "default": [word, "pet"]}}
            if kind == "annotations" and language == "en":
                notes |= {"👍": {"tts": ["thumbs up"], "default": ["+1"]}}
            notes |= {"👍🏽": {"tts": ["thumbs up: medium"]}} if kind == "annotationsDerived" else {}
            write(
                tmp_path / package.folder / "package" / kind / language / "annotations.json",
                {kind: {"annotations": notes}},
            )
    groups = tmp_path / emoji.GROUPS.folder / "package"
    write(groups / "meta/groups.json", {"groups": {"3": "animals-nature"}, "subgroups": {"9": "animal-mammal"}})
    write(groups / "en/data.json", [{"hexcode": "1F408", "group": 3, "subgroup": 9}])
    return tmp_path


def test_emoji_have_names_groups_and_tones(emoji_packages):
    entries = list(emoji.entries(emoji_packages))
    drawn = [entry for entry in entries if entry.kind == "drawing"]
    assert len(drawn) == 3 * 5 + 1
    cat = next(e for e in drawn if e.facts["style"] == "noto" and e.facts["code"] == CAT)
    assert (cat.texts, cat.facts["category"], cat.facts["tone"]) == ({"en": "cat", "fr": "chat"}, "animals-nature", 0)
    assert cat.media["picture"].size == (emoji.SIDE, emoji.SIDE)
    assert {e.facts["licence"] for e in drawn if e.facts["style"] == "openmoji"} == {"CC-BY-SA-4.0"}
    toned = next(e for e in drawn if e.facts["code"] == TONED)
    assert (toned.key, toned.facts["tone"]) == (THUMBS, 3)
    assert {e.key for e in entries if e.kind == "left out"} == {emoji.NO_CODE}


@pytest.mark.parametrize(
    ("code", "base", "tone", "gender"),
    [
        ("1f468-1f3fb-200d-1f680", "1f9d1-200d-1f680", 1, "male"),
        ("1f469-200d-1f680", "1f9d1-200d-1f680", 0, "female"),
        ("1f9d1-1f3ff-200d-1f91d-200d-1f9d1-1f3fb", "1f46b", None, ""),
        ("1f3c3-200d-2640", "1f3c3", 0, "female"),
        ("2642", "2642", 0, ""),
    ],
)
def test_codes_share_a_base_without_tone_and_gender(code, base, tone, gender):
    assert (emoji.base_of(code), emoji.tone_of(code), emoji.gender_of(code)) == (base, tone, gender)


def test_damaged_emoji_packages_are_said(emoji_packages):
    (emoji_packages / emoji.FLAT.package.folder / "package/icons.json").write_text("{")
    with pytest.raises(DataError, match=r"icons\.json cannot be read"):
        list(emoji.entries(emoji_packages))


# clothes, handwriting


def idx(path, array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def test_clothes_keep_their_splits(tmp_path):
    folder = clothes.pictures(tmp_path)
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match="lacks train-images"):
        list(clothes.entries(tmp_path))
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("t10k", 3)):
        idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count))
    entries = list(clothes.entries(tmp_path))
    assert [(e.split, e.facts["category"]) for e in entries[4:7]] == [
        ("train", "coat"),
        ("test", "t-shirt"),
        ("test", "trousers"),
    ]
    assert len({e.key for e in entries}) == 8
    idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(2))
    with pytest.raises(DataError, match="3 t10k pictures and 2 labels"):
        list(clothes.entries(tmp_path))
    idx(folder / "t10k-labels-idx1-ubyte.gz", np.array([0, 1, 10]))
    with pytest.raises(DataError, match="labels up to 10; expected equal numbers and labels up to 9"):
        list(clothes.entries(tmp_path))


def test_handwriting_is_read_from_the_package(tmp_path):
    folder = tmp_path / "mnist/package/src/digits"
    for digit in range(10):
        write(folder / f"{digit}.json", {"data": [digit / 10] * 784 * 2})
    entries = list(handwriting.entries(tmp_path))
    assert [e.facts["category"] for e in entries] == [str(digit) for digit in range(10) for _ in range(2)]
    assert np.asarray(entries[-1].media["picture"])[0, 0] == round(0.9 * 255)
    for damage in ('{"data": [0.5]}', "{}", "{"):
        write(folder / "3.json", damage)
        with pytest.raises(DataError, match=r"3\.json: .*expected pixels"):
            list(handwriting.entries(tmp_path))


# boxes


def test_micrographs_of_both_layouts_are_the_same(tmp_path):
    listed, published = (tmp_path / name / bccd.SOURCE.packages[0].folder for name in ("listed", "published"))
    row = {"image": "images/a.jpg", "width": 640, "height": 480, "split": "val", "objects": [
        {"label": "RBC", "box": [1, 2, 30, 40]}, {"label": "WBC", "box": [5, 5, 5, 9]}, {"label": "Platelets", "box": [50, 50, 60, 70]},
    ]}  # fmt: skip
    write(listed / "boxes.jsonl", json.dumps(row) + "\n")
    things = "".join(
        f"<object><name>{t['label']}</name><bndbox>"
        + "".join(f"<{side}>{at}</{side}>" for side, at in zip(bccd.SIDES, t["box"], strict=True))
        + "</bndbox></object>"
        for t in row["objects"]
    )
    write(published / "BCCD/Annotations/a.xml", f"<annotation>{things}</annotation>")
    for split in ("train", "val", "test"):
        write(published / f"BCCD/ImageSets/Main/{split}.txt", "a\n" if split == "val" else "")
    for folder in (listed / "images", published / "BCCD/JPEGImages"):
        folder.mkdir()
        Image.new("RGB", (640, 480)).save(folder / "a.jpg")
    (first,), (second,) = (list(bccd.entries(tmp_path / name)) for name in ("listed", "published"))
    assert first.facts == second.facts
    assert [box["label"] for box in first.facts["boxes"]] == ["red blood cell", "platelet"]
    assert (first.split, second.split) == ("val", "val")
    assert second.media["picture"].name == "a.jpg"
    for damage in ({}, {**row, "objects": [{"box": [1, 2, 3, 4]}]}):
        write(listed / "boxes.jsonl", json.dumps(damage) + "\n")
        with pytest.raises(DataError, match=r"boxes\.jsonl:1: KeyError"):
            list(bccd.entries(tmp_path / "listed"))
    write(listed / "boxes.jsonl", json.dumps({**row, "image": "images/b.jpg"}) + "\n")
    with pytest.raises(DataError, match=r"b\.jpg is missing"):
        list(bccd.entries(tmp_path / "listed"))
    (published / "BCCD/ImageSets/Main/test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt is missing"):
        list(bccd.entries(tmp_path / "published"))
    with pytest.raises(DataError, match=r"neither boxes\.jsonl nor"):
        list(bccd.entries(tmp_path))


def test_regions_of_maps_get_boxes_of_their_largest_part(tmp_path):
    folder = tmp_path / "kgeography-data/usr/share/kgeography"
    canvas = Image.new("RGB", (100, 80), "white")
    pen = ImageDraw.Draw(canvas)
    pen.rectangle([10, 10, 39, 49], fill=(255, 0, 0))
    pen.rectangle([90, 70, 93, 73], fill=(255, 0, 0))  # its island
    pen.rectangle([50, 10, 80, 60], fill=(0, 0, 255))
    folder.mkdir(parents=True)
    canvas.save(folder / "land.png")
    regions = (
        ("Red", "allowClickMode", (255, 0, 0)),
        ("Blue", None, (0, 0, 255)),
        ("Sea", "yes", (255, 255, 255)),
        ("Lost", None, (1, 2, 3)),
    )
    divisions = "".join(
        f"<division><name>{name}</name>{f'<ignore>{ignore}</ignore>' if ignore else ''}<capital>{name}ville</capital>"
        f"<color><red>{r}</red><green>{g}</green><blue>{b}</blue></color></division>"
        for name, ignore, (r, g, b) in regions
    )
    write(folder / "land.kgm", f"<map><mapFile>land.png</mapFile>{divisions}</map>")
    write(folder / "gone.kgm", "<map><mapFile>gone.png</mapFile></map>")
    gone, lost, land = maps.entries(tmp_path)
    assert (gone.key, lost.key) == ("a map without its picture", "a region that is too small or not drawn")
    assert land.facts["boxes"] == [
        {"label": "Red", "box": [10, 10, 40, 50]},
        {"label": "Blue", "box": [50, 10, 81, 61]},
    ]
    assert land.facts["capitals"]["Red"] == "Redville"
    write(folder / "land.kgm", "<map>")
    with pytest.raises(DataError, match=r"land\.kgm"):
        list(maps.entries(tmp_path))


# clip art


def clip_art(title, maker="Ann Other", licence="http://web.resource.org/cc/PublicDomain", size=(40, 20), at=0):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}"><metadata xmlns:dc="d" xmlns:rdf="r" '
        f'xmlns:cc="c"><dc:title>{title}</dc:title><rdf:li>toy</rdf:li><dc:publisher><dc:title>Library</dc:title>'
        f"</dc:publisher><dc:creator><dc:title>{maker}</dc:title></dc:creator>"
        f'<cc:license rdf:resource="{licence}"/></metadata><path fill="red" d="M{at} 0h40v20H0z"/></svg>'
    )


def test_clip_art_is_filtered_with_reasons(tmp_path):
    pytest.importorskip("resvg_py")
    folder = tmp_path / "openclipart-svg/usr/share/openclipart/svg"
    for number in range(6):
        write(folder / f"animals/dog{number}.svg", clip_art(f"brown dog{number}", at=number))
    (folder / "animals/dog00.svg").symlink_to("dog0.svg")  # as the package has hundreds
    write(folder / "buttons/ok.svg", clip_art("button", at=10))
    write(folder / "food/pie.svg", clip_art("apple pie", licence="", at=10))
    write(folder / "food/untitled.svg", clip_art("", at=10))
    write(folder / "people/ann.svg", clip_art("Ann", at=10))
    write(folder / "people/all.svg", clip_art("Various Cliparts", at=10))
    write(folder / "plants/rose.svg", clip_art("Rosa", "Architetto Rollandin", at=11))
    write(folder / "tools/saw.svg", clip_art("hand saw", size=("2cm", "1cm"), at=12))
    write(folder / "tools/bad.svg", clip_art("bad saw")[:-20])
    write(folder / "tools/none.svg", clip_art("hammer", at=99).replace("red", "none"))
    entries = list(openclipart.entries(tmp_path))
    drawn = [e for e in entries if e.kind == "drawing"]
    named = [*[{"en": "brown dog"}] * openclipart.SERIES, {"it": "Rosa"}, {"en": "hand saw"}]
    assert [e.texts for e in drawn] == named
    assert {e.media["picture"].size for e in drawn} == {(openclipart.SIDE, openclipart.SIDE // 2)}
    assert drawn[0].facts["keywords"] == {"en": ["toy"]}
    assert Counter(e.key for e in entries if e.kind == "left out") == {
        "an SVG that cannot be drawn": 2, "folder buttons": 1, "licence is blank or not the public domain": 1,
        "one more of a series": 2, "title too short, too long or not ASCII": 1, "a copy of another drawing": 1,
        "a title that names a series or a person": 2,
    }  # fmt: skip
    with pytest.raises(DataError, match="holds no drawings"):
        list(openclipart.entries(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("written", "title", "key"),
    [
        ("Clipart by Nicu Buculei - smiley111", "smiley", "smiley"),
        ("Ice Cream Cone (2 Scoop) (B and W)", "Ice Cream Cone (2 Scoop) (black and white)", "ice cream cone"),
        ("flan_bw", "flan (black and white)", "flan"),
        ("Croissant (B &amp;amp; W)", "Croissant (black and white)", "croissant"),
        ("horse#1", "horse", "horse"),
        ("8 ball", "8 ball", "ball"),
        ("M16", "M16", "m"),
        ("books-aj.svg", "books-aj", "books aj"),
    ],
)
def test_titles_of_clip_art(written, title, key):
    assert openclipart.title_of(written) == title
    assert openclipart.key_of(title) == key
