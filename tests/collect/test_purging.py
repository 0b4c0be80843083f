"""What is taken back is gone from where it is not looked for first: features, databases that are written, changed exports, votes under way."""

import hashlib
import json
import shutil
import sqlite3
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from test_collection import PROMPTS, drawing, filled, lines, opened, prompts, run_folder  # noqa: F401
from typer.testing import CliRunner

from plait.api import collecting
from plait.cli import app as cli
from plait.collect import export as exporting
from plait.collect import purging, withdrawal
from plait.contract import Part
from plait.data.features import Store, content_hash
from plait.data.rows import SOURCES
from plait.errors import ConfigError, DataError
from plait.serve.collecting import create_app

READER = SimpleNamespace(name="v1.5", version="1", width=4)  # a name with a dot


def features_of(folder, media):
    """A store of features of some media, two variants each, all of ones."""
    store = Store(folder, READER)
    for path in media:
        content = content_hash(Part("image", str(path)))
        store.add([((content, variant), np.ones((3, 4), np.float16)) for variant in range(2)])
    return store


def kept(store):
    """Contents of a store as another process reads it: rows by key."""
    again = Store(store.data.parent, READER)
    return {key: again.get(key) for key in again.places}


@pytest.mark.parametrize("where", ["beside the rows", "in a run", "elsewhere"])
def test_features_of_what_was_taken_back_are_overwritten(prompts, tmp_path, where):  # noqa: F811
    collection = filled(prompts)
    out, runs = tmp_path / "out", tmp_path / "runs"
    collecting.export(prompts, out)
    folder = {"beside the rows": out, "in a run": runs / "one", "elsewhere": tmp_path / "cache"}[where] / "features"
    place = run_folder(runs / "one", out)
    if where == "elsewhere":
        config = json.loads((place / "config.json").read_text())
        config["recipe"]["features"] = str(folder)
        (place / "config.json").write_text(json.dumps(config))
    store = features_of(folder, sorted((out / "media").iterdir()))
    size, mine = store.data.stat().st_size, content_hash(collection.part(collection.find("annimage")))
    assert {content for content, _ in kept(store)} >= {mine}
    removal, _ = collecting.withdraw(prompts, "ann", runs)
    assert removal.media[str(store.index)] == 2
    assert not removal.left
    assert mine not in store.index.read_text()
    assert {content for content, _ in kept(store)} == {
        content_hash(collection.part(collection.find(item))) for item in ("benimage", "cidimage")
    }
    assert all((array == 1).all() for array in kept(store).values()), "others' are where they were"
    assert store.data.stat().st_size == size
    assert (np.fromfile(store.data, np.float16) == 0).sum() == 2 * 3 * 4
    store.add([(("new", 0), np.full((1, 4), 2, np.float16))])
    assert (kept(store)["new", 0] == 2).all()


