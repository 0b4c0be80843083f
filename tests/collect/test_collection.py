"""What people give becomes a data set; what they take back is gone from it, from shards, from the next training."""

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from plait import api, registry
from plait.api import collecting
from plait.cli import app as cli
from plait.collect import consent, withdrawal
from plait.collect import export as exporting
from plait.collect.project import NotGoodError
from plait.collect.prompts import read
from plait.contract import Part
from plait.data.importers.core.writer import Writer, by_content
from plait.data.rows import read_rows
from plait.data.shards import ShardRows, ShardWriter
from plait.errors import ConfigError, DataError
from plait.runtime.database import StorageError

PROMPTS = """{"type": "image", "prompt": "Draw seven.", "how": "draw", "label": "seven", "question": "Which digit?"}
{"type": "text", "prompt": "Write a sentence about rain."}
"""
PEOPLE = ("ann", "ben", "cid")


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    return tmp_path / "p.jsonl"


def drawing(seed):
    return Part("image", np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8))


def opened(prompts, **plan):
    return collecting.open_collection(prompts, [f"{key}={value}" for key, value in {"votes": 1, **plan}.items()])


def filled(prompts, purposes=("train", "share")):
    """A collection to which three people gave a drawing and a sentence each, all accepted, and whose rows are all of training."""
    collection = opened(prompts)
    salts = (str(number) for number in itertools.count())
    while any(by_content(exporting.pseudonym(collection, person)) != "train" for person in PEOPLE):
        collection.salt = next(salts)
    with collection._transaction() as file:
        file.execute("UPDATE secret SET salt = ?", (collection.salt,))
    by_type = {prompt.type: prompt.id for prompt in collection.prompts.values()}
    for number, person in enumerate(PEOPLE):
        collection.agree(person, collection.terms.version, purposes)
        collection.give(person, by_type["image"], drawing(number), f"{person}image")
        collection.give(person, by_type["text"], Part("text", f"Rain falls on {person}'s roof."), f"{person}text")
    collection.agree("eve", collection.terms.version, ["train"])
    for item in collection.all_items():
        collection.vote("eve", item.id, True)
    return collection


def digests_in(paths):
    """SHA-256 of every file below some folders, and of every member of their shards."""
    digests = set()
    for root in paths:
        for path in root.rglob("*"):
            if path.is_file():
                digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
            if path.suffix == ".tar" and path.is_file():
                with tarfile.open(path) as tar:
                    digests |= {
                        hashlib.sha256(file.read()).hexdigest() for member in tar if (file := tar.extractfile(member))
                    }
    return digests


def lines(folder):
    return [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]


def test_what_was_accepted_becomes_rows_with_a_card(prompts, tmp_path):
    collection = filled(prompts)
    rejected = collection.give("ann", next(iter(collection.prompts)), drawing(9))
    collection.vote("ben", rejected.id, False)
    counts = collecting.export(prompts, tmp_path / "out")
    rows = lines(tmp_path / "out")
    assert sum(counts.values()) == len(rows) == 9, "a drawing teaches two rows, a sentence one"
    assert not any(row["meta"]["collected"]["item"] == rejected.id for row in rows)
    read_drawing = next(row for row in rows if row["messages"][-1]["content"][0].get("text") == "seven")
    assert [part["type"] for part in read_drawing["messages"][0]["content"]] == ["image", "text"]
    card = (tmp_path / "out/README.md").read_text()
    for words in (
        "CC0-1.0",
        "draw (image) | 3",
        "persons | 3",
        f"version {collection.terms.version}",
        "6 were accepted, 1 rejected",
    ):
        assert words in card, words
    assert "ann" not in json.dumps([row["meta"] for row in rows]).replace("annimage", "").replace("anntext", "")
    for path in (tmp_path / "out").glob("*.jsonl"):
        assert not api.check(path, say=lambda line: None).bad_lines


