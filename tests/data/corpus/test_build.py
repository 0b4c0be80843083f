"""From sources to rows: near-duplicates are found, groups stay together, and a leak fails the build."""

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from plait import registry
from plait.cli import app
from plait.contract import Part
from plait.data import sources
from plait.data.corpus import build, collect, duplicates
from plait.data.corpus.composites import composite, main_colour
from plait.data.corpus.duplicates import Fingerprints, Groups
from plait.data.rows import read_rows
from plait.data.shards import ShardRows
from plait.data.sources import Asset, Entry, plain_words
from plait.errors import ConfigError, DataError
from plait.modalities.audio.mel import RATE, log_mel
from plait.recipes import dictionary
from plait.tasks.dictionary import BY_NAME, TASKS, Group
from plait.tasks.task import Item

KNOWN = registry.build_all(registry.available())


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def drawing(seed, size=96):
    """Some coloured shapes on white."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(canvas)
    for _ in range(4):
        x, y = rng.integers(0, size * 0.6, 2)
        wide, high = rng.integers(size // 6, size // 2, 2)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape([int(x), int(y), int(x + wide), int(y + high)], fill=tuple(map(int, rng.integers(0, 200, 3))))
    return canvas


def clip(seed, seconds=1.0):
    """A few gliding tones with gaps, unlike one another."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    samples = np.zeros_like(time)
    for _ in range(5):
        start, end = np.sort(rng.uniform(0, seconds, 2))
        tone = np.sin(2 * np.pi * time * rng.uniform(150, 4000) * (1 + rng.uniform(-0.3, 0.3) * time))
        samples += tone * ((time >= start) & (time <= end))
    return (0.2 * samples + 0.01 * rng.normal(size=len(time))).astype(np.float32)


# near-duplicates


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


def test_words_are_compared_without_case_punctuation_and_forms():
    assert plain_words("  The CAT’s  hat! ") == plain_words("the cat's hat")
    assert plain_words("ｆｕｌｌ") == "full"
    assert plain_words("猫") != plain_words("犬")


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


# facts and pictures that are made


@pytest.mark.parametrize("colour", ["red", "yellow", "green", "blue", "black", "purple"])
def test_the_main_colour_of_a_drawing(colour):
    canvas = Image.new("RGB", (90, 90), "white")
    ImageDraw.Draw(canvas).ellipse([10, 10, 80, 80], fill=colour)
    assert main_colour(canvas) == colour
    ImageDraw.Draw(canvas).rectangle([10, 10, 80, 45], fill="orange" if colour == "blue" else "blue")
    assert main_colour(canvas) is None


def test_boxes_of_a_composite_enclose_what_was_drawn():
    things = []
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 160, 0)), ("blue", (0, 0, 255))):
        canvas = Image.new("RGB", (90, 90), "white")
        ImageDraw.Draw(canvas).rectangle([20, 30, 70, 60], fill=colour)
        things.append((name, canvas))
    picture, boxes = composite(things, np.random.default_rng(4))
    levels = np.asarray(picture, int)
    assert [box["label"] for box in boxes] == ["red", "green", "blue"]
    for box, channel in zip(boxes, range(3), strict=True):
        mine = levels[..., channel] - levels[..., [c for c in range(3) if c != channel]].max(axis=2) > 100
        rows, columns = np.nonzero(mine)
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(box["box"]) - drawn).max() <= 1


# collecting


def entries(folder):
    yield Entry("drawing", "apple", {"picture": drawing(1, 300)}, {"en": "apple"}, {"style": "noto"})
    yield Entry(
        "boxes", "map", {"picture": drawing(2, 640)}, {}, {"boxes": [{"label": "a", "box": [64, 64, 128, 640]}]}
    )
    yield Entry("speech", "apple", {"speech": (clip(1), RATE)}, {"en": "apple"}, {"speaker": "x", "language": "en"})
    yield Entry("speech", "long", {"speech": (clip(1, 9.0), RATE)}, {"en": "long"}, {"speaker": "x", "language": "en"})
    yield Entry("speech", "quiet", {"speech": (np.zeros(RATE, np.float32), RATE)}, {}, {})
    yield Entry("drawing", "paper", {"picture": Image.new("RGB", (50, 50), "white")}, {}, {})
    yield Entry("left out", "no name", facts={"what": "x"})


