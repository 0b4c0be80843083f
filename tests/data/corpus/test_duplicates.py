"""Near-duplicates are found, other things are not, and leaks are named."""

import io

import numpy as np
import pytest
import soundfile
from drawings_and_clips import clip, drawing
from PIL import Image, ImageDraw

from plait.data.corpus import duplicates
from plait.data.corpus.duplicates import Fingerprints, Groups
from plait.errors import DataError
from plait.modalities.audio.mel import RATE, log_mel


def as_jpeg(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "alter",
    [
        as_jpeg,
        lambda p: p.resize((48, 48)),
        lambda p: p.resize((200, 180)),
        lambda p: Image.eval(p, lambda v: int(0.99 * v)),
    ],
    ids=["jpeg", "smaller", "stretched", "darker"],
)
def test_a_picture_and_its_copies_are_near(alter):
    originals = [duplicates.picture_signature(drawing(seed)) for seed in range(40)]
    copies = [duplicates.picture_signature(alter(drawing(seed))) for seed in range(40)]
    pairs = duplicates.near_pictures(copies, originals)
    assert sum((seed, seed) in pairs for seed in range(40)) >= 38
    assert sum(i != j for i, j in pairs) == 0


def test_a_red_and_a_green_square_are_two_pictures():
    squares = [Image.new("RGB", (64, 64), "white") for _ in range(2)]
    for square, colour in zip(squares, ("red", "green"), strict=True):
        ImageDraw.Draw(square).rectangle([16, 16, 48, 48], fill=colour)
    red, green = map(duplicates.picture_signature, squares)
    assert duplicates.near([red.bits], [green.bits], 64, 8)
    assert not duplicates.near_pictures([red], [green])
    assert duplicates.PictureSignature.parse(str(red)) == red


def as_vorbis(samples):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="OGG")
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


@pytest.mark.parametrize(
    "alter",
    [lambda c: 0.3 * c, lambda c: np.pad(c, (3000, 5000)), as_vorbis],
    ids=["softer", "silence around", "vorbis"],
)
def test_a_clip_and_its_copies_are_near(alter):
    originals = [duplicates.clip_signature(log_mel(clip(seed))) for seed in range(20)]
    copies = [duplicates.clip_signature(log_mel(alter(clip(seed)).astype(np.float32))) for seed in range(20)]
    pairs = duplicates.near_clips(copies, originals)
    assert sum((seed, seed) in pairs for seed in range(20)) >= 18
    assert sum(i != j for i, j in pairs) == 0


def test_near_is_the_plain_count_of_bits():
    rng = np.random.default_rng(0)
    a, b = ([int(n) for n in rng.integers(0, 2**62, 300)] for _ in range(2))
    b[7], b[11] = a[3] ^ 0b101, a[200]
    slow = [(i, j) for i, x in enumerate(a) for j, y in enumerate(b) if (x ^ y).bit_count() <= 3]
    assert slow == sorted(duplicates.near(a, b, 64, 3))
    assert {(3, 7), (200, 11)} <= set(slow)
    assert duplicates.near([], b, 64, 3) == []


def test_joined_keys_are_one_group_whatever_the_order():
    pairs = [("a", "b"), ("c", "d"), ("b", "d"), ("e", "f")]
    tables = []
    for order in (pairs, pairs[::-1]):
        groups = Groups()
        for pair in order:
            groups.join(*pair)
        tables.append({key: groups.of(key) for key in "abcdefg"})
    assert tables[0] == tables[1] == {**dict.fromkeys("abcd", "a"), **dict.fromkeys("ef", "e"), "g": "g"}


def prints(keys=(), pictures=(), clips=(), words=()):
    return Fingerprints(
        frozenset(keys),
        {f"p{seed}": duplicates.picture_signature(drawing(seed)) for seed in pictures},
        {f"c{seed}": duplicates.clip_signature(log_mel(clip(seed))) for seed in clips},
        frozenset(words),
    )