def test_a_cache_that_does_not_say_its_width_is_told_until_it_is_used_again(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    store = features_of(tmp_path / "out" / "features", sorted((tmp_path / "out" / "media").iterdir()))
    store.index.write_text("".join(store.index.read_text().splitlines(keepends=True)[1:]))  # as it was written once
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert "does not say how wide" in removal.left[str(store.index)]
    assert len(kept(store)) == 6, "nothing of it is lost"
    Store(store.data.parent, READER).add([(("new", 0), np.ones((1, 4), np.float16))])
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert not removal.left
    assert len(kept(store)) == 5


def test_a_training_that_has_the_cache_open_goes_on_with_the_others(prompts, tmp_path):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    store = features_of(tmp_path / "out" / "features", sorted((tmp_path / "out" / "media").iterdir()))
    ben = content_hash(collection.part(collection.find("benimage"))), 0
    store.get(ben)
    collecting.withdraw(prompts, "ann", tmp_path / "runs")
    store.add([(("new", 0), np.full((2, 4), 9, np.float16))])
    assert (store.get(ben) == 1).all()
    assert (kept(store)[ben] == 1).all()
    assert (kept(store)["new", 0] == 9).all()


def test_lines_that_are_none_stop_nothing(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    store = features_of(tmp_path / "out" / "features", sorted((tmp_path / "out" / "media").iterdir()))
    with store.index.open("a") as file:
        file.write('12\nnull\n{"a": 1}\n[1]\n[[], 0, 0, 1]\n{"width": "x"}\n')
    with (tmp_path / "out" / "train.jsonl").open("a") as file:
        file.write('{"meta": {"collected": {"item": [1]}}}\n{"meta": {"collected": 5}}\n')
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert not removal.left
    assert len(kept(store)) == 4


def test_a_file_that_cannot_be_read_stops_no_other_data_set_and_no_server(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    for name in ("a", "b", "c"):
        collecting.export(prompts, tmp_path / name)
    (tmp_path / "b" / "link.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    (tmp_path / "b" / "folder.jsonl").mkdir()
    with (tmp_path / "b" / "train.jsonl").open("ab") as file:
        file.write(b'{"note": "caf\xe9"}\n')
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert len(removal.rows) == 3
    assert b"ann's roof" not in b"".join((tmp_path / name / "train.jsonl").read_bytes() for name in "abc")
    assert (tmp_path / "b" / "train.jsonl").read_bytes().endswith(b'{"note": "caf\xe9"}\n')
    with TestClient(create_app(collecting.reopened(prompts)), base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").status_code == 200


def test_a_data_set_that_cannot_be_noted_is_told(prompts, tmp_path, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    for name in ("a", "b"):
        collecting.export(prompts, tmp_path / name)
    note = type(collection).note_export

    def broken(self, folder, items):
        if folder.name == "a":
            raise OSError(5, "Input/output error")
        note(self, folder, items)

    monkeypatch.setattr(type(collection), "note_export", broken)
    removal = withdrawal.withdraw(collection, "ann")
    assert list(removal.left) == [str(tmp_path / "a")]
    assert "ann's roof" not in (tmp_path / "b" / "train.jsonl").read_text()
    monkeypatch.setattr(type(collection), "note_export", note)
    assert collection.exported(tmp_path / "a") & {"annimage"}, "known until it is done"
    assert not withdrawal.finish(collection).left
    assert not collection.exported(tmp_path / "a") & {"annimage"}


def test_annotations_that_a_running_program_has_not_written_yet_are_told(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    path = tmp_path / "out" / "annotations.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE items (id TEXT, shape TEXT)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    row = next(line for line in lines(tmp_path / "out") if line["meta"]["collected"]["item"] == "anntext")
    database.execute("INSERT INTO items VALUES ('1', ?)", (json.dumps(row),))
    database.commit()
    assert b"anntext" not in path.read_bytes(), "it is in the log alone"
    removal, _ = collecting.withdraw(prompts, "ben", tmp_path / "runs")
    assert not removal.left, "it has nothing of ben"
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert "remove the file" in removal.left[str(path)]
    database.close()


def test_annotations_of_others_are_not_told_and_nothing_is_left_beside_them(prompts, tmp_path):  # noqa: F811
    """Whoever gives may choose the id: a short one is part of many words."""
    collection = filled(prompts)
    collection.give("ann", next(iter(collection.prompts)), drawing(30), "e")
    collecting.export(prompts, tmp_path / "out")
    path = tmp_path / "out" / "annotations.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE items (id TEXT, shape TEXT)")
        row = next(line for line in lines(tmp_path / "out") if line["meta"]["collected"]["item"] == "cidtext")
        database.execute("INSERT INTO items VALUES ('1', ?)", (json.dumps(row),))
    database.close()
    before = sorted(path.parent.iterdir())
    assert not withdrawal.withdraw(collection, "ann", ["e"]).left
    assert sorted(path.parent.iterdir()) == before


def test_what_was_left_is_tried_again_by_whoever_takes_back(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    (tmp_path / "out" / "broken.tar").write_bytes(b"")
    run_folder(tmp_path / "runs" / "one", tmp_path / "out", seal="a")
    arguments = ["collected", "withdraw", str(prompts), "ann", "--runs", str(tmp_path / "runs")]
    first, again = (CliRunner().invoke(cli, arguments) for _ in range(2))
    for result in (first, again):
        assert "broken.tar: NOT cleared" in result.output
        assert "train it anew" in result.output
        assert result.exit_code == 1
    with TestClient(create_app(collecting.reopened(prompts)), base_url="http://127.0.0.1") as client:
        told = client.post("/collect/withdrawals", json={"person": "ann", "items": []}).json()
        assert list(told["left"]) == [str(tmp_path / "out" / "broken.tar")]
        (tmp_path / "out" / "broken.tar").unlink()
        assert client.post("/collect/withdrawals", json={"person": "ann", "items": []}).json()["left"] == {}
    last = CliRunner().invoke(cli, arguments)
    assert last.exit_code != 0
    assert not last.output


def test_what_a_kill_left_is_cleared_by_whoever_takes_back_next(prompts, tmp_path, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(withdrawal, "_clear", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            withdrawal.withdraw(collection, "ann")
    assert "ann's roof" in (tmp_path / "out" / "train.jsonl").read_text()
    removal = withdrawal.withdraw(collecting.reopened(prompts), "ann")
    assert (removal.items, removal.is_retry) == ([], True)
    assert "ann's roof" not in (tmp_path / "out" / "train.jsonl").read_text()
    assert withdrawal.withdraw(collection, "ann") == purging.Removal()


def test_pages_that_show_what_was_taken_back_go_and_later_ones_stay(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    out, runs = tmp_path / "out", tmp_path / "runs"
    collecting.export(prompts, out)
    digest = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    run_folder(runs / "learned", out, digest, seal="a")
    run_folder(runs / "other", tmp_path / "elsewhere", "0" * 64, seal="b")
    pages = [runs / name / "report.html" for name in ("learned", "other")]
    for page in pages:
        page.write_text("ann's roof")
    removal, _ = collecting.withdraw(prompts, "ann", runs)
    assert [page.exists() for page in pages] == [False, True]
    assert removal.pages == [str(pages[0])]
    pages[0].write_text("what ben gave")
    collecting.withdraw(prompts, "ann", runs)
    assert pages[0].exists()


def test_who_asks_for_nothing_has_nothing_read(prompts, tmp_path, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    read = []
    monkeypatch.setattr(purging, "_purge_file", lambda *args: read.append(args))
    assert withdrawal.withdraw(collection, "nobody") == purging.Removal()
    assert withdrawal.withdraw(collection, "ann", []) == purging.Removal()
    assert withdrawal.withdraw(collection, "ann", ["benimage"]) == purging.Removal()
    assert not read
    assert withdrawal.withdraw(collection, "eve").items == [], "a consent and votes alone"
    assert collection.purposes("eve") == ()
    assert withdrawal.finish(collection, [tmp_path]) == purging.Removal()
    assert not read
    withdrawal.withdraw(collection, "ann", ["anntext"])
    assert read


def test_the_data_card_counts_what_is_left_and_keeps_what_people_wrote(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    card = tmp_path / "out" / "README.md"
    written = "Collected for a school. No program knew it: \\1."
    text = card.read_text()
    card.write_text(
        text.replace(
            "*For which task was it collected, by whom, paid for by whom? Fill this in: no program knows it.*", written
        )
    )
    assert "| persons | 3; the most active gave 33% |" in text
    assert "| rows, train | 9 |" in text
    collecting.withdraw(prompts, "ann", tmp_path / "runs")
    text = card.read_text()
    for words in (
        written,
        "| persons | 2; the most active gave 50% |",
        "| rows, train | 6 |",
        "| draw (image) | 2 |",
        "Withdrawn so far: 2.",
        "| share | 2 |",
    ):
        assert words in text, words
    note = json.loads((tmp_path / "out" / "import.json").read_text())
    assert (note["rows"], note["collected"]["items"]) == ({"train": 6}, 4)
    for person in ("ben", "cid"):
        collecting.withdraw(prompts, person, tmp_path / "runs")
    assert "| persons | 0 |" in card.read_text()
    assert written in card.read_text()


def test_a_card_that_is_gone_or_another_stops_nothing(prompts, tmp_path):  # noqa: F811
    collection = filled(prompts)
    for name in ("gone", "other", "marks", "broken"):
        collecting.export(prompts, tmp_path / name)
    (tmp_path / "gone" / "README.md").unlink()
    (tmp_path / "other" / "README.md").write_text("Mine.")
    card = tmp_path / "marks" / "README.md"
    first, _, rest = card.read_text().partition("<!-- to here -->")
    card.write_text(f"{first}Written by a person.{rest}")
    (tmp_path / "broken" / "import.json").write_text("[]")
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert list(removal.left) == [str(tmp_path / "broken")]
    assert "what import.json and README.md count is not counted anew" in removal.left[str(tmp_path / "broken")]
    assert not any(item.startswith("ann") for item in collection.exported(tmp_path / "broken"))
    assert (tmp_path / "other" / "README.md").read_text() == "Mine."
    assert json.loads((tmp_path / "gone" / "import.json").read_text())["rows"] == {"train": 6}
    assert len(removal.rows) == 4
    assert "Written by a person." in card.read_text()
    assert "| persons | 3;" in card.read_text(), "this block has no end"
    assert "| share | 2 |" in card.read_text(), "others have"
    collecting.export(prompts, tmp_path / "again")
    (tmp_path / "broken" / "import.json").write_text((tmp_path / "again" / "import.json").read_text())
    removal, _ = collecting.withdraw(prompts, "ann", tmp_path / "runs")
    assert not removal.left
    assert "| persons | 2;" in (tmp_path / "broken" / "README.md").read_text()


def test_what_a_kill_left_of_the_card_is_counted_at_the_next_start(prompts, tmp_path, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "recount", killed)
        with pytest.raises(KeyboardInterrupt):
            withdrawal.withdraw(collection, "ann")
    assert "| persons | 3;" in (tmp_path / "out" / "README.md").read_text()
    assert not withdrawal.finish(collection).left
    assert "| persons | 2;" in (tmp_path / "out" / "README.md").read_text()


def test_a_card_of_another_collection_or_of_other_terms_is_left_as_it_says(prompts, tmp_path):  # noqa: F811
    collection = filled(prompts)
    for name in ("reused", "own", "file"):
        collecting.export(prompts, tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "p.jsonl").write_text(PROMPTS)
    with filled(tmp_path / "other" / "p.jsonl")._transaction() as file:  # those that are filled may share a salt
        file.execute("UPDATE secret SET salt = 'of another collection'")
    shutil.rmtree(tmp_path / "reused")
    collecting.export(tmp_path / "other" / "p.jsonl", tmp_path / "reused")
    shutil.rmtree(tmp_path / "file")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "README.md").write_text("Something else.")
    assert not withdrawal.withdraw(collection, "ben", ["benimage"]).left
    assert "| persons | 3; the most active gave 33% |" in (tmp_path / "reused" / "README.md").read_text()
    assert (tmp_path / "file" / "README.md").read_text() == "Something else."
    collection = collecting.open_collection(prompts, ["licence=CC-BY-4.0"])
    withdrawal.withdraw(collection, "ann")
    text = (tmp_path / "own" / "README.md").read_text()
    assert "| persons | 2;" in text
    assert "| share | 3 |" in text, "what they agreed to then"


def test_an_export_is_not_counted_anew_at_every_start(prompts, tmp_path, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    withdrawal.withdraw(collection, "ann")
    counted = []
    monkeypatch.setattr(exporting, "recount", lambda *arguments: counted.append(arguments))
    withdrawal.finish(collection)
    withdrawal.withdraw(collection, "eve")
    assert not counted
    withdrawal.withdraw(collection, "ben")
    assert len(counted) == 1


def test_rows_in_shards_are_counted(prompts, tmp_path):  # noqa: F811
    from test_collection import sharded

    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    sharded(tmp_path / "out", tmp_path / "shards")
    for path in (tmp_path / "out").glob("*.jsonl"):
        path.unlink()
    for path in (tmp_path / "shards").iterdir():
        path.rename(tmp_path / "out" / path.name)
    withdrawal.withdraw(collection, "ann")
    assert "| rows, train | 6 |" in (tmp_path / "out" / "README.md").read_text()


def test_what_a_model_answered_about_what_was_taken_back_goes(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    run = tmp_path / "runs" / "one" / "replay"
    run.mkdir(parents=True)
    rows = [
        {
            "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": f"{person}'s roof"}],
            "meta": {SOURCES: [{}, {"collected": {"item": f"{person}image"}}]},
        }
        for person in ("ann", "ben")
    ]
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    collecting.withdraw(prompts, "ann", tmp_path / "runs")
    (row,) = (run / "train.jsonl").read_text().splitlines()
    assert "ben's roof" in row


def test_a_shard_without_anything_of_it_is_not_written_anew(prompts, tmp_path):  # noqa: F811
    collection = filled(prompts)
    collecting.export(prompts, tmp_path / "out")
    from test_collection import sharded

    sharded(tmp_path / "out", tmp_path / "out" / "shards")
    (shard,) = (tmp_path / "out" / "shards").glob("*.tar")
    withdrawal.withdraw(collection, "ann")
    before = shard.stat()
    withdrawal.finish(collection)
    assert (shard.stat().st_ino, shard.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_vote_under_way_while_its_voter_leaves_keeps_no_name(prompts, monkeypatch):  # noqa: F811
    collection = filled(prompts)
    by_type = {prompt.type: prompt.id for prompt in collection.prompts.values()}
    item = collection.give("eve", by_type["text"], Part("text", "Rain."), "evetext")
    checked, left = threading.Event(), threading.Event()
    purposes = collection.purposes

    def slow(person):
        agreed = purposes(person)
        checked.set()
        left.wait(0.5)  # the other one would come between, were it let
        return agreed

    monkeypatch.setattr(collection, "purposes", slow)
    other = collecting.reopened(prompts)  # as another process has it
    voting = threading.Thread(target=collection.vote, args=("ann", item.id, True))
    voting.start()
    assert checked.wait(5)
    withdrawal.withdraw(other, "ann")
    left.set()
    voting.join()
    names = [name for (name,) in other.rows("SELECT person FROM votes WHERE item = 'evetext'")]
    assert len(names) == 1
    assert names[0].startswith("somebody who left")


def test_models_of_an_export_that_was_changed_are_listed(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    out, runs = tmp_path / "out", tmp_path / "runs"
    collecting.export(prompts, out)
    with (out / "train.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    changed = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    by_data = run_folder(runs / "one", out, changed, seal="a")
    by_replay = run_folder(runs / "two", "elsewhere", "others", seal="b")
    config = json.loads((by_replay / "config.json").read_text())
    config["recipe"]["replay"] = str(out)
    (by_replay / "config.json").write_text(json.dumps(config))
    _, models = collecting.withdraw(prompts, "ann", runs)
    assert {model["model"] for model in models} == {str(by_data), str(by_replay)}
    cleared = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    run_folder(runs / "after", out, cleared, seal="c")
    assert str(runs / "after") not in str(collecting.models(prompts, runs))


def test_another_licence_wants_another_consent(prompts, tmp_path):  # noqa: F811
    terms = tmp_path / "terms.md"
    terms.write_text(
        "What you give is kept, and handed on for non-commercial use alone, as the licence below the text says. " * 2
    )
    collection = collecting.open_collection(prompts, ["votes=1", "licence=CC-BY-NC-4.0"], terms)
    collection.agree("ann", collection.terms.version, ["train", "share"])
    assert collecting.open_collection(prompts).purposes("ann") == ("train", "share")
    collection = collecting.open_collection(prompts, ["licence=CC0-1.0"])
    assert collection.terms.text == terms.read_text().strip()
    assert collection.purposes("ann") == ()
    assert collecting.open_collection(prompts, ["licence=CC-BY-NC-4.0"]).purposes("ann") == ("train", "share")


def test_consents_of_before_stand_until_the_licence_changes(prompts, tmp_path):  # noqa: F811
    collection = filled(prompts)
    with collection._transaction() as file:
        file.execute("DROP TABLE licences")  # as an earlier version had it
    assert opened(prompts).purposes("ann") == ("train", "share")
    missing = tmp_path / "missing.md"
    with pytest.raises(DataError, match=r"missing\.md"):
        collecting.open_collection(prompts, ["licence=CC-BY-4.0"], missing)
    assert opened(prompts).plan.licence == "CC0-1.0", "nothing was written"
    assert opened(prompts).purposes("ann") == ("train", "share")
    other = opened(prompts, licence="CC-BY-4.0")
    assert "CC-BY-4.0" in other.terms.text
    assert other.purposes("ann") == ()


def test_others_pieces_are_for_those_who_agreed(prompts):  # noqa: F811
    collection = filled(prompts)
    collection.give("ann", next(iter(collection.prompts)), drawing(7), "more")
    with pytest.raises(ConfigError, match="consent before a review"):
        collection.to_review("mallory")
    with TestClient(create_app(collection), base_url="http://127.0.0.1") as client:
        assert client.post("/collect/reviews/next", json={"person": "mallory"}).status_code == 400
        medium = "/collect/items/more/medium"
        refused = [client.get(medium), client.get(f"{medium}?person=mallory")]
        assert [response.status_code for response in refused] == [403, 403]
        assert client.get(f"{medium}?person=ben").headers["content-type"] == "image/png"
        withdrawal.withdraw(collection, "ann", ["annimage"])
        assert client.get(f"{medium}?person=ann").status_code == 200, "one's own"


def test_prompts_that_left_the_file_are_asked_no_more(prompts):  # noqa: F811
    collection = filled(prompts)
    old = dict(collection.prompts)
    prompts.write_text('{"type": "image", "prompt": "Draw eight.", "how": "draw"}\n' + PROMPTS.splitlines()[1])
    collection = opened(prompts, per_prompt=9)
    assert {collection.next("zoe").words for _ in range(20)} <= {"Draw eight.", "Write a sentence about rain."}
    assert len(collection.prompts) == 3
    assert collection.status()["prompts"] == 2
    assert set(old) < set(collection.prompts), "items have the prompts that they were given to"
    late = next(id for id, prompt in old.items() if prompt.words == "Draw seven.")
    collection.agree("zoe", collection.terms.version, ["train"])
    assert collection.give("zoe", late, drawing(8)).prompt == late, "begun before it was changed"
    assert collecting.reopened(prompts).current_prompts == collection.current_prompts


def test_rows_that_cannot_be_trained_on_are_refused_before_anybody_gives(prompts, tmp_path):  # noqa: F811
    wrong = {
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistent", "content": [{"type": "text", "text": "$item"}]},
        ]
    }
    prompts.write_text(PROMPTS + json.dumps({"type": "text", "prompt": "Rain?", "rows": [wrong]}))
    with pytest.raises(DataError, match=r"p.jsonl:3, message 1: unknown role 'assistent'"):
        opened(prompts)
    prompts.write_text(PROMPTS)
    collection = filled(prompts)
    text = next(prompt for prompt in collection.prompts.values() if prompt.type == "text")
    broken = {**text.__dict__, "rows": [wrong]}  # as an earlier version kept it
    with collection._transaction() as file:
        file.execute("UPDATE prompts SET shape = ? WHERE id = ?", (json.dumps(broken), text.id))
    assert sum(collecting.export(prompts, tmp_path / "out").values()) == 6
    assert {line["meta"]["collected"]["item"][3:] for line in lines(tmp_path / "out")} == {"image"}


def test_it_stands_as_the_first_votes_of_one_mind_say(prompts):  # noqa: F811
    collection = filled(prompts)
    drawn = collection.give("eve", next(iter(collection.prompts)), drawing(20), "drawn")
    collection.vote("cid", drawn.id, False)
    collection = opened(prompts, votes=2)
    text = next(prompt.id for prompt in collection.prompts.values() if prompt.type == "text")
    item = collection.give("eve", text, Part("text", "Rain."), "mixed")
    collection.vote("ann", item.id, True)
    collection.vote("ben", item.id, False)
    assert collection.standing(item.id) == "open"
    collection = opened(prompts, votes=1)
    assert collection.standing(item.id) == "accepted"
    status = collection.status()
    assert (status["accepted"], status["rejected"], status["open"]) == (7, 1, 0)


def test_a_consent_alone_is_taken_back(prompts, tmp_path):  # noqa: F811
    filled(prompts)
    arguments = ["collected", "withdraw", str(prompts), "eve", "--runs", str(tmp_path / "runs")]
    first, again = (CliRunner().invoke(cli, arguments) for _ in range(2))
    assert (first.exit_code, first.output.strip()) == (0, "0 items of eve are gone, and the consent")
    assert again.exit_code != 0
    assert collecting.reopened(prompts).purposes("eve") == ()
