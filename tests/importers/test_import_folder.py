"""The folder of the rows: refused before any work, and never left half."""

import errno
import os

import pytest
from import_sources import captions_csv, chat_openai, picture, take
from typer.testing import CliRunner

from plait.cli import app
from plait.data.importers import Record, Writer, run
from plait.data.importers.core import writer as writing
from plait.errors import ConfigError, DataError


@pytest.fixture
def source(tmp_path):
    captions_csv(tmp_path / "source")
    return tmp_path / "source"


def test_what_cannot_be_imported(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        run(tmp_path / "nothing", tmp_path / "data")
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match="none of the known formats"):
        run(tmp_path / "source", tmp_path / "data")
    captions_csv(tmp_path / "source")
    with pytest.raises(ConfigError, match="unknown format"):
        run(tmp_path / "source", tmp_path / "data", "excel")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    with pytest.raises(ConfigError, match="not empty"):
        run(tmp_path / "source", tmp_path / "full")
    assert (tmp_path / "full" / "mine").read_text() == "keep"
    assert not (tmp_path / "data").exists()


def test_a_refused_import_touches_nothing(tmp_path, source):
    """Neither the folder that is in use, nor the source where it is that folder."""
    mine = tmp_path / "mine"
    (mine / "media").mkdir(parents=True)
    (mine / "train.jsonl").write_text("years of work")
    for to in (mine, source):
        before = sorted(path.name for path in to.rglob("*"))
        with pytest.raises(ConfigError, match="is not empty"):
            run(source, to, say=str)
        assert sorted(path.name for path in to.rglob("*")) == before
    assert (mine / "train.jsonl").read_text() == "years of work"


@pytest.mark.parametrize("to", ["file", "file/below", "file/below/further"])
def test_a_file_is_no_folder(tmp_path, source, to):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file.*expected a (new )?folder.*choose another --to"):
        run(source, tmp_path / to, say=str)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, source, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = []
    with pytest.raises(ConfigError, match=r"cannot be made in .*expected a folder that may be written"):
        run(source, tmp_path / "to", say=said.append)
    assert said == []
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("failing", ["dump_row", "atomic_write"])
def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path, source, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, failing, full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\); expected"):
        run(source, tmp_path / "to", say=str)
    assert not (tmp_path / "to").exists()


def test_a_folder_that_was_there_stays(tmp_path, source):
    (source / "captions.csv").write_text("file_name,caption\n")
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match="gave no training rows"):
        run(source, tmp_path / "to", say=str)
    assert list((tmp_path / "to").iterdir()) == []


def test_rows_beside_their_source_are_not_read_as_part_of_it(tmp_path, source):
    counts, _ = take(source, source / "rows")
    assert sum(counts.values()) == 60


def test_a_few_rows_are_all_for_training(tmp_path):
    """Where the hash of a single picture falls to what is held out, it is trained on."""
    for n in range(12):
        picture(tmp_path / f"{n}/a.png").with_suffix(".txt").write_text("a thing")
        assert take(tmp_path / f"{n}", tmp_path / f"to{n}")[0] == {"train": 2}
        assert sorted(path.name for path in (tmp_path / f"to{n}").iterdir()) == ["import.json", "media", "train.jsonl"]


def test_a_source_of_tests_alone_gives_no_training_rows(tmp_path):
    for label in ("cat", "dog"):
        picture(tmp_path / "s/test" / label / "0.png")
    with pytest.raises(DataError, match=r"gave no training rows \(4 of test\)"):
        take(tmp_path / "s", tmp_path / "to")


def test_strict_on_the_command_line(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    chat_openai(source)
    path = source / "chats.jsonl"
    path.write_text(path.read_text() + "\n{}")
    runner = CliRunner()
    done = runner.invoke(app, ["data", "import", str(source), "--to", str(tmp_path / "strict"), "--strict"])
    assert done.exit_code != 0
    assert str(done.exception).startswith("chats.jsonl:31: it has no messages; expected")
    done = runner.invoke(app, ["data", "import", str(source), "--to", str(tmp_path / "to")])
    assert done.exit_code == 0
    assert "1 passed over: it has no messages (chats.jsonl:31)" in done.output
    assert "train.jsonl: 30 rows" in done.output


def test_the_writer_alone(tmp_path, world):
    with Writer(tmp_path / "to") as writer:
        writer.add(Record(world.sample([world.part("text", 0)], [world.part("image", 0)]), "train"))
        assert writer.finish() == {"train": 1}
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["media", "train.jsonl"]
