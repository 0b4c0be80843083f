"""Pictures beside their codec: sizes that are asked for, patches, looks of a judge, pages and terminals, one pixel included."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from plait import registry
from plait.contract import Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.image import Image, judge
from plait.modalities.image.boxes import boxes_in_text

AUGMENTS, MEASURES, JUDGED = registry.augments("image"), registry.measures("image"), registry.judged("image")
RENDERS, SUGGESTS = registry.renders("image"), registry.suggests("image")


def part(picture):
    return Part("image", picture)


def noise(width, height, mode="RGB", seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Pictures.fromarray(levels).convert(mode)


DOT = Pictures.new("RGB", (1, 1), (200, 10, 10))


@pytest.mark.parametrize("size", ["28x56", "28X56", " 28 x 56 ", (28, 56), [28, 56], (28.0, 56.0), ("28", "56")])
def test_a_size_is_text_or_a_pair(size):
    """Width first, as people say it; rows first in the header."""
    image = Image(patch=14)
    assert image.expects(("<open:image>",), {"size": size}) == ("<rows:4>",)
    assert image.expects(("<open:image>", "<rows:4>"), {"size": size}) == ("<cols:2>",)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"patch": 14}, "28x27"),
        ({"patch": 14}, (0, 14)),
        ({"patch": 14}, (-14, 14)),
        ({"patch": 14, "max_patches": 4}, (14 * 5, 14)),
        ({"patch": 1, "max_patches": 10_000}, (65, 1)),
    ],
)
def test_a_size_that_cannot_be_drawn_says_which_can(settings, size):
    with pytest.raises(ConfigError, match=r"multiples of \d+ pixels and at most"):
        Image(**settings).expects(("<open:image>",), {"size": size})


def test_the_only_size_of_a_model_is_named():
    with pytest.raises(ConfigError, match="expected 28x28, the only size of this model"):
        Image(patch=28, max_patches=1).expects(("<open:image>",), {"size": "56x56"})


@pytest.mark.parametrize("size", ["", None, ()])
def test_no_size_leaves_the_choice_to_the_model(size):
    assert len(Image(patch=14, max_patches=9).expects(("<open:image>",), {"size": size})) == 9


def test_headers_that_are_allowed_fit_the_patches():
    image = Image(patch=2, max_patches=12)
    for rows in range(1, 13):
        columns = image.expects(("<open:image>", f"<rows:{rows}>"), {})
        assert len(columns) == 12 // rows
        for name in columns:
            assert image.block_len(("<open:image>", f"<rows:{rows}>", name)) <= 12


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_cut_row_by_row(channels):
    """By hand: token (r, c) holds the pixels below and right of (4 r, 4 c)."""
    picture = noise(12, 8, "L" if channels == 1 else "RGB")
    segment = Image(patch=4, channels=channels, max_patches=6).read(part(picture))
    (block,) = segment.blocks
    levels = np.asarray(picture, np.float32).reshape(8, 12, channels)
    for number, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        cut = levels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        np.testing.assert_allclose(block.tokens[number], cut.ravel() / 127.5 - 1, atol=1e-6)
        assert Image(patch=4).coordinates(block.header)[number].tolist() == [row, column]


def test_grey_and_centred_levels_come_back():
    picture = noise(8, 8, "L")
    for settings in ({}, {"mean": 0.4, "std": 0.3}):
        image = Image(patch=4, channels=1, max_patches=4, **settings)
        np.testing.assert_array_equal(np.asarray(image.write(image.read(part(picture))).value), np.asarray(picture))
    colours = Image(patch=4, channels=3, max_patches=4)
    read = np.asarray(colours.write(colours.read(part(picture))).value)
    assert (read == np.asarray(picture)[..., None]).all(), "grey is not repeated"


def test_what_leaves_the_range_is_clipped():
    image = Image(patch=1, channels=1, max_patches=1)
    assert image.canonical(np.array([[-3.0], [3.0], [0.0]], np.float32)).ravel().tolist() == pytest.approx(
        [-1.0, 1.0, 128 / 127.5 - 1], abs=1e-6
    )


def test_a_picture_is_never_enlarged_beyond_whole_patches():
    image = Image(patch=16, channels=3, max_patches=64)
    assert image.read(part(noise(17, 40))).blocks[0].header[1:] == ("<rows:2>", "<cols:1>")
    assert image.read(part(DOT)).blocks[0].header[1:] == ("<rows:1>", "<cols:1>")


def test_one_pixel_goes_all_the_way(tmp_path):
    image = Image(patch=1, channels=3, max_patches=1, flip=True, crop=0.5, colour=0.5, erase=0.5)
    segment = image.read(part(DOT))
    assert segment.blocks[0].tokens.shape == (1, 3)
    for seed in range(9):
        varied = AUGMENTS.augment(image, segment, np.random.default_rng(seed))
        assert varied.blocks[0].tokens.shape == (1, 3)
        assert np.isfinite(varied.blocks[0].tokens).all()
    for protocol in (None, "kitty", "iterm"):
        assert RENDERS.terminal(part(DOT), 40, protocol)
    assert 'width="64" height="64"' in RENDERS.html(part(DOT))
    with Pictures.open(RENDERS.save(part(DOT), tmp_path, "dot")) as saved:
        assert saved.getpixel((0, 0)) == (200, 10, 10)
    assert MEASURES.features(image, part(DOT)).shape == (28 * 28 * 3,)
    assert MEASURES.distances(image, part(DOT), part(DOT)) == {"mse": 0.0}
    assert MEASURES.blank(image, part(DOT)).value.size == (1, 1)
    view = JUDGED.judge_view(image, [part(DOT)])
    assert view.view(part(DOT)).shape == (3, 28, 28)
    assert SUGGESTS.suggest(image, [part(DOT)]) == {"patch": 16, "channels": 3, "max_patches": 1}


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        ([noise(28, 28, "L"), noise(28, 28, "L", 1)], {"patch": 28, "channels": 1, "max_patches": 1}),
        ([noise(20, 20, "L").convert("RGB")], {"patch": 20, "channels": 1, "max_patches": 1}),
        ([noise(28, 28)], {"patch": 16, "channels": 3, "max_patches": 4}),
        ([noise(28, 20, "L")], {"patch": 16, "channels": 1, "max_patches": 2}),
        ([noise(28, 28, "L"), noise(20, 20, "L")], {"patch": 16, "channels": 1, "max_patches": 4}),
        ([noise(400, 300)], {"patch": 16, "channels": 3, "max_patches": 16}),
        ([noise(64, 64, "L"), noise(64, 64, "RGB")], {"patch": 16, "channels": 3, "max_patches": 16}),
    ],
)
def test_suggested_patches(pictures, expected):
    assert SUGGESTS.suggest(Image(), [part(picture) for picture in pictures]) == expected


def test_nearly_grey_is_grey():
    """What JPEG leaves of a grey picture has a hue of a few levels."""
    levels = np.stack([np.full((9, 9), 100), np.full((9, 9), 106), np.full((9, 9), 100)], axis=-1).astype(np.uint8)
    assert SUGGESTS.suggest(Image(), [part(Pictures.fromarray(levels))])["channels"] == 1
    levels[4, 4] = (109, 100, 100)
    assert SUGGESTS.suggest(Image(), [part(Pictures.fromarray(levels))])["channels"] == 3


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 28)])
def test_features_are_the_levels_of_one_size(channels, side):
    image = Image(patch=4, channels=channels)
    features = MEASURES.features(image, part(noise(50, 31)))
    assert features.shape == (side * side * channels,)
    assert features.dtype == np.float32
    same = noise(28, 28, "L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(MEASURES.features(image, part(same)), np.asarray(same, np.float32).ravel())
    assert MEASURES.features_are_alike()


def test_the_distance_is_the_mean_squared_error_of_shares():
    image = Image(patch=4, channels=1)
    black, grey, white = (part(Pictures.new("L", (8, 4), level)) for level in (0, 51, 255))
    assert MEASURES.distances(image, black, white) == {"mse": 1.0}
    assert MEASURES.distances(image, grey, black)["mse"] == pytest.approx(0.04)
    large = part(Pictures.new("L", (80, 40), 255))
    assert MEASURES.distances(image, white, large) == {"mse": 0.0}, "compared at the size of the part"


def test_facts_are_read_from_the_header(tmp_path):
    path = tmp_path / "a.png"
    noise(7, 5).save(path)
    for value in (str(path), path, path.read_bytes(), noise(7, 5)):
        assert MEASURES.facts(part(value)) == {"size": "7 x 5"}


def test_blanks_are_black_and_of_the_same_size():
    blank = MEASURES.blank(Image(patch=4), part(noise(9, 13))).value
    assert blank.size == (9, 13)
    assert blank.getextrema() == (0, 0)


@pytest.mark.parametrize(("sizes", "side"), [([8], 28), ([40, 44, 48], 44), ([500], 64)])
def test_a_judge_sees_pictures_about_as_large_as_they_are(sizes, side):
    view = JUDGED.judge_view(Image(channels=1), [part(noise(size, 4)) for size in sizes])
    assert view.channels == 1
    seen = view.view(part(noise(30, 50)))
    assert seen.shape == (1, side, side)
    assert 0 <= seen.min() < seen.max() <= 1


@pytest.mark.parametrize("flip", [False, True])
def test_a_judge_s_looks_are_drawn_from_its_generator(flip):
    """Mirrored half of the time where that means the same, and never where it does not."""
    view = JUDGED.judge_view(Image(channels=1, flip=flip), [part(noise(28, 28))])
    half = torch.zeros(64, 1, 28, 28)
    half[..., :14] = 1.0
    looks = [view.augment(half, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[0], looks[2])
    mirrored = (looks[0][..., 14:].mean(dim=(1, 2, 3)) > looks[0][..., :14].mean(dim=(1, 2, 3))).float().mean()
    assert 0.3 < mirrored < 0.7 if flip else mirrored == 0
    assert looks[0].shape == half.shape


def test_a_page_shows_the_picture_exactly_while_it_is_small():
    picture = noise(20, 10)
    page = RENDERS.html(part(picture))
    source = re.search(r'src="data:image/webp;base64,([^"]+)"', page)[1]
    with Pictures.open(io.BytesIO(base64.b64decode(source))) as shown:
        np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), np.asarray(picture))
    assert 'width="60" height="30"' in page
    assert 'class="small"' in page


def test_a_large_picture_is_shrunk_to_the_page():
    page = RENDERS.html(part(Pictures.new("RGB", (1024, 512))))
    assert 'width="256" height="128"' in page
    assert 'class="small"' not in page


def test_labels_of_boxes_are_no_markup():
    """Whatever a model calls a thing."""
    hostile = '<script>alert("x")</script>'
    assert boxes_in_text(f"{hostile} [0, 0, 500, 500]", (300, 300)), "there is no box: the test could not fail"
    page = RENDERS.html(part(noise(300, 300)), [f"{hostile} [0, 0, 500, 500]"])
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") == 2, "as a title and as a name"
    assert page.count("<rect") == 1


@pytest.mark.parametrize(
    "text",
    ["a [5, 5, 5, 9]", "a [9, 5, 5, 9]", "a [0, 0, 1001, 9]", "a [1, 2, 3]", "a [1, 2, 3, x]", "a [-1, 0, 5, 5]", ""],
)
def test_what_is_no_box_draws_nothing(text):
    assert "<svg" not in RENDERS.html(part(noise(30, 30)), [text])


def test_boxes_are_scaled_to_the_picture_and_keep_their_characters():
    text = "a cat [0, 250, 500, 1000]; [10, 20, 30, 40]"
    first, second = boxes_in_text(text, (200, 80))
    assert (first["label"], first["box"]) == ("a cat", [0, 20, 100, 80])
    assert text[slice(*first["span"])] == "a cat [0, 250, 500, 1000]"
    assert second["label"] == ""


def test_transparent_pixels_are_white_on_a_page_and_in_the_features():
    clear = Pictures.new("RGBA", (28, 28), (0, 0, 0, 0))
    assert (MEASURES.features(Image(channels=1), part(clear)) == 255).all()
    source = re.search(r"base64,([^\"]+)\"", RENDERS.html(part(clear)))[1]
    with Pictures.open(io.BytesIO(base64.b64decode(source))) as shown:
        assert shown.convert("RGB").getextrema() == ((255, 255),) * 3


def test_what_kitty_is_sent_is_the_picture(tmp_path):
    """In pieces of 4096 characters; the last says that it is the last."""
    picture = noise(200, 180)
    sent = RENDERS.terminal(part(picture), 40, "kitty")
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent)
    assert len(pieces) > 2
    assert all(len(data) <= 4096 for _, data in pieces)
    assert [control[-3:] for control, _ in pieces] == ["m=1"] * (len(pieces) - 1) + ["m=0"]
    with Pictures.open(io.BytesIO(base64.b64decode("".join(data for _, data in pieces)))) as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(picture))


@pytest.mark.parametrize("columns", [1, 7, 64, 500])
def test_half_blocks_are_no_wider_than_the_terminal(columns):
    shown = RENDERS.terminal(part(noise(100, 60)), columns, None).splitlines()
    assert {line.count("▀") for line in shown} == {min(columns, 64)}


def test_only_pictures_of_python_are_taken_for_pictures():
    assert RENDERS.accepts(DOT)
    assert not any(RENDERS.accepts(value) for value in ("a.png", b"\x89PNG", np.zeros((2, 2), np.uint8), None))


@pytest.mark.parametrize("shape", [(2, 2, 7), (2, 2, 3, 3), (0, 3)])
def test_arrays_that_are_no_pictures_are_named(shape):
    with pytest.raises(RowError, match="expected"):
        Image().read(part(np.zeros(shape, np.uint8)))


def test_written_blocks_are_pictures_of_their_header():
    image = Image(patch=2, channels=1, max_patches=6)
    block = image.read(part(noise(6, 4))).blocks[0]
    assert image.write(Segment("image", (block,))).value.size == (6, 4)
    assert image.write(Segment("image", (block,))).value.mode == "L"


@pytest.mark.parametrize(
    "settings",
    [
        {"patch": 0}, {"max_patches": 0}, {"channels": 2}, {"mean": 1.5}, {"std": 0.0}, {"std": 1.5},
        {"erase": 1.0}, {"colour": -0.1},
    ],
)  # fmt: skip
def test_impossible_settings_say_what_is_possible(settings):
    with pytest.raises(ConfigError, match="expected"):
        Image(**settings)


def test_a_view_of_many_styles_varies_colours_and_keeps_levels():
    x = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    varied = judge.picture_view(3, 8, styles=True).augment(x, torch.Generator().manual_seed(1))
    assert varied.shape == x.shape
    assert 0 <= float(varied.min()) <= float(varied.max()) <= 1
    grey = (varied.std(dim=1).amax(dim=(1, 2)) < 1e-6).float().mean()
    assert 0.1 < float(grey) < 0.3
    plain = judge.picture_view(3, 8).augment(x, torch.Generator().manual_seed(1))
    assert (plain.std(dim=1).amax(dim=(1, 2)) < 1e-6).sum() == 0
