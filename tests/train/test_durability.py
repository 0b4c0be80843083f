"""Kill -9 at any moment, in mid-save too: what is left loads, and the resumed run ends bit-exactly where the other does."""

import copy
import json
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plait.errors import CheckpointError, ConfigError
from plait.runtime import files
from plait.train import checkpoint, shipped
from plait.train.migrations import migrate_config
from plait.train.progress import Progress
from plait.train.state import Training

fingerprint = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "kill_campaign.py"))[
    "fingerprint"
]  # the long form's
STEPS = 24
SETTINGS = [
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", f"steps={STEPS}", "save_every=3", "log_every=5",
    "pack.sequences=2", "dtype=float32", "optim.warmup=5",
]  # fmt: skip


def command(data, out, *more):
    return [
        sys.executable, "-m", "plait", "train", "digits", f"data={data}", *SETTINGS, "--out", str(out), "--threads", "1", *more,
    ]  # fmt: skip


def run(data, out, *more, check=True):
    done = subprocess.run(command(data, out, *more), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def final(out):
    """Hash of everything that the end of a run holds, except seconds."""
    assert checkpoint.steps_of(Path(out))[-1].name == checkpoint.STEP_NAME.format(STEPS)
    return fingerprint(Path(out))


@pytest.fixture(scope="module")
def whole(small_digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    run(small_digits, out)
    return out


def kill_when(process, moment):
    while process.poll() is None and not moment():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("seed", range(2))
def test_kill_at_random_moments(small_digits, whole, tmp_path, seed):
    """Kill a few times, at random and in the middle of a save; then let it end."""
    out, random_source = tmp_path / "run", random.Random(seed)
    kills = 0
    for attempt in range(4):
        checkpoint.sweep(out)
        process = subprocess.Popen(
            command(small_digits, out, *(["--resume"] if out.exists() else [])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if attempt % 2:  # in mid-save: as soon as a half-written checkpoint is there
            kill_when(process, lambda: any(out.glob("checkpoints/*.partial")))
        else:
            first = checkpoint.steps_of(out)[-1:]
            wait = random_source.uniform(0.0, 0.3)
            began: list[float] = []

            def moment(first=first, wait=wait, began=began):
                if checkpoint.steps_of(out)[-1:] != first and not began:
                    began.append(time.monotonic())
                return began and time.monotonic() - began[0] > wait

            kill_when(process, moment)
        kills += process.returncode == -signal.SIGKILL
        for folder in checkpoint.steps_of(out):
            checkpoint.load(folder)  # whatever has a checkpoint's name is whole
    assert kills >= 2, "nothing was killed: the test could not fail"
    run(small_digits, out, "--resume")
    assert final(out) == final(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_stop_saves_and_says_how_to_go_on(small_digits, whole, tmp_path, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(small_digits, out, "save_every=1000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = out / "train.log"
    while process.poll() is None and not (log.exists() and '"step"' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "--resume" in said
    assert checkpoint.steps_of(out), "Ctrl-C lost the run"
    run(small_digits, out, "--resume")
    assert final(out) == final(whole)


def test_an_existing_run_is_refused_by_default(small_digits, whole):
    done = run(small_digits, whole, check=False)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert "--overwrite" in done.stderr
    assert "Traceback" not in done.stderr


def test_resuming_with_other_settings_is_refused(small_digits, whole):
    done = run(small_digits, whole, "--resume", "optim.lr=0.5", check=False)
    assert done.returncode == 2
    assert "optim" in done.stderr


def test_resuming_with_other_rows_is_refused(small_digits, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    rows = small_digits / "train.jsonl"
    before = rows.read_text()
    try:
        rows.write_text("\n".join(before.splitlines()[:-1]) + "\n")
        done = run(small_digits, tmp_path / "run", "--resume", check=False)
    finally:
        rows.write_text(before)
    assert done.returncode == 2
    assert "the run began with" in done.stderr


def test_overwrite_deletes_runs_alone(small_digits, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "checkpoints/notes.partial").mkdir(parents=True)
    for option in ("--overwrite", "--strict"):
        done = run(small_digits, tmp_path, option, check=False)
        assert done.returncode == 2
        assert (tmp_path / "thesis.txt").read_text() == "years of work"
        assert (tmp_path / "checkpoints/notes.partial").is_dir(), "swept a folder that is no run's"


def test_a_damaged_file_is_named(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint.steps_of(whole)[-1], folder)
    weights = folder / checkpoint.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        checkpoint.load(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        checkpoint.load(folder)


def test_a_damaged_configuration_is_named(whole, tmp_path):
    """A digit of the statistics that sound is scaled by, turned by one bit, would change every sound unseen."""
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint.steps_of(whole)[-1], folder)
    config = json.loads((folder / checkpoint.CONFIG).read_text())
    config["modalities"]["audio"]["mean"][0] += 1e-3
    (folder / checkpoint.CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        checkpoint.load(folder)


def test_what_was_cut_short_is_swept_away(small_digits, tmp_path):
    left = tmp_path / "run/checkpoints/step-00000001.partial"
    run(small_digits, tmp_path / "run", "--max-minutes", "0.0001")
    left.mkdir()
    run(small_digits, tmp_path / "run", "--resume")
    assert not left.exists()


def test_a_log_that_cannot_be_written_costs_the_log_alone(tmp_path, capsys):
    """/dev/full takes no byte."""
    (tmp_path / "train.log").symlink_to("/dev/full")
    with Progress(tmp_path, 10, 0) as progress:
        progress.say("a line")
        progress.say("another")
    assert capsys.readouterr().err.count("cannot be written: No space left on device; the run goes on") == 1


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    files.atomic_write(tmp_path / "a.json", "before")

    def stop(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", stop)
    with pytest.raises(OSError, match="No space"):
        files.atomic_write(tmp_path / "a.json", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "before"


def test_a_newer_format_is_refused_by_number_and_an_older_one_migrated(small_digits, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    folder = checkpoint.steps_of(tmp_path / "run")[-1]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(CheckpointError, match=rf"format 99.*reads formats 1 to {checkpoint.FORMAT}: upgrade plait"):
        checkpoint.load(folder)
    new = ("turns", "hold_out", "augment")  # what format 1 did not have
    recipe = {key: value for key, value in config["recipe"].items() if key not in new}
    image = {key: value for key, value in config["modalities"]["image"].items() if key != "flip"}
    older = {**config, "format": 1, "recipe": recipe, "modalities": {**config["modalities"], "image": image}}
    (folder / "config.json").write_text(json.dumps(older))
    model, migrated = checkpoint.load(folder)
    assert migrated["format"] == checkpoint.FORMAT
    assert migrated["recipe"]["turns"] == 1
    assert model.vocabulary.modalities["image"].variation.flip is False
    given = copy.deepcopy(older)
    assert migrate_config(given)["recipe"] == migrated["recipe"]
    assert given == older, "no pure function"
    done = run(small_digits, tmp_path / "run", "--resume", check=False)
    assert done.returncode == 2
    assert f"start a new run from its weights: init={folder}" in done.stderr
    done = run(small_digits, tmp_path / "new", f"init={folder}")
    assert "parameters that move: audio" in done.stderr


def limited(which, size):
    """A preexec function that bounds a resource of the child process."""
    import resource

    def bound():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(which, (size, size))

    return bound


def run_limited(data, out, bound, *more):
    return subprocess.run(
        command(data, out, *more), capture_output=True, text=True, check=False, preexec_fn=bound
    )  # fmt: skip


def test_a_full_disk_loses_nothing(small_digits, whole, tmp_path):
    """Files may grow to 512 bytes and no further: no checkpoint and no log can be written, and that is said; then there is
    room again."""
    import resource

    out = tmp_path / "run"
    run(small_digits, out, "--max-minutes", "0.0001")  # one step, one sound checkpoint
    (sound,) = checkpoint.steps_of(out)
    done = run_limited(small_digits, out, limited(resource.RLIMIT_FSIZE, 2**9), "--resume")
    assert done.returncode == 2, done.stderr
    assert "the run goes on and tries again" in done.stderr
    assert "the run goes on without" in done.stderr
    assert "cannot be saved" in done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoint.steps_of(out) == [sound], "a half-written checkpoint was left"
    assert not list(out.glob("checkpoints/*.partial"))
    run(small_digits, out, "--resume")
    assert final(out) == final(whole)


def test_running_out_of_memory_names_what_to_lower(small_digits, tmp_path):
    import resource

    done = run_limited(
        small_digits, tmp_path / "run", limited(resource.RLIMIT_AS, 6 * 2**30), "pack.length=8192", "pack.sequences=64"
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "out of memory" in done.stderr
    assert "pack.micro (now 64" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["/proc/plait", "/dev/null/plait"])
def test_a_folder_that_cannot_be_written_is_said(small_digits, place):
    done = run(small_digits, place, check=False)
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert "--out" in done.stderr


def test_a_clock_that_jumps_changes_nothing(small_digits, whole, tmp_path):
    """Wall time goes back and forth by years between any two looks at it."""
    code = (
        "import itertools, sys, time; years = itertools.cycle([0, 4e8, -4e8, 1e9]); real = time.time; "
        "time.time = lambda: max(0.0, real() + next(years)); from plait.cli import main; sys.argv[0] = 'plait'; main()"
    )
    arguments = command(small_digits, tmp_path / "run")[3:]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert final(tmp_path / "run") == final(whole)


def test_no_checkpoint_where_expected(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.locate(tmp_path / "nowhere")


def test_the_average_is_the_recursion():
    """a <- d a + (1 - d) w with d = min(decay, (1 + step) / (10 + step)), step by step."""
    weights = torch.nn.Linear(3, 3, bias=False)
    training = Training(weights, [], None)
    expected = weights.weight.detach().clone()
    for step in range(1, 6):
        torch.nn.init.normal_(weights.weight)
        training.step = step
        training.update_ema(0.3)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights.weight.detach()
        torch.testing.assert_close(training.ema[0], expected)


def test_the_checkpoint_holds_the_average(whole):
    """model.safetensors is the moving average, not the last weights."""
    folder = checkpoint.steps_of(whole)[-1]
    average, state = load_file(folder / checkpoint.WEIGHTS), load_file(folder / checkpoint.STATE_TENSORS)
    assert any(not torch.equal(average[name], state[f"weights.{name}"]) for name in average)


def test_unknown_loss_group_is_refused(small_digits, tmp_path):
    from plait import api

    with pytest.raises(ConfigError, match="smell"):
        api.train("digits", f"data={small_digits}", 'loss_weights={"smell": 1}', out=tmp_path / "run")


def test_a_shipped_checkpoint_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(CheckpointError, match=r"expected a folder with config\.json.*none is shipped"):
        checkpoint.locate(Path("smol"))
    (tmp_path / "shipped" / "smol").mkdir(parents=True)
    (tmp_path / "shipped" / "smol" / checkpoint.CONFIG).write_text("{}")
    assert checkpoint.locate(Path("smol")) == tmp_path / "shipped" / "smol"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smol").mkdir()
    with pytest.raises(CheckpointError, match=r"smol holds no checkpoint.*or one of smol"):
        checkpoint.locate(Path("smol"))  # a folder of one's own comes first
