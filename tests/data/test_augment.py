"""Variations of what training looks at: the same seed gives the same, each setting does what its name says and nothing else,
answers stay true, and what is off draws nothing."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image as Pictures
from worlds import World, rng, text

from plait import registry
from plait.contract import Block, Message, Part, Sample, Segment
from plait.data.augment import AugmentConfig, Augmenter
from plait.data.media import CachedReader, Member
from plait.data.row import FlowBlock, Ids
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import ConfigError, RowError
from plait.modalities.audio import Audio
from plait.modalities.audio.augment import in_noise, in_room
from plait.modalities.audio.mel import MELS
from plait.modalities.image import Image
from plait.modalities.image.boxes import boxes_as_text, boxes_in_text
from plait.modalities.text import Text
from plait.recipes import dictionary, load
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe
from plait.tasks import boxes
from plait.tasks.boxes import NONE, move
from plait.tasks.dictionary import TASKS
from plait.train import trainer

EVERYTHING = {
    "image": {"flip": True, "crop": 0.2, "colour": 0.2, "erase": 0.1},
    "audio": {"noise": 1.0, "room": 1.0},
    "text": {"careless": 0.5},
}
ADDED = {"image": ("move", "crop", "colour", "erase"), "audio": ("pitch", "noise", "room"), "text": ("careless",)}
STILL = {"patch": 8, "max_patches": 64, "move": 0.0}


def augmented(modality, segment, draw):
    return registry.augments(modality.name).augment(modality, segment, draw)


def tokens_of(segment):
    return np.concatenate([block.tokens for block in segment.blocks])


def levels_of(modality, segment):
    return np.asarray(modality.write(segment).value).astype(int)


def read(modality, levels):
    return modality.read(Part("image", np.asarray(levels, np.uint8)))


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_seed_says_everything(name):
    modality = registry.build(name, EVERYTHING[name])
    segment = modality.read(modality.example(1))
    made = [tokens_of(augmented(modality, segment, rng(seed))).tolist() for seed in (3, 3, *range(4, 12))]
    assert made[0] == made[1]
    assert len({str(one) for one in made}) > 2, "all seeds give the same"


@pytest.mark.parametrize("name", EVERYTHING)
def test_varied_segments_are_segments(name):
    """Their headers announce what they hold, in the modality's own grammar."""
    modality = registry.build(name, EVERYTHING[name])
    for seed in range(10):
        varied = augmented(modality, modality.read(modality.example(seed)), rng(seed))
        assert modality.ends(varied.blocks[-1].header)
        if modality.head == "flow":
            for block in varied.blocks:
                assert block.tokens.shape == (modality.block_len(block.header), modality.token_width)
                assert block.tokens.dtype == np.float32
                assert np.isfinite(block.tokens).all()


def plain_image(image, segment, draw):
    """The variation of pictures before it had settings but `flip`."""
    picture = image.write(segment).value
    turn, slant = draw.normal(0.0, 0.1, 2)
    wide, high = draw.normal(1.0, 0.08, 2)
    centre = (np.array(picture.size) - 1) / 2
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[wide, slant], [0.0, high]]
    if image.variation.flip and draw.random() < 0.5:
        matrix[:, 0] *= -1
    shift = centre - matrix @ centre + draw.normal(0.0, 0.04, 2) * picture.size
    border = np.asarray(picture)[[0, -1]].reshape(-1, image.channels).mean(axis=0).astype(int)
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    paper = tuple(map(int, border)) if image.channels == 3 else int(border[0])
    how = Pictures.Transform.AFFINE, coefficients, Pictures.Resampling.BILINEAR
    return image.read(Part("image", picture.transform(picture.size, *how, fillcolor=paper)))