@pytest.mark.parametrize(
    ("held", "what"),
    [
        (prints(keys=["k"]), "key 'k' is in both"),
        (prints(pictures=[9]), "picture p9 is like p9"),
        (prints(clips=[9]), "clip c9 is like c9"),
        (prints(words=["name: what"]), "question 'name: what' is asked"),
    ],
)
def test_every_kind_of_leak_is_found_and_refused(held, what):
    train = prints(["k", "l"], range(5, 15), range(5, 15), ["name: what", "name: who"])
    lines = duplicates.leaks(held, train)
    assert len(lines) == 1
    assert what in lines[0]
    with pytest.raises(DataError, match="split 'test' leaks into training 1 times"):
        duplicates.refuse_leaks("test", lines)
    assert duplicates.leaks(prints(["m"], [30], [30], ["name: why"]), train) == []


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_how_many_rows_are_compared_at_once_changes_nothing(rows):
    rng = np.random.default_rng(1)
    left, right = ([int(n) for n in rng.integers(0, 2**20, 40)] for _ in range(2))
    assert duplicates.near(left, right, 64, 5, rows) == duplicates.near(left, right, 64, 5)


def test_nothing_is_near_nothing():
    assert duplicates.near([], [], 64, 3) == []
    assert duplicates.near_clips([], [5]) == duplicates.near_clips([5], []) == []
    assert duplicates.near_pictures([], [duplicates.picture_signature(drawing(0))]) == []
    assert duplicates.near_pictures([duplicates.picture_signature(drawing(0))], []) == []


def test_a_bound_on_bits_is_met_exactly():
    assert duplicates.near([0], [0b111], 64, 3) == [(0, 0)]
    assert duplicates.near([0], [0b1111], 64, 3) == []
    assert duplicates.near([2**511], [0], 512, 1) == [(0, 0)], "the highest bit counts"


def test_many_pictures_alike_in_shape_are_compared_in_batches(monkeypatch):
    """A disc in many colours: all pairs have one shape, and those of one colour alone are near."""
    discs = []
    for level in range(0, 250, 25):
        canvas = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(canvas).ellipse([8, 8, 56, 56], fill=(level, 0, 0))
        discs.append(duplicates.picture_signature(canvas))
    everything = duplicates.near_pictures(discs, discs)
    assert {(n, n) for n in range(len(discs))} <= set(everything)
    assert len(everything) < len(discs) ** 2
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(duplicates, "ROWS_AT_ONCE", 2)
    assert duplicates.near_pictures(discs, discs) == everything


def test_signatures_survive_being_written_down():
    for signature in map(duplicates.picture_signature, (drawing(3), Image.new("L", (5, 9), 0))):
        assert duplicates.PictureSignature.parse(str(signature)) == signature
    with pytest.raises(ValueError, match="unpack"):
        duplicates.PictureSignature.parse("abc")


def test_a_clip_s_signature_fits_its_bits():
    for frames in (np.random.default_rng(0).normal(size=(n, 80)) for n in (1, 2, 7, 400)):
        assert 0 <= duplicates.clip_signature(frames) < 2**duplicates.CLIP_BITS


def test_groups_join_transitively_and_keep_their_name():
    groups = Groups()
    for pair in (("d", "e"), ("c", "d"), ("b", "c"), ("a", "b")):
        groups.join(*pair)
    assert {groups.of(key) for key in "abcde"} == {"a"}
    groups.join("a", "e")
    assert groups.of("e") == "a"
    assert groups.of("alone") == "alone"


def test_a_long_chain_of_joined_keys_needs_no_recursion():
    groups = Groups()
    for number in range(5000, 0, -1):
        groups.join(f"{number:05d}", f"{number - 1:05d}")
    assert groups.of("05000") == "00000"


def test_no_leak_is_no_error_and_many_are_not_all_listed():
    duplicates.refuse_leaks("test", [])
    with pytest.raises(DataError, match=r"leaks into training 9 times: 0; 1; 2; 3; 4; \.\.\.; expected"):
        duplicates.refuse_leaks("test", [str(n) for n in range(9)])
    with pytest.raises(DataError, match="leaks into training 1 times: only; expected"):
        duplicates.refuse_leaks("test", ["only"])


def test_keys_are_compared_only_where_they_may_not_be_shared():
    held, train = prints(keys=["a", "b"]), prints(keys=["b"])
    assert duplicates.leaks(held, train) == ["key 'b' is in both"]
    assert duplicates.leaks(held, train, keys=False) == []


def test_reasons_are_counted_the_commonest_first():
    assert list(duplicates.tally(["a", "b", "b", "c", "b", "c"]).items()) == [("b", 3), ("c", 2), ("a", 1)]
    assert duplicates.tally([]) == {}