@pytest.fixture
def fake(monkeypatch):
    calls = Counter()

    def module(name):
        def counted(folder):
            calls[name] += 1
            return entries(folder)

        return SimpleNamespace(entries=counted)

    monkeypatch.setattr(sources, "module", module)
    return calls


def test_sources_are_collected_once_and_what_is_left_out_is_counted(tmp_path, fake):
    done = collect.collect("fake", tmp_path, tmp_path / "collected")
    assert done["items"] == {"drawing": 1, "boxes": 1, "speech": 1}
    assert done["left_out"] == {
        "sound that is too long": 1, "silence, or sound of less than 0.1 s": 1, "a picture of one colour": 1, "no name": 1,
    }  # fmt: skip
    apple, boxed, spoken = collect.assets_of("fake", tmp_path / "collected")
    with Image.open(apple.media["picture"]) as picture:
        assert max(picture.size) == collect.SIDE
    assert boxed.facts["size"] == [320, 320]
    assert boxed.facts["boxes"][0]["box"] == [32, 32, 64, 320]
    assert KNOWN["audio"].read(spoken.part("speech")).blocks
    assert collect.collect("fake", tmp_path, tmp_path / "collected") == done
    assert fake["fake"] == 1
    (tmp_path / "source.json").write_text("other archives")
    collect.collect("fake", tmp_path, tmp_path / "collected")
    assert fake["fake"] == 2, "what other archives hold is collected anew"


def test_a_source_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def broken(folder):
        yield from list(entries(folder))[:2]
        raise DataError("the list ends in the middle")

    monkeypatch.setattr(sources, "module", lambda name: SimpleNamespace(entries=broken))
    with pytest.raises(DataError, match="in the middle"):
        collect.collect("fake", tmp_path, tmp_path / "collected")
    assert not (tmp_path / "collected/fake").exists()
    with pytest.raises(DataError, match="expected the source fake collected"):
        list(collect.assets_of("fake", tmp_path / "collected"))


# building


def concepts(folder, count=60):
    """Drawings of concepts in three styles, with names, and pairs of words."""
    folder.mkdir()
    assets = []
    for number in range(count):
        for offset, style in enumerate(("twemoji", "openmoji", "noto")):
            path = folder / f"{number}-{style}.png"
            drawing(100 * offset + number + 1000).save(path)
            assets.append(
                Asset(
                    "emoji", "drawing", str(number), {"picture": str(path)},
                    {"en": f"thing {number}", "de-1996": f"Ding {number}", "xx": "no language of ours"},
                    {"style": style, "code": str(number), "base": str(number), "category": ("a", "b")[number % 2], "tone": 0},
                    signatures={"picture": str(duplicates.picture_signature(Image.open(path)))},
                )
            )  # fmt: skip
    return assets


@pytest.fixture
def few_composites(monkeypatch):
    monkeypatch.setattr(build, "COMPOSITES", {build.TRAIN: 5, build.TEST: 3})


def built(assets, folder):
    corpus = build.split(assets)
    build.add_composites(corpus, folder / "composites")
    return corpus, build.write(corpus, folder, lambda what: None)


def rows_of(folder, name):
    return list(read_rows(folder / f"{name}.jsonl", KNOWN))


def media(samples):
    return {str(p.value) for s in samples for m in s.messages for p in m.parts if p.type != "text"}