def plain_audio(audio, segment, draw):
    """The variation of sound before it had settings, but for what moves in at the edge when the pitch moves."""
    frames = tokens_of(segment).reshape(-1, MELS)
    length = max(1, round(len(frames) * draw.uniform(0.9, 1.1)))
    places = np.linspace(0, len(frames) - 1, length)
    low = places.astype(int)
    share = (places - low)[:, None].astype(np.float32)
    frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
    step = int(draw.integers(-2, 3))
    frames = np.roll(frames, step, axis=1)
    for bin in range(step):
        frames[:, bin] = frames[:, step]
    for bin in range(step, 0):
        frames[:, bin] = frames[:, step - 1]
    frames = frames + np.float32(draw.normal(0.0, 0.15))
    wide, start = int(draw.integers(0, 9)), int(draw.integers(0, MELS))
    frames[:, start : start + wide] = 0.0
    wide, start = int(draw.integers(0, 1 + min(8, length // 4))), int(draw.integers(0, length))
    frames[start : start + wide] = 0.0
    return Segment("audio", (Block((), np.pad(frames, ((0, -length % audio.frames), (0, 0)), mode="edge")),))


@pytest.mark.parametrize(
    ("modality", "plain"),
    [
        (Image(28, 1, 1, flip=True), plain_image),
        (Image(8, 3, 12), plain_image),
        (Audio(), plain_audio),
        (Text(), lambda text, segment, draw: segment),
    ],
)
def test_defaults_are_what_they_were(modality, plain):
    for seed in range(8):
        segment, here, there = modality.read(modality.example(seed)), rng(seed), rng(seed)
        varied, expected = augmented(modality, segment, here), plain(modality, segment, there)
        np.testing.assert_array_equal(tokens_of(varied).ravel(), tokens_of(expected).ravel())
        assert here.bit_generator.state == there.bit_generator.state, "what is off has drawn"


@pytest.mark.parametrize("name", EVERYTHING)
def test_states_keep_the_settings_and_older_ones_load(name):
    modality = registry.build(name, EVERYTHING[name])
    state = modality.state()
    assert registry.build(name, state).state() == state
    older = {key: value for key, value in state.items() if key not in ADDED[name]}
    assert {key: registry.build(name, older).state()[key] for key in ADDED[name]} == {
        key: registry.build(name).state()[key] for key in ADDED[name]
    }


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("image", {"crop": 1.0}),
        ("image", {"move": -0.1}),
        ("audio", {"noise": 1.5}),
        ("audio", {"pitch": -1}),
        ("text", {"careless": -1}),
    ],
)
def test_impossible_settings_are_errors(name, settings):
    with pytest.raises(ConfigError, match="expected"):
        registry.build(name, settings)


def test_without_moves_a_picture_stays():
    image = Image(**STILL)
    segment = read(image, rng(0).integers(0, 256, (24, 40, 3)))
    np.testing.assert_array_equal(tokens_of(augmented(image, segment, rng(1))), tokens_of(segment))


def test_crops_keep_most_of_the_picture():
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[0:64, 0:64] * 4
    image = Image(**STILL, crop=0.3)
    segment = read(image, np.stack([columns, rows, rows * 0], axis=-1))
    kept = []
    for seed in range(40):
        levels = levels_of(image, augmented(image, segment, rng(seed)))
        kept += [np.ptp(levels[32, :, 0]) / 252, np.ptp(levels[:, 32, 1]) / 252]
        assert (np.diff(levels[32, :, 0]) >= 0).all(), "mirrored or mixed up"
    assert 0.68 < min(kept) < 0.76
    assert 0.95 < max(kept) <= 1.0


def test_light_changes_levels_and_no_place():
    image = Image(**STILL, colour=0.2)
    ramp = np.arange(256).reshape(16, 16).repeat(4, axis=0).repeat(4, axis=1)
    segment = read(image, np.stack([ramp] * 3, axis=-1))
    middles = []
    for seed in range(40):
        levels = levels_of(image, augmented(image, segment, rng(seed)))
        np.testing.assert_array_equal(levels.max(axis=-1) - levels.min(axis=-1), 0, "grey got a hue")
        ends = levels[::4, ::4, 0].ravel()
        assert (ends[0], ends[-1]) == (0, 255), "black and white stay"
        assert (np.diff(ends) >= 0).all(), "order of levels"
        middles.append(ends[127] / 127.5)
    assert 0.75 < min(middles) < 0.9
    assert 1.1 < max(middles) < 1.25


def hue_of(levels):
    return float(np.asarray(Pictures.fromarray(levels.astype(np.uint8)).convert("HSV"))[0, 0, 0]) * 360 / 255


def test_hues_turn_a_little():
    image = Image(**STILL, colour=0.15)
    segment = read(image, np.full((64, 64, 3), (200, 120, 60)))
    was = hue_of(levels_of(image, segment))
    turns = [hue_of(levels_of(image, augmented(image, segment, rng(seed)))) - was for seed in range(40)]
    assert max(np.abs(turns)) < 10  # degrees
    assert min(turns) < -2
    assert max(turns) > 2


def test_one_rectangle_is_hidden():
    image = Image(**STILL, erase=0.2)
    levels = rng(0).integers(0, 100, (64, 64, 3))
    levels[[0, -1]] = (250, 200, 150)  # the border, which no other pixel is like
    segment, shares = read(image, levels), []
    for seed in range(40):
        varied = levels_of(image, augmented(image, segment, rng(seed)))
        changed = (varied != levels).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if len(rows):
            inside = varied[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (inside == (250, 200, 150)).all()
        shares.append(changed.mean())
    assert max(shares) <= 0.22  # whole pixels
    assert max(shares) > 0.15


def test_grey_pictures_vary_too():
    image = Image(28, 1, 1, crop=0.2, colour=0.2, erase=0.1)
    segment = image.read(image.example(0))
    assert not np.array_equal(tokens_of(augmented(image, segment, rng(0))), tokens_of(segment))


@pytest.mark.parametrize("pink", [False, True])
def test_noise_has_its_power_and_its_slope(pink):
    frames = rng(0).normal(-5.0, 2.0, (400, MELS))
    noise = 0.5 * np.log(np.exp(2 * in_noise(frames, 10.0, pink, rng(1))) - np.exp(2 * frames))
    ratio = 10 * np.log10(np.exp(2 * frames).mean() / np.exp(2 * noise).mean())
    assert ratio == pytest.approx(10.0, abs=0.1)
    spectrum = 0.5 * np.log(np.exp(2 * noise).mean(axis=0))
    assert spectrum[20] - spectrum[70] == pytest.approx(0.5 * np.log(5060 / 808) if pink else 0.0, abs=0.15)


def test_a_room_rings_and_dies_away():
    """A click: its tail falls by 60 dB in the seconds asked for, and has in all the power asked for."""
    frames = np.full((300, MELS), -11.0)
    frames[20] = 0.0
    power = np.exp(2 * in_room(frames, seconds=0.5, below=3.0))[:, 0]
    assert (power[:20] < 1e-8).all(), "heard before it sounds"
    assert power[20] == pytest.approx(1.0)
    assert 10 * np.log10(power[25] / power[55]) == pytest.approx(60 * 0.30 / 0.5, rel=0.01)
    assert 10 * np.log10(power[21:].sum()) == pytest.approx(-3.0, abs=0.05)


@pytest.mark.parametrize("setting", ["noise", "room"])
def test_chances_are_chances(setting):
    audio = Audio(**{setting: 0.3})
    segment = audio.read(audio.example(0))
    drawn = [rng(seed) for seed in range(200)]
    plain = [tokens_of(augmented(Audio(), segment, rng(seed))).shape for seed in range(200)]
    varied = [tokens_of(augmented(audio, segment, one)).shape for one in drawn]
    assert varied == plain, "the tempo is drawn first"
    idle = 0
    for seed, one in enumerate(drawn):
        other = rng(seed)
        other.random()
        augmented(Audio(), segment, other)
        idle += one.bit_generator.state == other.bit_generator.state
    assert 0.6 < idle / 200 < 0.8


def test_pitch_moves_as_far_as_it_may():
    """A single loud bin: where it is afterwards."""
    frames = np.zeros((40, MELS), np.float32)
    frames[:, 40] = 5.0
    for pitch in (0, 3):
        audio = Audio(pitch=pitch)
        segment = audio.chain(frames)
        found = [tokens_of(augmented(audio, segment, rng(seed))).reshape(-1, MELS).mean(axis=0) for seed in range(60)]
        assert {int(one.argmax()) - 40 for one in found if one.max() > 2} == set(range(-pitch, pitch + 1))


def test_every_digit_is_a_token():
    model = Text(vocab_size=600)
    model.fit([text(f"cell [340, 55, 641, 1000] in 2024, {n}") for n in range(99)])
    for asked in ("cell [340, 55, 641, 1000]", "1st of 2024", "3.14", "no number"):
        segment = model.read(text(asked))
        ids = [int(i) for block in segment.blocks for i in block.tokens]
        found = [model._tokenizer.decode([i]) for i in ids]
        assert "".join(one for one in found if any(c.isdigit() for c in one)).replace(" ", "") == "".join(
            filter(str.isdigit, asked)
        )
        assert all(sum(map(str.isdigit, one)) <= 1 for one in found)
        assert model.write(segment).value == asked


def test_careless_words_are_the_same_words():
    model = Text(careless=0.5)
    for asked in ("Name this in German.", "Which category", "猫は何？", ""):
        segment = model.read(text(asked))
        made = {model.write(augmented(model, segment, rng(seed))).value for seed in range(60)}

        def bare(words):
            return words.casefold().rstrip(".?!").split()

        assert {tuple(bare(one)) for one in made} == {tuple(bare(asked))}
        assert asked in made
    made = {model.write(augmented(model, model.read(text("Name this.")), rng(seed))).value for seed in range(200)}
    assert {"name this.", "NAME THIS.", "Name this", "Name  this."} <= made


def drawn(label="cell", box=(60, 40, 120, 90), size=(256, 200)):
    """A red rectangle on a grey picture, and the question where it is."""
    levels = np.full((size[1], size[0], 3), 200, np.uint8)
    levels[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    return asked(Pictures.fromarray(levels), boxes_as_text([{"label": label, "box": box}], size))


def asked(picture, answer):
    parts = (Part("image", picture), text("Find every cell."))
    return Sample((Message("user", parts), Message("assistant", (text(answer),))), "detect", {"a": 1}, "rows:7")


def answer_of(sample):
    return sample.messages[-1].parts[0].value


def red_in(picture):
    """The smallest box around what is red, None where nothing is."""
    levels = np.asarray(picture).astype(int)
    rows, columns = np.nonzero(levels[..., 0] - levels[..., 1] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(60, 40, 120, 90), (110, 80, 150, 130), (4, 4, 60, 30), (200, 150, 256, 200)])
def test_boxes_enclose_what_was_drawn(box, flip):
    sample = drawn(box=box)
    sides = set()
    for seed in range(40):
        moved = move(sample, rng(seed), flip=flip)
        picture = moved.messages[0].parts[0].value
        assert picture.size == (256, 200)
        found, red = boxes_in_text(answer_of(moved), picture.size), red_in(picture)
        if not found:
            assert answer_of(moved) == NONE
            continue
        x1, y1, x2, y2 = found[0]["box"]
        assert x1 <= red[0] + 1.5
        assert y1 <= red[1] + 1.5
        assert x2 >= red[2] - 1.5
        assert y2 >= red[3] - 1.5
        if min(x1, y1, 256 - x2, 200 - y2) > 0:  # cut boxes enclose a turned rectangle less closely
            np.testing.assert_allclose([x1, y1, x2, y2], red, atol=1.5)
        sides.add((x1 + x2) / 2 < 128)
    assert len(sides) == 2 or not flip or box == (110, 80, 150, 130), "never mirrored"  # that one is in the middle


def test_half_of_a_box_must_be_left():
    """A square at the upper edge: how much of its height there is to its width."""
    left = {True: [], False: []}
    for seed in range(200):
        moved = move(drawn(box=(110, 0, 150, 40)), rng(seed))
        red = red_in(moved.messages[0].parts[0].value)
        if red is not None:
            left[answer_of(moved) != NONE].append((red[3] - red[1]) / (red[2] - red[0]))
    assert 0.4 < max(left[False]) < 0.6  # turned ones, and whole pixels
    assert 0.4 < min(left[True]) < 0.6


def test_moves_differ_by_seed_alone():
    sample = drawn()
    one, same, other = (move(sample, rng(seed)) for seed in (1, 1, 2))
    assert answer_of(one) == answer_of(same) != answer_of(other)
    np.testing.assert_array_equal(one.messages[0].parts[0].value, same.messages[0].parts[0].value)
    assert (one.task, one.meta, one.where, one.messages[0].parts[1]) == (
        "detect", {"a": 1}, "rows:7", sample.messages[0].parts[1],
    )  # fmt: skip


def test_moved_boxes_keep_their_order_and_lost_ones_go():
    """A row of boxes, mirrored in half of the cases: from the top left on as ever, less those that are out."""
    boxes = [{"label": "cell", "box": (x, 2, x + 20, 14)} for x in range(0, 240, 40)]
    sample = asked(Pictures.new("RGB", (256, 200)), boxes_as_text(boxes, (256, 200)))
    counts = set()
    for seed in range(60):
        made = answer_of(move(sample, rng(seed), flip=True))
        found = boxes_in_text(made, (256, 200))
        assert made == (boxes_as_text(found, (256, 200)) or NONE)
        counts.add(len(found))
    assert min(counts) == 0
    assert max(counts) == len(boxes)


def test_answers_without_boxes_stay():
    for answer in ("seven", "none", ""):
        assert answer_of(move(asked(Pictures.new("L", (30, 20)), answer), rng(0))) == answer


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_move(mode):
    sample = asked(Pictures.new("L", (60, 40)).convert(mode), "cell [100, 100, 900, 900]")
    moved = move(sample, rng(0)).messages[0].parts[0]
    assert Image(8, 3, 64).read(moved).blocks


def test_pictures_are_opened_wherever_they_are(tmp_path):
    """From a file, from bytes, from within a shard, and turned as a camera says."""
    sample = drawn()
    buffer = io.BytesIO()
    sample.messages[0].parts[0].value.save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "a.tar").write_bytes(b"before" + data + b"after")
    expected = np.asarray(move(sample, rng(3)).messages[0].parts[0].value)
    member = Member(str(tmp_path / "a.tar"), "a.png", 6, len(data))
    for value in (tmp_path / "a.png", str(tmp_path / "a.png"), data, member):
        moved = move(asked(value, answer_of(sample)), rng(3))
        np.testing.assert_array_equal(moved.messages[0].parts[0].value, expected)
        assert answer_of(moved) == answer_of(move(sample, rng(3)))
    exif = Pictures.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    sample.messages[0].parts[0].value.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    moved = move(asked(tmp_path / "turned.png", answer_of(sample)), rng(3))
    np.testing.assert_array_equal(moved.messages[0].parts[0].value, expected)


def test_pictures_that_cannot_move_are_named(tmp_path):
    (tmp_path / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for value in (tmp_path / "half.png", tmp_path / "gone.png", b"nothing"):
        with pytest.raises(RowError, match=r"is no picture|is not there"):
            move(asked(value, "seven"), rng(0))
    wordless = Sample((Message("user", (text("Find it."),)), Message("assistant", (text("there"),))), where="rows:3")
    with pytest.raises(RowError, match="rows:3: got 0 pictures; expected one"):
        move(wordless, rng(0))


def parts_of(encoder, sample, seed):
    """Learned ids and looked-at pictures of a row's elements."""
    made = encoder.elements(sample, rng(seed))
    learned = [element.ids for element in made if isinstance(element, Ids) and element.learned]
    return learned, [element.tokens for element in made if isinstance(element, FlowBlock)]


def test_rows_are_altered_in_their_share(world):
    """Altered rows are not varied as well; rows of other tasks are neither."""
    seen = []

    def alter(sample, draw):
        seen.append(draw.random())
        return dataclasses.replace(sample, messages=(sample.messages[0], Message("assistant", (text("zwei"),))))

    sample = world.sample([world.part("image", 3)], [text("yes")], "a")
    plain = Encoder(world.vocabulary, FlowConfig())
    augmenter = Augmenter({"a": AugmentConfig(share=0.3), "b": AugmentConfig()}, world.modalities)
    augmenter.transforms.update({"a": alter, "b": alter})
    encoder = Encoder(world.vocabulary, FlowConfig(), augmenter=augmenter)
    as_altered = parts_of(plain, alter(sample, rng(0)), 0)
    seen.clear()
    for seed in range(200):
        before = len(seen)
        learned, pictures = parts_of(encoder, sample, seed)
        expected = as_altered if len(seen) > before else parts_of(plain, sample, seed)
        assert learned == expected[0]
        np.testing.assert_array_equal(pictures[0], expected[1][0])
    assert 0.2 < len(seen) / 200 < 0.4
    seen.clear()
    assert parts_of(encoder, dataclasses.replace(sample, task="b"), 0)[0] == parts_of(plain, sample, 0)[0]
    assert not seen, "no share of this task was asked for"


def test_a_task_varies_with_settings_of_its_own(world):
    """Its pictures stay, those of others move, and answers are untouched in both."""
    still = AugmentConfig(share=1.0, modalities={"image": {"move": 0.0}, "smell": {}})
    augmenter = Augmenter({"still": still, "free": AugmentConfig(share=1.0)}, world.modalities)
    assert list(augmenter.modalities["still"]) == ["image"], "a modality that is not in use has none"
    encoder = Encoder(world.vocabulary, FlowConfig(), augmenter=augmenter)
    plain = Encoder(world.vocabulary, FlowConfig())
    sample = world.sample([world.part("image", 3)], [text("yes")], "still")
    moved = 0
    for seed in range(10):
        learned, (picture,) = parts_of(encoder, sample, seed)
        as_is, (expected,) = parts_of(plain, sample, seed)
        free, (other,) = parts_of(encoder, dataclasses.replace(sample, task="free"), seed)
        assert learned == as_is == free
        np.testing.assert_array_equal(picture, expected)
        moved += not np.array_equal(other, expected)
    assert moved == 10


def test_answers_are_never_varied():
    """Not a sound, a picture or a word of what is learned, with all that there is."""
    world = World()
    modalities = {name: registry.build(name, one.state() | EVERYTHING[name]) for name, one in world.modalities.items()}
    world.vocabulary.modalities.update(modalities)
    plain = FlowConfig(null_prob=0.0, end_prob=1.0)
    for sample in world.samples():
        varied = Encoder(
            world.vocabulary, plain, augmenter=Augmenter({sample.task: AugmentConfig(share=1.0)}, modalities)
        ).elements(sample, rng(0))
        as_is = Encoder(world.vocabulary, plain).elements(sample, rng(0))

        def learned(elements):
            return [e.ids if isinstance(e, Ids) else e.tokens.tolist() for e in elements if e.learned]

        assert learned(varied) == learned(as_is)


def recipe_of(name, **augment):
    settings = {"text": {"vocab_size": 280}, "image": {"patch": 4}, "audio": {}}
    trunk = {"dim": 32, "num_layers": 1, "num_heads": 2}
    return Recipe(name=name, data="", modalities=settings, trunk=trunk, augment=augment)


def test_a_training_takes_what_its_recipe_says_whatever_it_is_called(world):
    tasks = ("detect", "speaker") * 99
    samples = [dataclasses.replace(sample, task=task) for sample, task in zip(world.samples(), tasks, strict=False)]
    augment = {task: dictionary.AUGMENT[task] for task in ("detect", "speaker")}
    for name in ("dictionary", "another"):
        encoder = trainer.build(recipe_of(name, **augment), samples, world.model()).loader.encoder
        assert isinstance(encoder.encode_part, CachedReader)
        assert encoder.augmenter.transforms == {"detect": boxes.move_and_mirror}
        speaker = encoder.augmenter.modalities["speaker"]["audio"]
        assert speaker.variation.pitch == 0
        np.testing.assert_allclose(speaker.mean, world.modalities["audio"].mean, atol=1e-6)
        encoder = trainer.build(recipe_of(name), samples, world.model()).loader.encoder
        assert not encoder.augmenter.transforms
        assert not encoder.augmenter.modalities


def test_augmentation_of_a_task_without_rows_is_refused(world):
    with pytest.raises(ConfigError, match=r"augment names.*'no-such-task'"):
        trainer.build(recipe_of("any", **{"no-such-task": {"share": 0.5}}), world.samples(), world.model())


@pytest.mark.parametrize("name", ["boxes.fly", "os.system", "move", "", "boxes."])
def test_an_unknown_transform_is_refused(name):
    with pytest.raises(ConfigError, match="unknown transform"):
        registry.transform(name)


def test_a_share_alone_stands_for_its_settings():
    assert override(recipe_of("any"), ["augment.read=0.5"]).augment["read"] == AugmentConfig(share=0.5)


def test_the_dictionary_varies_nothing_that_an_answer_is_about():
    recipe = load("dictionary")
    cells = {task.name: task.cell for task in TASKS}
    assert set(recipe.augment) <= set(cells)
    reads = {task for task in recipe.augment if cells[task].endswith("->text")}
    asked = {task for task in recipe.augment if cells[task].startswith("text->")}
    assert reads | asked == set(recipe.augment), "an answer would have to vary along"

    def settings(task, modality):
        return registry.build(modality, recipe.modalities[modality] | recipe.augment[task].modalities.get(modality, {}))

    for task in ("count", "where", "blood"):
        look = settings(task, "image").variation
        assert (look.flip, look.move, look.crop, look.erase) == (False, 0.0, 0.0, 0.0)
    assert (settings("colour", "image").variation.colour, settings("name", "image").variation.colour) == (0.0, 0.0)
    assert [task for task in recipe.augment if settings(task, "image").variation.flip] == ["clothes", "colour"]
    assert settings("speaker", "audio").variation.pitch == 0


@pytest.mark.parametrize(
    ("label", "flips"),
    [
        ("left arrow", False),
        ("Right hand", False),
        ("up-right arrow", False),
        ("leftwards hand", False),
        ("one o’clock", False),
        ("leftover", True),
        ("platelet", True),
    ],
)
def test_boxes_are_mirrored_where_their_name_does_not_tell_left_from_right(monkeypatch, label, flips):
    monkeypatch.setattr(boxes, "move", lambda sample, rng, flip: flip)
    sample = Sample((Message("user", (Part("text", "?"),)),), "detect", {"label": label})
    assert boxes.move_and_mirror(sample, rng(0)) is flips


def test_centred_pictures_are_the_same_pictures():
    plain = registry.build("image", {"patch": 8, "channels": 3})
    centred = registry.build("image", {"patch": 8, "channels": 3, "mean": 0.6, "std": 0.5})
    part = plain.example(3)
    tokens, moved = tokens_of(plain.read(part)), tokens_of(centred.read(part))
    assert np.allclose(moved, (tokens - 0.6) / 0.5, atol=1e-6)
    back = centred.write(centred.read(part)).value
    assert np.array_equal(np.asarray(back), np.asarray(plain.write(plain.read(part)).value))
    assert np.allclose(centred.canonical(moved), moved, atol=1e-6)
    wild = centred.canonical(np.full_like(moved, 9.0))  # whiter than white
    assert np.allclose(wild, (1 - 0.6) / 0.5)
    assert registry.build("image", centred.state()).state() == centred.state()


@pytest.mark.parametrize("settings", [{"mean": 1.5}, {"std": 0.0}, {"std": -1.0}, {"brightness": 0.1}])
def test_bad_settings_of_pictures(settings):
    with pytest.raises(ConfigError, match="image"):
        registry.build("image", settings)
