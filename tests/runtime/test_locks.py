"""A folder for one process alone: others wait or are told, a kill frees it, and no child of it keeps it."""

import multiprocessing
import subprocess
import sys
import textwrap
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


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), alone(tmp_path):
        raise RuntimeError
    with alone(tmp_path, patience=0):
        pass