def test_groups_stay_together_and_a_style_is_held_out_whole(tmp_path, few_composites):
    _, written = built(concepts(tmp_path / "pictures"), tmp_path)
    train = ShardRows(tmp_path, "train", KNOWN)
    assert {task: len(rows) for task, rows in train.items()} == {t: n for t, n in written["tasks"].items() if n}
    test, style = rows_of(tmp_path, "name.test"), rows_of(tmp_path, "name.style")
    tested = {s.messages[1].parts[0].value.split()[1] for s in test}
    taught = {train["name"][i].messages[1].parts[0].value.split()[1] for i in range(len(train["name"]))}
    assert tested
    assert not tested & taught
    assert all("-noto" in path for path in media(style))
    assert {s.messages[1].parts[0].value.split()[1] for s in style} <= taught
    assert {s.meta["style"] for s in (train["name"][i] for i in range(len(train["name"])))} == {"twemoji", "openmoji"}
    assert any(s.messages[1].parts[0].value.startswith("Ding") for s in test)
    held = rows_of(tmp_path, "name.phrasing")
    assert held
    assert all(
        BY_NAME["name"].held_out_phrasing.split("{language}")[0].split()[-1] in str(s.messages[0].parts) for s in held
    )
    learned = media(rows_of(tmp_path, "labelled-train"))
    assert learned
    assert not any("-noto" in path for path in learned), "what baselines learn from has no drawing that is held out"
    known = rows_of(tmp_path, "draw.known")
    assert known
    assert not any("-noto" in path for path in media(known)), "training drew nothing in that style"
    asked = {train["draw"][i].meta["asks"] for i in range(len(train["draw"]))}
    assert {s.meta["asks"] for s in known} <= asked, "what is asked as known was asked in training"
    assert {s.meta["phrasing"] for s in known} <= set(BY_NAME["draw"].trained_phrasings), "and in its words"
    for name in ("draw.test", "name.test", "restyle.test", "category.test"):
        assert rows_of(tmp_path, name)
        assert not any("-noto" in path for path in media(rows_of(tmp_path, name))), (
            "new things in styles that are known"
        )


def test_the_same_is_asked_in_other_words():
    def row(phrasing, text, language="German"):
        task = BY_NAME["translate"]
        slots = {"text": text, "given": "English", "language": language}
        return task.sample(task.phrasings[phrasing], Item(slots, Part("text", "x"), {})).meta["asks"]

    assert row(0, "Good night!") == row(1, "good night") == row(-1, "Good night")
    assert row(0, "Good night!") != row(0, "Good night!", "French")
    assert row(0, "!") != row(0, "?"), "where there are no words the marks are told apart"
    heard = BY_NAME["transcribe"].sample(
        "{speech} What?", Item({"speech": Part("audio", "a.wav")}, Part("text", "x"), {})
    )
    assert "asks" not in heard.meta


def test_one_prompt_of_two_sources_is_one_group():
    assets = [
        Asset("prompts", "speech", "hello", texts={"en": "Hello"}, facts={"prompt": "hi-again", "language": "en"}),
        Asset("prompts", "speech", "hello", texts={"en": "Hello"}, facts={"prompt": "hello", "language": "en"}),
        Asset("voices", "speech", "hi-again", facts={"prompt": "hi-again", "language": "fr"}),
        Asset("voices", "speech", "bye", facts={"prompt": "bye", "language": "fr"}),
    ]
    groups = [members for split in build.split(assets).splits.values() for members in split.values()]
    assert sorted(len(members) for members in groups) == [1, 3]


@pytest.mark.parametrize(
    ("middle", "answer"),
    [((10, 10), "top left"), ((50, 5), "top"), ((90, 50), "right"), ((50, 50), "middle"), ((40, 99), "bottom")],
)
def test_where_things_are(middle, answer):
    box = [middle[0] - 3, 2 * middle[1] - 3, middle[0] + 3, 2 * middle[1] + 3]
    facts = {"boxes": [{"label": "bee", "box": box}], "size": [100, 200]}
    asset = Asset("composites", "boxes", "one", {"picture": "one.png"}, facts=facts)
    [item] = BY_NAME["where"].make(Group("one", [asset], np.random.default_rng(0)))
    assert item.answer.value == answer