def test_all_rows_of_a_person_are_in_one_split(prompts, tmp_path):
    collection = opened(prompts, per_prompt=100)
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    collection.agree("eve", collection.terms.version, ["train"])
    for number in range(60):
        person = f"person {number}"
        collection.agree(person, collection.terms.version, ["train"])
        item = collection.give(person, image, drawing(number))
        collection.vote("eve", item.id, True)
    counts = collecting.export(prompts, tmp_path / "out")
    assert len(counts) > 1
    splits = {}
    numbers = {item.id: item.person for item in collection.all_items()}
    for path in (tmp_path / "out").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            splits.setdefault(numbers[json.loads(line)["meta"]["collected"]["item"]], set()).add(path.stem)
    assert all(len(each) == 1 for each in splits.values())


def test_voices_are_told_apart_only_where_persons_agree(prompts, tmp_path):
    filled(prompts, ("train",))
    collecting.export(prompts, tmp_path / "out")
    persons = {
        row["meta"]["collected"].get("person") for row in lines(tmp_path / "out") if row["task"] == "collected draw"
    }
    assert persons == {None}
    collection = collecting.open_collection(prompts, ["votes=1"])
    for person in PEOPLE:
        collection.agree(person, collection.terms.version, ["train", "voice"])
    collecting.export(prompts, tmp_path / "voices")
    persons = {
        row["meta"]["collected"].get("person") for row in lines(tmp_path / "voices") if row["task"] == "collected draw"
    }
    assert len(persons) == 3
    assert None not in persons


def test_what_is_not_to_be_handed_on_is_not(prompts, tmp_path):
    filled(prompts, ("train",))
    with pytest.raises(ConfigError, match="may be used to share"):
        collecting.export(prompts, tmp_path / "out", "share")
    with pytest.raises(ConfigError, match="expected train"):
        collecting.export(prompts, tmp_path / "out", "sell")
    assert not (tmp_path / "out").exists()


def sharded(folder, target):
    """The rows of an export in shards."""
    modalities = registry.build_all(registry.available())
    with ShardWriter(target, "train", modalities) as writer:
        for path in folder.glob("*.jsonl"):
            for sample in read_rows(path, modalities):
                writer.add([sample])
    return modalities


def test_a_withdrawal_leaves_nothing_but_hashes(prompts, tmp_path):
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    runs = tmp_path / "runs"
    modalities = sharded(tmp_path / "out", runs / "one" / "replay")
    mine = collection.items_of("ann")
    digests = {item.digest for item in mine if item.file}
    places = [collection.folder, tmp_path / "out", runs]
    assert digests <= digests_in(places)
    removal = withdrawal.withdraw(collection, "ann", also=[runs])
    assert sorted(removal.items) == ["annimage", "anntext"]
    assert not digests & digests_in(places)
    for path in [each for place in places for each in place.rglob("*") if each.is_file()]:
        assert b"ann's roof" not in path.read_bytes(), path
        assert b"annimage" not in path.read_bytes() or path.parent == collection.folder, (
            "the hash and the id stay in the store alone"
        )
    assert {row["meta"]["collected"]["item"] for row in lines(tmp_path / "out")} == {
        f"{p}{k}" for p in ("ben", "cid") for k in ("image", "text")
    }
    after = ShardRows(runs / "one" / "replay", "train", modalities)
    rows = [sample for task in after for sample in after[task]]
    assert len(rows) == 6
    assert "annimage" not in {sample.meta["collected"]["item"] for sample in rows}
    assert collection.purposes("ann") == ()
    assert collection.rows("SELECT item FROM withdrawn ORDER BY item") == [("annimage",), ("anntext",)]


def test_one_item_is_taken_back_and_the_person_stays(prompts):
    collection = filled(prompts)
    withdrawal.withdraw(collection, "ann", ["annimage", "benimage"])
    assert [item.id for item in collection.items_of("ann")] == ["anntext"]
    assert len(collection.items_of("ben")) == 2, "not another's"
    assert collection.purposes("ann")


