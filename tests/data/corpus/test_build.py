"""From collected assets to rows: groups stay together, and a leak fails the build."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from drawings_and_clips import clip, drawing
from PIL import Image
from typer.testing import CliRunner

from plait import registry
from plait.cli import app
from plait.contract import Part
from plait.data.corpus import build, collect, duplicates
from plait.data.corpus.duplicates import Groups
from plait.data.rows import read_rows
from plait.data.shards import ShardRows
from plait.data.sources import Asset
from plait.errors import ConfigError, DataError
from plait.modalities.audio.mel import RATE, log_mel
from plait.recipes import dictionary
from plait.tasks.dictionary import BY_NAME

KNOWN = registry.build_all(registry.available())


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


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


def test_one_prompt_of_two_sources_is_one_group():
    assets = [
        Asset("prompts", "speech", "hello", texts={"en": "Hello"}, facts={"prompt": "hi-again", "language": "en"}),
        Asset("prompts", "speech", "hello", texts={"en": "Hello"}, facts={"prompt": "hello", "language": "en"}),
        Asset("voices", "speech", "hi-again", facts={"prompt": "hi-again", "language": "fr"}),
        Asset("voices", "speech", "bye", facts={"prompt": "bye", "language": "fr"}),
    ]
    groups = [members for split in build.split(assets).splits.values() for members in split.values()]
    assert sorted(len(members) for members in groups) == [1, 3]


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


def test_drawings_of_one_name_belong_together_where_that_is_asked():
    assets = [Asset("emoji", "drawing", str(n), texts={"en": f"thing {n}"}) for n in range(40)]
    assets += [Asset("openclipart", "drawing", f"Thing  {n}", texts={"en": f"Thing  {n}"}) for n in range(40)]

    def groups(**how):
        return {name: len(m) for s in build.split(assets, **how).splits.values() for name, m in s.items()}

    assert set(groups().values()) == {1}
    assert groups(by_name=True) == {f"emoji:{n}": 2 for n in range(40)}


def test_a_leak_fails_the_build(tmp_path, few_composites, monkeypatch):
    assets = concepts(tmp_path / "pictures", 40)
    copied = next(a for a in assets if build.split([a]).splits[build.TEST])
    twin = next(replace(copied, key=f"twin {n}", texts={"en": "twin"}) for n in range(99) if build.split([replace(copied, key=f"twin {n}")]).splits[build.TRAIN])  # fmt: skip
    monkeypatch.setattr(
        duplicates,
        "near_pictures",
        lambda left, right, real=duplicates.near_pictures: real(left, right) if left is not right else [],
    )
    monkeypatch.setattr(build, "join", lambda assets, by_name: (Groups(), 0))
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
    monkeypatch.setattr(collect, "collect_all", collected)
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