def test_cells_are_counted_with_evidence():
    boxes = [{"label": "platelet", "box": [10, 20, 30, 40]}, {"label": "platelet", "box": [50, 60, 70, 80]}]
    boxes += [{"label": "red blood cell", "box": [n, n, n + 5, n + 5]} for n in range(13)]
    asset = Asset("bccd", "boxes", "one", {"picture": "one.png"}, facts={"boxes": boxes, "size": [100, 100]})
    items = {i.facts["label"]: i for i in BY_NAME["blood"].make(Group("one", [asset], np.random.default_rng(0)))}
    assert set(items) == {"platelet"}, (
        "thirteen are more than an answer lists, and no white cell means that none was marked"
    )
    assert items["platelet"].answer.value.startswith("2: [100, 200, 300, 400]; [500, 600, 700, 800]. No medical device")
    assert items["platelet"].facts["number"] == 2
    none = replace(asset, facts=asset.facts | {"boxes": boxes[2:4]})
    answers = {
        i.facts["label"]: i.answer.value for i in BY_NAME["blood"].make(Group("one", [none], np.random.default_rng(0)))
    }
    assert answers["platelet"].startswith("0. No medical device")
    assert answers["red blood cell"].startswith("2: ")
    unmarked = replace(asset, facts=asset.facts | {"boxes": boxes[:2]})
    group = Group("one", [unmarked], np.random.default_rng(0))
    assert not [*BY_NAME["blood"].make(group), *BY_NAME["detect"].make(group), *BY_NAME["count"].make(group)]


def test_building_twice_gives_the_same_bytes(tmp_path, few_composites):
    assets = concepts(tmp_path / "pictures", 30)
    first, second = tmp_path / "first", tmp_path / "second"
    digests = []
    for folder in (first, second):
        folder.mkdir()
        _, written = built([replace(a) for a in assets], folder)
        facts = json.loads((folder / "train.index/shards.json").read_text())
        digests.append([shard["sha256"] for shard in facts["shards"]])
        assert written["files"]
    assert digests[0] == digests[1]


def test_near_duplicates_of_two_keys_go_to_one_split(tmp_path):
    assets = concepts(tmp_path / "pictures", 40)
    copied = next(a for a in assets if build.split([a]).splits[build.TEST])  # a group that is held out
    twin = replace(copied, key="twin", texts={"en": "twin"})
    corpus = build.split([*assets, twin])
    assert corpus.joined == 1
    homes = [
        s
        for s, groups in corpus.splits.items()
        for members in groups.values()
        for a in members
        if a.key in ("twin", copied.key)
    ]
    assert len(homes) == 4  # three styles and the twin
    assert len(set(homes)) == 1


def test_a_leak_fails_the_build(tmp_path, few_composites, monkeypatch):
    assets = concepts(tmp_path / "pictures", 40)
    copied = next(a for a in assets if build.split([a]).splits[build.TEST])
    twin = next(replace(copied, key=f"twin {n}", texts={"en": "twin"}) for n in range(99) if build.split([replace(copied, key=f"twin {n}")]).splits[build.TRAIN])  # fmt: skip
    monkeypatch.setattr(
        duplicates,
        "near_pictures",
        lambda left, right, real=duplicates.near_pictures: real(left, right) if left is not right else [],
    )
    monkeypatch.setattr(build, "join", lambda assets: (Groups(), 0))
    with pytest.raises(DataError, match=r"split 'test' leaks into training .* is like"):
        built([*assets, twin], tmp_path)


