"""A folder for one process alone: others wait or are told, a kill frees it, and no child of it keeps it."""

import multiprocessing
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from plait.errors import ConfigError
from plait.runtime.locks import alone

HOLDER = """
import sys, time
from pathlib import Path
from plait.runtime.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_comes_second_is_told(tmp_path):
    with (
        alone(tmp_path),
        pytest.raises(ConfigError, match="in use by another training; expected one at a time"),
        alone(tmp_path, patience=0),
    ):
        pass
    with alone(tmp_path, patience=0):
        assert list(tmp_path.iterdir()) == []


def test_a_kill_frees_it(tmp_path, holder):
    with pytest.raises(ConfigError, match="in use"), alone(tmp_path, patience=0):
        pass
    holder.kill()
    with alone(tmp_path):
        pass


def test_a_child_that_outlives_it_holds_nothing(tmp_path):
    with alone(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        with pytest.raises(ConfigError, match="in use"), alone(tmp_path, patience=0):
            pass
    try:
        with alone(tmp_path):  # a forked child lets it go as its first act
            assert child.is_alive()
    finally:
        child.kill()
        child.join()


def test_who_waited_holds_the_folder_that_has_the_name_now(tmp_path):
    """Where it was removed and made anew meanwhile."""
    folder, entered = tmp_path / "run", []
    folder.mkdir()

    def wait():
        with alone(folder, patience=20):
            entered.append(folder.stat().st_ino)
            with pytest.raises(ConfigError, match="in use"), alone(folder, patience=0):
                pass

    with alone(folder):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        folder.rename(tmp_path / "old")
        folder.mkdir()
        new = folder.stat().st_ino
        with alone(folder, patience=0):
            time.sleep(0.3)
            assert entered == []
    waiting.join()
    assert entered == [new]


def test_a_child_that_ends_inside_says_its_own_error(tmp_path):
    script = f"""
import os
from pathlib import Path
from plait.runtime.locks import alone
try:
    with alone(Path({str(tmp_path)!r})):
        if os.fork() == 0:
            raise RuntimeError("mine")
        os.wait()
except RuntimeError as error:
    print(error, error.__context__)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "mine None\n"


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), alone(tmp_path):
        raise RuntimeError
    with alone(tmp_path, patience=0):
        pass
