"""Further styles of emoji are matched by name, and say under which licence they are."""

import json

from plait.data.sources import LEFT_OUT, emoji, icons

SQUARE = '<path fill="currentColor" d="M0 0h8v8H0z"/>'


def packages(folder):
    for family in icons.FAMILIES:
        package = folder / family.package.folder / "package"
        package.mkdir(parents=True)
        drawings = {"red-apple": {"body": SQUARE}, "grinning-face": {"body": SQUARE}, "nothing-known": {"body": SQUARE}}
        (package / "icons.json").write_text(json.dumps({"icons": drawings, "width": 8, "height": 8}))
    for kind, package in emoji.NAMES.items():
        place = folder / package.folder / "package" / kind / "en"
        place.mkdir(parents=True)
        notes = {"\U0001f34e": {"tts": ["red apple"], "default": ["fruit"]}, "\U0001f600": {"tts": ["grinning face"]}}
        (place / "annotations.json").write_text(json.dumps({kind: {"annotations": notes}}))
    groups = folder / emoji.GROUPS.folder / "package"
    (groups / "meta").mkdir(parents=True)
    (groups / "en").mkdir()
    (groups / "meta" / "groups.json").write_text(
        json.dumps({"groups": {"4": "food-drink"}, "subgroups": {"30": "food-fruit"}})
    )
    (groups / "en" / "data.json").write_text(json.dumps([{"hexcode": "1F34E", "group": 4, "subgroup": 30}]))


def test_drawings_are_matched_by_the_letters_of_their_names(tmp_path):
    packages(tmp_path)
    found = list(icons.entries(tmp_path))
    taken = [entry for entry in found if entry.kind == "drawing"]
    assert len(taken) == 2 * len(icons.FAMILIES)
    assert sum(entry.kind == LEFT_OUT for entry in found) == len(icons.FAMILIES)
    apple = next(entry for entry in taken if entry.texts["en"] == "red apple")
    assert (apple.key, apple.facts["category"], apple.facts["tone"]) == ("1f34e", "food-drink", 0)
    assert {entry.facts["style"] for entry in taken} == {family.style for family in icons.FAMILIES}
    assert not any("SA" in entry.facts["licence"] for entry in taken)


def test_what_leaves_its_colour_to_the_page_is_drawn_in_ink(tmp_path):
    packages(tmp_path)
    apple = next(entry for entry in icons.entries(tmp_path) if entry.kind == "drawing")
    picture = apple.media["picture"].convert("RGBA")
    assert picture.size == (emoji.SIDE, emoji.SIDE)
    assert picture.getpixel((64, 64)) == (0x22, 0x22, 0x22, 255)