def test_a_build_of_chosen_sources(tmp_path, few_composites, monkeypatch):
    assets = concepts(tmp_path / "pictures", 30)
    took = []

    def collected(folders, folder, say, every):
        took.append(sorted(folders))
        failed = {"stamps": "damaged"} if "stamps" in folders else {}
        return {
            name: {"items": {"drawing": len(assets)}, "left_out": {}} for name in folders if name not in failed
        }, failed

    available = {"emoji"}

    def several(wanted, folder, say):
        return [source for source in wanted if source.name in available], {
            source.name: "no network" for source in wanted if source.name not in available
        }

    facts = {"what": "fakes", "public": "here", "licence": "CC0", "attribution": "", "packages": {}}
    monkeypatch.setattr(dictionary.fetch, "several", several)
    monkeypatch.setattr(dictionary, "collect_all", collected)
    monkeypatch.setattr(dictionary.corpus, "load", lambda names, folder: assets)
    monkeypatch.setattr(dictionary.corpus, "read_facts", lambda root, name: facts)
    data = tmp_path / "data"
    options = ["--source", "stamps", "--source", "emoji"]
    assert invoke("data", "build", "dictionary", "--folder", data, *options).strip().endswith("data")
    assert took == [["emoji"]]
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["asked"] == ["emoji", "stamps"]
    assert manifest["notes"][0] == "stamps left out: no network"
    assert [(source["what"], source["share_alike"]) for source in manifest["sources"]] == [("fakes", True)]
    assert manifest["tasks"]["transcribe"] == 0
    invoke("data", "build", "dictionary", "--folder", data, *options)
    assert len(took) == 1, "what is complete is kept, and what is still missing changes nothing"
    available.add("stamps")
    assert "stamps: there by now, so all is built anew" in invoke(
        "data", "build", "dictionary", "--folder", data, *options
    )
    assert took[1:] == [["emoji", "stamps"]]
    manifest = json.loads((data / "manifest.json").read_text())
    assert (manifest["missing"], manifest["notes"][0]) == ([], "stamps left out: damaged")
    invoke("data", "build", "dictionary", "--folder", data, *options)
    assert len(took) == 2
    with pytest.raises(DataError, match="was built of emoji, stamps; got emoji: choose another"):
        invoke("data", "build", "dictionary", "--folder", data, "--source", "emoji")
    with pytest.raises(ConfigError, match="got source clocks; expected sources of this recipe: emoji"):
        invoke("data", "build", "dictionary", "--folder", tmp_path / "other", "--source", "clocks")
    with pytest.raises(ConfigError, match="build it without --source"):
        invoke("data", "build", "digits", "--folder", tmp_path / "other", "--source", "emoji")


def test_an_official_split_is_kept(tmp_path):
    assets = [
        Asset("bccd", "boxes", str(n), facts={"boxes": []}, split=("train", "val", "test")[n % 3]) for n in range(9)
    ]
    corpus = build.split(assets)
    assert {s: len(groups) for s, groups in corpus.splits.items() if groups} == {"train": 3, "test": 3, "dev": 3}


def test_recordings_that_are_asked_as_known_were_heard(tmp_path):
    assets = []
    for number in range(40):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, clip(number), RATE)
        text, facts = {"en": f"word {number}"}, {"language": "en", "speaker": "a"}
        unlike = {"speech": "".join(f"{build.hashed(f'{number} {piece}'):016x}" for piece in range(8))}
        assets.append(
            Asset("prompts", "speech", f"word {number}", {"speech": str(path)}, text, facts, signatures=unlike)
        )
    build.write(build.split(assets), tmp_path, lambda what: None)
    heard = ShardRows(tmp_path, "train", KNOWN)
    for task, side in (("transcribe", 1), ("say", 0)):
        taught = [str(heard[task][i].messages[side].parts[-1].value) for i in range(len(heard[task]))]
        known, test = rows_of(tmp_path, f"{task}.known"), rows_of(tmp_path, f"{task}.test")
        assert len(known) == len(taught) < 40
        words = {text.split("word ")[-1] for text in taught}
        assert {str(s.messages[side].parts[-1].value).split("word ")[-1] for s in known} == words
        assert not words & {str(s.messages[side].parts[-1].value).split("word ")[-1] for s in test}