def test_what_a_kill_left_is_cleared_at_the_next_start(prompts, tmp_path):
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from plait.api import collecting
        from plait.collect import withdrawal
        Path.unlink = lambda *_, **__: os.kill(os.getpid(), 9)
        withdrawal.withdraw(collecting.open_collection(Path(sys.argv[1]), ["votes=1"]), "ann")
    """)
    digests = {item.digest for item in collection.items_of("ann") if item.file}
    assert subprocess.run([sys.executable, "-c", script, str(prompts)], check=False).returncode == -9
    places = [collection.folder, tmp_path / "out"]
    assert digests <= digests_in(places), "the file lies there still"
    assert collection.items_of("ann") == []
    removal = withdrawal.finish(collection)
    assert not digests & digests_in(places)
    assert removal.rows


def run_folder(folder, data, digest="", parent="", seal="1"):
    """A run as training leaves it, without weights."""
    place = folder / "checkpoints" / "step-00000001"
    place.mkdir(parents=True)
    config = {"recipe": {"data": str(data)}, "config_sha256": seal, "parent": {"sha256": parent} if parent else None}
    (place / "config.json").write_text(json.dumps(config))
    if digest:
        (folder / "checked.json").write_text(json.dumps({"train.jsonl": digest}))
    return place


def test_models_that_learned_from_it_are_listed(prompts, tmp_path):
    collection = filled(prompts)
    out, runs = tmp_path / "out", tmp_path / "runs"
    collecting.export(prompts, out)
    digest = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    by_rows = run_folder(runs / "rows", "elsewhere", digest, seal="a")
    by_folder = run_folder(runs / "folder", out, seal="b")
    child = run_folder(runs / "child", "other", parent="a", seal="c")
    run_folder(runs / "clean", "other", "another", seal="d")
    removal, models = collecting.withdraw(prompts, "ben", runs)
    assert len(removal.items) == 2
    assert {model["model"] for model in models} == {str(each) for each in (by_rows, by_folder, child)}
    later = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    assert later != digest
    run_folder(runs / "later", "x", later, seal="e")
    assert str(runs / "later") not in str(withdrawal.trained_models(collection, runs, ["benimage"])), (
        "it learned from what was left"
    )
    assert str(runs / "later") in str(withdrawal.trained_models(collection, runs, ["cidimage"]))


def test_a_new_text_wants_a_new_consent(prompts, tmp_path):
    filled(prompts)
    other = tmp_path / "terms.md"
    other.write_text(
        "We keep what you give for ten years, and train models on it. You may take it back at any time, all of it or a part. "
        * 2
    )
    assert opened(prompts).purposes("ann") == ("train", "share"), "the same text wants none"
    collecting.open_collection(prompts, ["votes=1"], other)
    collection = collecting.open_collection(prompts)  # as it was
    assert collection.terms.text == other.read_text().strip()
    assert collection.plan.votes == 1
    assert collection.purposes("ann") == ()
    with pytest.raises(ConfigError, match="consent first"):
        collection.give("ann", next(iter(collection.prompts)), drawing(5))


def test_prompts_come_to_those_who_have_not_answered_them(prompts):
    collection = opened(prompts, per_prompt=2)
    for person in ("ann", "ben", "cid", "eve"):
        collection.agree(person, collection.terms.version, ["train"])
    given = []
    for person in ("ann", "ben", "ann", "ben"):
        prompt = collection.next(person)
        part = drawing(len(given)) if prompt.type == "image" else Part("text", f"It rains {len(given)}.")
        given.append((person, prompt.id))
        collection.give(person, prompt.id, part)
    assert len(set(given)) == 4
    assert collection.next("cid") is None, "there is enough of each"
    item = collection.items_of("ann")[0]
    collection.vote("eve", item.id, False)
    assert collection.next("cid").id == item.prompt, "what was rejected is wanted again"


def test_what_a_model_made_and_odd_ids_are_refused(prompts):
    collection = opened(prompts)
    collection.agree("ann", collection.terms.version, ["train"])
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    with pytest.raises(NotGoodError, match="a model made it"):
        collection.give("ann", image, Part("image", drawing(1).value, {"provenance": "Plait"}))
    for id in ("../a", "a b", "é", "x" * 101):
        with pytest.raises(ConfigError, match="ASCII"):
            collection.give("ann", image, drawing(1), id)
    with pytest.raises(ConfigError, match="expected image"):
        collection.give("ann", image, Part("text", "x"))
    collection.give("ann", image, drawing(1), "a1")
    collection.agree("ben", collection.terms.version, ["train"])
    with pytest.raises(ConfigError, match="another item's"):
        collection.give("ben", image, drawing(2), "a1")


def test_a_full_disk_keeps_nothing_of_it(prompts, monkeypatch):
    collection = opened(prompts)
    collection.agree("ann", collection.terms.version, ["train"])
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match="make room"):
            collection.give("ann", image, drawing(1), "a1")
    assert not collection.all_items()
    assert not list((collection.folder / "media").iterdir())
    collection.give("ann", image, drawing(1), "a1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 prompts"),
        ("{", "not JSON"),
        ('{"type": "smell", "prompt": "x"}', "expected one of audio"),
        ('{"type": "image"}', "expected 1 to"),
        (
            '{"type": "image", "prompt": "x", "how": "drew"}',
            "got how 'drew' of the type image; expected draw or photograph or upload",
        ),
        (
            '{"type": "audio", "prompt": "x", "how": "draw"}',
            "got how 'draw' of the type audio; expected record or upload",
        ),
        ('{"type": "image", "prompt": "x", "extra": 1}', "an object of"),
        ('{"type": "image", "prompt": "x", "rows": [{"messages": []}]}', r"\$item"),
    ],
)
def test_prompts_that_are_none(tmp_path, text, message):
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with (
        pytest.raises(DataError, match=message)
        if not {"smell", "drew", "draw"} & set(text.split('"'))
        else pytest.raises(ConfigError, match=message)
    ):
        read(path)


def test_prompts_that_cannot_be_read_begin_no_collection(tmp_path):
    (tmp_path / "p.txt").write_text("Say: one")
    with pytest.raises(ConfigError, match="--type"):
        collecting.open_collection(tmp_path / "p.txt")
    assert not collecting.folder_of(tmp_path / "p.txt").exists()


def test_prompts_of_lines_and_of_templates(tmp_path):
    (tmp_path / "p.txt").write_text("Say: one\n\nSay: two\n")
    assert [prompt.words for prompt in read(tmp_path / "p.txt", "audio", "record")] == ["Say: one", "Say: two"]
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "$item"}, {"type": "text", "text": "Cat?"}]},
            {"role": "assistant", "content": "yes"},
        ]
    }
    (tmp_path / "p.jsonl").write_text(json.dumps({"type": "image", "prompt": "Photograph a cat.", "rows": [row]}))
    (prompt,) = read(tmp_path / "p.jsonl")
    assert prompt.rows == (row,)


def test_how_things_were_made_before_binds_no_new_type(tmp_path):
    path = tmp_path / "p.jsonl"
    first = '{"type": "audio", "prompt": "Say: one", "how": "record"}\n'
    path.write_text(first)
    before = collecting.open_collection(path)
    path.write_text(first + '{"type": "text", "prompt": "Write."}\n')
    after = collecting.open_collection(path)
    assert set(before.prompts) < set(after.prompts)
    assert sorted((prompt.type, prompt.how) for prompt in after.prompts.values()) == [("audio", "record"), ("text", "")]
    assert [prompt.how for prompt in read(path, "audio", "record")] == ["record", ""]
    with pytest.raises(ConfigError, match="got how 'recrod'; expected one of draw, photograph, record, upload, write"):
        read(path, "", "recrod")
    lines_alone = tmp_path / "p.txt"
    lines_alone.write_text("one")
    with pytest.raises(ConfigError, match="got how 'record' of the type text; expected write"):
        read(lines_alone, "text", "record")


def test_consent_has_what_it_needs(tmp_path):
    (tmp_path / "p.txt").write_text("Say: one")
    first = collecting.open_collection(tmp_path / "p.txt", ["licence=CC-BY-4.0"], kind="audio")
    assert "CC-BY-4.0" in first.terms.text
    assert collecting.open_collection(tmp_path / "p.txt").terms == first.terms, "the type is known by now"
    assert collecting.open_collection(tmp_path / "p.txt", ["licence=MIT"], kind="audio").terms != first.terms
    assert consent.checked(["voice", "train"]) == ("train", "voice")
    (tmp_path / "short.md").write_text("ok")
    with pytest.raises(DataError, match="expected 100"):
        consent.read(tmp_path / "short.md", "CC0-1.0")
    assert consent.read(None, "CC0-1.0").version != consent.read(None, "CC-BY-4.0").version


def test_the_command_line(prompts, tmp_path):
    filled(prompts)
    runner = CliRunner()
    out = runner.invoke(cli, ["collected", "status", str(prompts), "--json"])
    assert json.loads(out.output)["accepted"] == 6
    assert "6 accepted, 0 rejected" in runner.invoke(cli, ["collected", "status", str(prompts)]).output
    out = runner.invoke(cli, ["collected", "export", str(prompts), "--to", str(tmp_path / "out")])
    assert out.exit_code == 0, out.output
    out = runner.invoke(cli, ["collected", "withdraw", str(prompts), "ann", "--runs", str(tmp_path / "none")])
    assert "2 items of ann are gone" in out.output
    assert isinstance(runner.invoke(cli, ["collected", "withdraw", str(prompts), "ann"]).exception, ConfigError)
    assert isinstance(runner.invoke(cli, ["collected", "status", str(tmp_path / "x.txt")]).exception, ConfigError)


def test_what_comes_twice_at_once_is_kept_once(prompts):
    collection = opened(prompts, per_prompt=5)
    collection.agree("ann", collection.terms.version, ["train"])
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    for number in range(5):
        with ThreadPoolExecutor(4) as pool:
            kept = list(pool.map(lambda _, n=number: collection.give("ann", image, drawing(n), f"a{n}"), range(4)))
        assert {item.id for item in kept} == {f"a{number}"}
        assert (collection.folder / "media" / kept[0].file).is_file()
    assert len(collection.all_items()) == 5
    with pytest.raises(ConfigError, match="you gave 5 to this prompt"):
        collection.give("ann", image, drawing(9), "more")


def test_two_withdrawals_at_once_leave_nothing_of_either(prompts, tmp_path):
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    collections = {person: collecting.reopened(prompts) for person in ("ann", "ben")}  # as two processes have it
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda person: withdrawal.withdraw(collections[person], person), collections))
    assert {row["meta"]["collected"]["item"] for row in lines(tmp_path / "out")} == {"cidimage", "cidtext"}


def test_a_file_that_cannot_be_cleared_is_told_and_stops_nothing(prompts, tmp_path):
    collection = filled(prompts)
    for name in ("a", "z"):
        collecting.export(prompts, tmp_path / name)
    (tmp_path / "a" / "broken.tar").write_bytes(b"")
    (tmp_path / "a" / "latin.jsonl").write_bytes(b'{"meta": "collected \xff"}\n')
    shutil.move(tmp_path / "z", tmp_path / "moved")
    removal = withdrawal.withdraw(collection, " ann ")
    assert {Path(path).name for path in removal.left} == {"broken.tar", "z"}
    assert "annimage" not in (tmp_path / "a" / "train.jsonl").read_text()
    assert collection.purposes("ann") == ()
    assert withdrawal.finish(collection).left, "and again at the next start, which goes on"


def test_the_same_file_given_again_is_not_taken_with_the_old_one(prompts, tmp_path):
    collection = filled(prompts)
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    withdrawal.withdraw(collection, "ann", ["annimage"])
    with pytest.raises(ConfigError, match="another item's"):
        collection.give("ann", image, drawing(0), "annimage")
    again = collection.give("ann", image, drawing(0), "again")
    collection.vote("eve", "again", True)
    collecting.export(prompts, tmp_path / "out")
    withdrawal.withdraw(collection, "ben")
    assert again.digest in digests_in([tmp_path / "out"])


def test_a_consent_that_goes_meanwhile_keeps_nothing(prompts, monkeypatch):
    collection = opened(prompts)
    collection.agree("ann", collection.terms.version, ["train"])
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    insert = collection._insert

    def late(item, data):
        withdrawal.withdraw(collection, "ann")
        insert(item, data)

    monkeypatch.setattr(collection, "_insert", late)
    with pytest.raises(ConfigError, match="consent first"):
        collection.give("ann", image, drawing(1), "late")
    assert not collection.all_items()
    assert not list((collection.folder / "media").iterdir())


def test_an_export_that_was_killed_is_known(prompts, tmp_path, monkeypatch):
    collection = filled(prompts)
    monkeypatch.setattr("plait.collect.export.card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        collecting.export(prompts, tmp_path / "out")
    withdrawal.withdraw(collection, "ann")
    assert "annimage" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.jsonl"))


def test_an_export_that_failed_is_none(prompts, tmp_path, monkeypatch):
    collection = filled(prompts)
    monkeypatch.setattr("plait.collect.export.add_checked", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        collecting.export(prompts, tmp_path / "out")
    assert not withdrawal.withdraw(collection, "ann").left


def test_what_a_killed_export_wrote_is_cleared(prompts, tmp_path, monkeypatch):
    collection = filled(prompts)
    monkeypatch.setattr(Writer, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(Writer, "discard", lambda _: (_ for _ in ()).throw(SystemExit))  # as a kill: nothing is tidied
    with pytest.raises(SystemExit):
        collecting.export(prompts, tmp_path / "out")

    def written():
        return b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.partial"))

    assert b"annimage" in written()
    withdrawal.withdraw(collection, "ann")
    assert b"annimage" not in written()
    assert b"benimage" in written()


def test_the_pseudonym_of_who_left_is_drawn(prompts):
    collection = filled(prompts)
    collection.agree("fay", collection.terms.version, ["train"])
    text = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "text")
    collection.give("fay", text, Part("text", "Rain again."), "fay1")
    collection.vote("ann", "fay1", False)
    withdrawal.withdraw(collection, "ann")
    ((name,),) = collection.rows("SELECT person FROM votes WHERE item = 'fay1'")
    assert name.startswith("somebody who left ")
    ((at,),) = collection.rows("SELECT DISTINCT at FROM withdrawn LIMIT 1")
    assert hashlib.sha256(f"ann{at}".encode()).hexdigest()[:8] not in name


def test_a_path_is_kept_without_what_its_file_said(prompts, tmp_path):
    collection = opened(prompts)
    collection.agree("ann", collection.terms.version, ["train"])
    image = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "image")
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    Image.fromarray(drawing(3).value).save(tmp_path / "a.jpg", exif=exif)
    item = collection.give("ann", image, Part("image", str(tmp_path / "a.jpg")))
    assert b"SecretCamera" not in (collection.folder / "media" / item.file).read_bytes()


def test_models_are_listed_whoever_took_it_back(prompts, tmp_path):
    collection = filled(prompts)
    out, runs = tmp_path / "out", tmp_path / "runs"
    collecting.export(prompts, out)
    digest = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    first = run_folder(runs / "one", out, digest, seal="a")
    second = run_folder(runs / "one-b", "other", "another", seal="b")
    child = run_folder(runs / "child", "other", seal="c")
    config = json.loads((child / "config.json").read_text())
    config["recipe"]["init"] = str(runs / "one")
    (child / "config.json").write_text(json.dumps(config))
    withdrawal.withdraw(collection, "ann")  # on the page
    retrained = run_folder(runs / "anew", out, hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest(), seal="d")
    listed = {model["model"] for model in collecting.models(prompts, runs)}
    assert listed == {str(first), str(child)}
    assert not listed & {str(second), str(retrained)}
    out = CliRunner().invoke(cli, ["collected", "models", str(prompts), "--runs", str(runs)])
    assert str(first) in out.output