def test_speakers_that_training_never_hears(tmp_path):
    clips = [tmp_path / f"{n}.flac" for n in range(5)]
    for number, path in enumerate(clips):
        soundfile.write(path, clip(number), RATE)

    def spoken(source, number, like=None, language="de-1996"):
        heard = Part("audio", clips[number if like is None else like])
        signature = duplicates.clip_signature(log_mel(KNOWN["audio"].samples(heard)))
        facts = {"language": language}
        media = {"speech": str(clips[number])}
        return Asset(
            source, "speech", f"word {number}", media, {"en": "word"}, facts, signatures={"speech": f"{signature:x}"}
        )

    assets = [spoken("letters", 0), spoken("nouns", 1), spoken("nouns", 2), spoken("nouns", 3, like=0)]
    assets.append(spoken("nouns", 4, language="uk"))
    corpus = build.split(assets)
    assert corpus.joined == 0, "what is never trained joins nothing"
    assert {asset.source for members in corpus.splits[build.SPEAKERS].values() for asset in members} == {"nouns"}
    corpus.splits[build.TRAIN] = {**corpus.splits[build.TRAIN], **corpus.splits[build.TEST], **corpus.splits[build.DEV]}
    corpus.splits[build.TEST], corpus.splits[build.DEV] = {}, {}
    build.write(corpus, tmp_path, lambda what: None)
    rows = rows_of(tmp_path, "spoken-language.speakers")
    assert {Path(path).name for path in media(rows)} == {"1.flac", "2.flac"}, "one that training hears is not asked"
    assert {s.messages[1].parts[0].value for s in rows} == {"German"}, "no language that training never hears"


def test_the_same_in_another_script_is_not_asked_again():
    exchange = {"question": "為什麼", "answer": "因為", "language": "zh-Hant"}
    assets = [Asset("conversations", "exchange", "1", facts=exchange), Asset("letters", "speech", "2", facts=exchange)]
    groups = [members for split in build.split(assets).splits.values() for members in split.values()]
    languages = {asset.kind: asset.facts["language"] for members in groups for asset in members}
    assert languages == {"exchange": "zh-Hant", "speech": "zh"}


def test_voices_that_are_known_are_asked_less_often_for_their_language():
    task = BY_NAME["spoken-language"]

    def asked(source, facts, split_name="train"):
        names = [f"{source}:{number}" for number in range(300)]
        assets = [Asset(source, "speech", name, {"speech": f"{name}.flac"}, facts=facts) for name in names]
        groups = [build._group(asset.key, [asset], task, split_name) for asset in assets]
        return sum(len(list(task.make(group))) for group in groups)

    assert asked("letters", {"language": "de"}) == 300
    assert 60 < asked("prompts", {"language": "de", "speaker": "a"}) < 150
    assert asked("prompts", {"language": "de", "speaker": "a"}, "test") == 300
    assert asked("letters", {"language": "xx"}) == 0


def test_few_diseases_are_known_and_the_others_abstained_about():
    task = BY_NAME["medical"]
    shared = {"answer": "Fever. Rest.", "source": "NIH"}
    known, unknown = [], []
    for number in range(1000):
        kinds = ("symptoms", "treatment", "research")
        asked = [shared | {"question": f"What of disease {number}? {kind}", "question_type": kind} for kind in kinds]
        asked.append(asked[0] | {"answer": "Fever, says another."})  # one question has one answer
        assets = [Asset("medquad", "medical", str(number), facts=facts) for facts in asked]
        rows = {
            split_name: list(task.samples(build._group(f"medquad:{number}", assets, task, split_name), phrasings))
            for split_name, phrasings in (
                ("train", task.trained_phrasings),
                ("known", task.trained_phrasings),
                ("test", task.trained_phrasings),
            )
        }
        assert [s.meta["known"] for s in rows["test"]] == [False], "nothing is known of what training has not"
        for sample in rows["train"] + rows["known"] + rows["test"]:
            answer = sample.messages[-1].parts[0].value
            assert ("Fever" in answer) == sample.meta["known"] == (not answer.startswith("I do not know"))
        of = {s.meta["known"] for s in rows["train"] + rows["known"]}
        assert len(of) == 1, "what is asked as known was taught"
        (known if of.pop() else unknown).append(rows["train"])
    assert 10 < len(known) < 60
    assert {len(rows) for rows in unknown} == {1}
    for rows in known:
        assert (
            len({(s.meta["topic"], s.meta["phrasing"]) for s in rows}) == len(rows) == 2 * len(task.trained_phrasings)
        )


def test_every_cell_of_the_grid_has_a_task():
    kinds = ("text", "image", "audio")
    assert {f"{a}->{b}" for a in kinds for b in kinds} <= {task.cell for task in TASKS}
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert all(len(task.phrasings) >= 3 for task in TASKS)
