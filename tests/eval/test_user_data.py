"""Data that nobody here prepared: splits by content, tasks and labels found in rows, a recipe proposed, and a report."""

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

import plait
from plait import api, registry
from plait.cli import app
from plait.contract import Message, Part, Sample
from plait.data import splits
from plait.data.rows import dump_row, read_rows
from plait.errors import ConfigError, DataError
from plait.eval import user_data
from plait.eval.suites import partners
from plait.modalities.image import judge as image_judge
from plait.recipes.recipe import Recipe
from plait.train import probe

TINY = [
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "dtype=float32", "sampling.max_tokens=12", "sampling.steps=3",
]  # fmt: skip
KNOWN = registry.build_all(registry.available())


@pytest.fixture(autouse=True, scope="module")
def _short_probes():
    """Three steps are timed three times, not for fifteen seconds."""
    before, probe.WARM_SECONDS = probe.WARM_SECONDS, 0.0
    yield
    probe.WARM_SECONDS = before


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def asked(*parts):
    return Message("user", tuple(Part("text", p) if isinstance(p, str) else p for p in parts))


def row(question, answer, task=""):
    answer = Part("text", answer) if isinstance(answer, str) else answer
    return Sample((question, Message("assistant", (answer,))), task)


def write(folder, samples, name="train"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(dump_row(s) + "\n" for s in samples), encoding="utf-8")


@pytest.fixture(scope="module")
def digits_by_class(tmp_path_factory):
    """Real handwritten digits (scikit-learn's), a folder a class, in several modes and formats."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("classes")
    data = load_digits()
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for number, (picture, label) in enumerate(zip(data.images[:900], data.target[:900], strict=True)):
        class_folder = folder / names[label]
        class_folder.mkdir(exist_ok=True)
        image = Image.fromarray((picture * 15.9).astype(np.uint8))
        if number % 3 == 1:
            image = image.convert("RGB")
        image.save(class_folder / f"{number}.{'bmp' if number % 3 == 2 else 'png'}")
    return folder


@pytest.fixture(scope="module")
def rows_of_digits(digits_by_class, tmp_path_factory):
    to = tmp_path_factory.mktemp("rows") / "digits8"
    invoke("data", "import", digits_by_class, "--to", to)
    return to


@pytest.fixture(scope="module")
def trained(rows_of_digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("own") / "run"
    output = invoke("train", "--data", rows_of_digits, *TINY, "steps=12", "--out", out, "--threads", "1")
    return out, output


def test_a_run_without_a_recipe(trained, rows_of_digits):
    out, output = trained
    assert "10 different answers" in output
    assert "plan: 12 steps" in output
    assert "took" in output
    assert "estimated" in output
    recipe = json.loads((out / "proposal.json").read_text())
    assert recipe["name"] == "own-digits8"
    assert recipe["modalities"]["image"] == {"patch": 8, "channels": 1, "max_patches": 1}
    assert "audio" not in recipe["modalities"]
    assert recipe["augment"]["image->text classes"]["share"] == 0.7
    report = json.loads((out / "report.json").read_text())
    cells = {cell["cell"]: cell for cell in report["cells"]}
    assert cells["image->text"]["baseline"] > 0.8, "nearest neighbours read digits"
    assert cells["text->image"]["judge_ceiling"] > 0.6
    assert cells["text->image->text"]["metric"] == "cycle agreement"
    assert {cell["split"] for cell in report["cells"]} == {"test"}
    assert report["format"] == 1
    page = (out / "report.html").read_text()
    assert "<h1>One transformer, 2 cells</h1>" in page
    assert "→ audio" not in page
    assert not list(rows_of_digits.glob("judges")), "somebody's folder was written to"


def test_the_run_goes_on_as_it_was_proposed(trained, rows_of_digits, tmp_path):
    out, _ = trained
    saved = api.train_on(rows_of_digits, *TINY, "steps=12", out=out, resume=True)
    assert api.finished(saved)
    with pytest.raises(ConfigError, match="--resume"):
        api.train_on(rows_of_digits, out=out)


def test_held_out_rows_are_not_trained_on(trained, rows_of_digits):
    out, _ = trained
    stored = json.loads((out / splits.NAME).read_text())
    held = splits.Splits(rows_of_digits, tuple(stored["given"]), stored["ids"], stored["leaks"])
    media = {
        split: {p.value for s in held.rows(split, KNOWN) for m in s.messages for p in m.parts if p.type == "image"}
        for split in ("train", "judge", "test")
    }
    assert all(media.values())
    contents = {split: {Path(path).read_bytes() for path in paths} for split, paths in media.items()}
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["judge"]
    assert not contents["judge"] & contents["test"]


def pictures(folder, count, seed=0):
    rng = np.random.default_rng(seed)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(count):
        name = f"media/{seed}-{number}.png"
        Image.fromarray(rng.integers(0, 255, (6, 6), np.uint8)).save(folder / name)
        parts.append(Part("image", name))
    return parts


def test_the_same_picture_under_two_names_is_in_one_split(tmp_path):
    parts = pictures(tmp_path, 60)
    for part in parts:
        shutil.copy(tmp_path / part.value, tmp_path / part.value.replace("0-", "copy-"))
    twins = [Part("image", part.value.replace("0-", "copy-")) for part in parts]
    write(tmp_path, [row(asked(part, "what?"), "noise") for part in (*parts, *twins)])
    divided = splits.make(tmp_path, {"test": 0.3}, KNOWN)
    ids = [sample.id for sample in read_rows(tmp_path / "train.jsonl", KNOWN)]
    held = [number for number, name in enumerate(ids) if name in divided.ids["test"]]
    assert 5 < len(held) < 80
    assert {number % 60 for number in held[: len(held) // 2]} == {number % 60 for number in held[len(held) // 2 :]}
    assert all((number + 60) % 120 in held for number in held)


def test_leaks_into_a_given_test_are_left_out_of_training(tmp_path):
    parts = pictures(tmp_path, 20)
    write(tmp_path, [row(asked(part, "what?"), "noise") for part in parts])
    write(tmp_path, [row(asked(part, "which?"), "noise") for part in parts[:4]], "test")
    divided = splits.make(tmp_path, {"test": 0.1}, KNOWN)
    assert divided.given == ("test",)
    assert divided.leaks == 4
    ids = [sample.id for sample in read_rows(tmp_path / "train.jsonl", KNOWN)]
    assert divided.not_for_training == set(ids[:4])
    assert "4 training rows left out" in str(divided)
    assert len(list(divided.rows("test", KNOWN))) == 4
    assert len(list(divided.rows("train", KNOWN))) == 16


def test_rows_across_splits_belong_to_none(tmp_path):
    parts = pictures(tmp_path, 40)
    write(tmp_path, [row(asked(a, "next"), b) for a, b in itertools.pairwise(parts)])
    divided = splits.make(tmp_path, {"test": 0.5}, KNOWN)
    assert divided.ids["apart"], "every pair landed in one split"
    train = {p.value for s in divided.rows("train", KNOWN) for m in s.messages for p in m.parts if p.type == "image"}
    test = {p.value for s in divided.rows("test", KNOWN) for m in s.messages for p in m.parts if p.type == "image"}
    assert not train & test


@pytest.mark.parametrize(("a", "b"), [("😀", "🚗"), ("3 + 4", "3 - 4"), ("C++", "C#"), ("कि", "का")])
def test_other_words_are_other_groups(a, b):
    assert splits.groups(row(asked(a), "x"), KNOWN) != splits.groups(row(asked(b), "x"), KNOWN)


def shapes(folder, count, kinds=("cat", "dog")):
    """Pictures of noise with labels: named, and drawn in two phrasings."""
    rows = []
    for n, part in enumerate(pictures(folder, count, seed=7)):
        label = kinds[n % len(kinds)]
        rows.append(row(asked(part, "type?"), label, "type"))
        rows += [row(asked(f"{order} {label}"), part, "draw") for order in ("Draw", "Paint", "Sketch")]
    return rows


def test_odd_but_sound_data_is_measured_to_the_end(tmp_path):
    """An attribute named like a method, more answers than training pictures, a given test that lacks a task and is smaller
    than any that would be held out, a damaged picture in it."""
    folder = tmp_path / "data"
    write(folder, shapes(folder, 24))
    tests = [row(asked(part, "type?"), "cat", "type") for part in pictures(folder, 21, seed=9)]
    write(folder, tests, "test")
    (folder / "media/9-3.png").write_bytes(b"no picture")
    lines = []
    saved = api.train_on(folder, *TINY, "steps=4", out=tmp_path / "run", say=lines.append)
    assert any("test.jsonl: 21 rows checked" in line and "1 bad" in line for line in lines)
    report = api.evaluate(saved, say=str)
    (cell,) = [cell for cell in report["cells"] if cell["task"] == "type"]
    assert (cell["split"], cell["n"]) == ("test", 20)
    assert any("1 bad rows of test.jsonl" in note for note in report["notes"])


def test_judges_may_be_asked_any_name(tmp_path):
    folder = tmp_path / "data"
    write(folder, shapes(folder, 500))
    saved = api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str)
    report = api.evaluate(saved, say=str, limit=20)
    assert "type accuracy" in {cell["metric"] for cell in report["cells"]}


def test_each_part_of_a_label_is_judged(tmp_path, monkeypatch):
    """Pictures of "SHADE, SIDE", named and drawn: 3 shades and 4 sides of a grey picture that are lit."""
    monkeypatch.setattr(image_judge, "EPOCHS", 10)
    folder = tmp_path / "data"
    folder.mkdir()
    shades, sides = {"dim": 90, "grey": 160, "bright": 250}, ("left", "right", "top", "bottom")
    rng, samples = np.random.default_rng(0), []
    for number in range(480):
        shade, side = list(shades)[number % 3], sides[number // 3 % 4]
        levels = rng.integers(0, 40, (8, 8)).astype(np.uint8)
        half = {"left": levels[:, :4], "right": levels[:, 4:], "top": levels[:4], "bottom": levels[4:]}[side]
        half[:] = shades[shade]
        Image.fromarray(levels).save(folder / f"{number}.png")
        part, label = Part("image", f"{number}.png"), f"{shade}, {side}"
        samples += [row(asked(part, "How bright, and where?"), label, "look"), row(asked(label), part, "draw")]
    write(folder, samples)
    small = ("steps=3", "pack.length=192", "pack.sequences=2")
    report = api.evaluate(api.train_on(folder, *TINY, *small, out=tmp_path / "run", say=str), say=str)
    cells = {(cell["task"], cell["metric"]): cell for cell in report["cells"]}
    assert not {metric for _, metric in cells} & {"mse", "exact match"}, "reported whole, or by distances"
    for part, chance in (("look, part 1", 1 / 3), ("look, part 2", 1 / 4)):
        drawn, named = cells["draw", f"{part} accuracy"], cells["look", f"{part}: exact match"]
        assert drawn["judge"] == "convolutional image judge"
        assert drawn["judge_ceiling"] > 1.5 * chance, "the judge did not learn this part"
        assert named["baseline"] > 0.9, "nearest neighbours see it"
        assert 0.9 * chance < drawn["baseline"] < 2 * chance, "the commonest value of this part"
        assert named["n"] == drawn["n"] > 20
    (cycle,) = [cell for cell in report["cells"] if cell["metric"] == "cycle agreement"]
    assert cycle["task"] == "draw then look"


def test_rows_that_change_sides_are_noticed(tmp_path):
    folder = tmp_path / "data"
    parts = pictures(folder, 200)
    write(folder, [row(asked(part, "what?"), f"noise {n}") for n, part in enumerate(parts)])
    write(folder, [row(asked(part, "what?"), "noise") for part in parts[:30]], "test")
    saved = api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str)
    (folder / "test.jsonl").unlink()
    with pytest.raises(DataError, match="holds out the model may have seen"):
        api.evaluate(saved, say=str)
    with pytest.raises(ConfigError, match="the run began with"):
        api.train_on(folder, *TINY, out=tmp_path / "run", resume=True, say=str)


def test_labelled_pictures_without_a_judge_get_distances(tmp_path):
    folder = tmp_path / "data"
    write(folder, shapes(folder, 130))
    saved = api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str)
    report = api.evaluate(saved, say=str)
    assert ("text->image", "mse") in {(cell["cell"], cell["metric"]) for cell in report["cells"]}
    assert "judge" not in json.loads((tmp_path / "run/proposal.json").read_text())["hold_out"]


def test_overrides_come_before_what_is_measured(tmp_path):
    folder = tmp_path / "data"
    write(folder, shapes(folder, 120))
    wishes = ["modalities.image.patch=2", "modalities.image.max_patches=256", "hold_out.test=0.3", "steps=3"]
    api.train_on(folder, *TINY, *wishes, out=tmp_path / "run", say=str)
    recipe = json.loads((tmp_path / "run/proposal.json").read_text())
    assert recipe["hold_out"] == {"test": 0.3}
    assert not (tmp_path / "run/long_rows.jsonl").exists()


def test_torchrun_is_told_to_take_a_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"proposal.json"):
        api.train_on(tmp_path, out=tmp_path / "run")


def test_questions_in_words_are_grouped_without_case_and_marks():
    a, b = row(asked("What is it?"), "x"), row(asked("what is  it"), "y")
    assert splits.groups(a, KNOWN) == splits.groups(b, KNOWN) != splits.groups(row(asked("Who is it?"), "x"), KNOWN)


def test_splits_are_remembered_until_something_changes(tmp_path):
    parts = pictures(tmp_path / "data", 30)
    write(tmp_path / "data", [row(asked(part, "what?"), "noise") for part in parts])
    first = splits.load_or_make(tmp_path, tmp_path / "data", {"test": 0.3}, KNOWN)
    text = (tmp_path / splits.NAME).read_text()
    assert splits.load_or_make(tmp_path, tmp_path / "data", {"test": 0.3}, KNOWN) == first
    other = splits.load_or_make(tmp_path, tmp_path / "data", {"test": 0.5}, KNOWN)
    assert len(other.ids["test"]) > len(first.ids["test"])
    assert (tmp_path / splits.NAME).read_text() == text, "the run's own splits were overwritten"


def test_an_appended_file_keeps_its_splits(tmp_path):
    """Rows that are put before, between or behind others change no row's side."""
    parts = pictures(tmp_path, 80)
    rows = [row(asked(part, "what?"), "noise") for part in parts]
    write(tmp_path, rows[:50])
    before = splits.make(tmp_path, {"test": 0.3}, KNOWN)
    write(tmp_path, [*rows[50:60], *rows[:50:-1][-20:], *rows[:50]])
    after = splits.make(tmp_path, {"test": 0.3}, KNOWN)
    sides = {sample.id: split for split in ("train", "test") for sample in after.rows(split, KNOWN)}
    assert set(before.ids["test"]) <= set(after.ids["test"])
    write(tmp_path, rows[:50])
    for split in ("train", "test"):
        assert all(sides[sample.id] == split for sample in before.rows(split, KNOWN))


def test_too_few_rows_are_all_trained_on_and_said_so(tmp_path):
    """Thirty clips of any rate, length and format, one or two channels, with captions in any script."""
    from scipy.signal import chirp

    folder = tmp_path / "mine"
    (folder / "media").mkdir(parents=True)
    samples = []
    forms = [("wav", 8000), ("flac", 22050), ("ogg", 44100), ("mp3", 48000), ("opus", 48000), ("wav", 96000)]
    for n in range(30):
        form, rate = forms[n % len(forms)]
        time = np.arange(int(rate * (0.1 + n * n * 0.003))) / rate
        tone = 0.3 * chirp(time, 200 + 20 * n, max(time[-1], 0.01), 900)
        name = f"media/{n}.{form}"
        sound = np.stack([tone, 0.5 * tone], 1) if n % 2 else tone
        soundfile.write(folder / name, sound, rate, **({"format": "OGG", "subtype": "OPUS"} if form == "opus" else {}))
        samples.append(row(asked(Part("audio", name), "Was hörst du?"), f"звук {n} 音"))
        samples.append(row(asked(f"Sing {n} 音"), Part("audio", name)))
    write(folder, samples)
    output = invoke("train", "--data", folder, *TINY, "steps=4", "--out", tmp_path / "run", "--threads", "1")
    assert "held out: nothing" in output
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {cell["split"] for cell in report["cells"]} == {"trained"}
    assert any("learning by heart" in note for note in report["notes"])
    metrics = {(cell["cell"], cell["metric"]) for cell in report["cells"]}
    assert ("audio->text", "character error rate") in metrics
    assert ("text->audio", "log_mel_mae") in metrics


def test_what_is_no_data_folder_says_how_to_get_one(tmp_path, digits_by_class):
    with pytest.raises(DataError, match=r"looks like folders.*plait data import"):
        api.train_on(digits_by_class, out=tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"docs/your-data.md"):
        api.train_on(tmp_path / "empty", out=tmp_path / "run")
    with pytest.raises(DataError, match="is not there"):
        api.train_on(tmp_path / "gone", out=tmp_path / "run")
    for name, mend in (("rows.jsonl", "rename it to train.jsonl"), ("train.jsonl", f"--data {tmp_path / 'empty'}")):
        (tmp_path / "empty" / name).write_text("")
        with pytest.raises(DataError, match=re.escape(mend)):
            api.train_on(tmp_path / "empty" / name, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="--data"):
        invoke("train")


def test_a_row_longer_than_a_sequence_is_left_out_and_named(tmp_path):
    samples = [row(asked(f"say {n}"), f"word {n}") for n in range(40)] + [row(asked("recite"), "na " * 4000)]
    write(tmp_path / "data", samples)
    output = invoke("train", "--data", tmp_path / "data", *TINY, "steps=6", "--out", tmp_path / "run", "--threads", "1")
    assert "1 rows were longer than pack.length" in output
    entry = json.loads((tmp_path / "run/long_rows.jsonl").read_text().splitlines()[0])
    assert entry["line"] == 41
    assert "train.jsonl:41" in entry["problem"]
    assert "pack.length=1024" in entry["problem"]
    cells = json.loads((tmp_path / "run/report.json").read_text())["cells"]
    assert {cell["n"] for cell in cells} == {40}, "a row that was left out is measured"


def test_a_longer_clip_than_usual_can_be_allowed(tmp_path):
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data/long.wav", np.zeros(8000 * 40), 8000)
    samples = [row(asked(f"say {n}"), f"word {n}") for n in range(30)]
    write(tmp_path / "data", [*samples, row(asked(Part("audio", "long.wav"), "What is it?"), "silence", "hear")])
    lines = []
    plait.train_on(tmp_path / "data", *TINY, "steps=3", out=tmp_path / "a", say=lines.append)
    assert "modalities.audio.max_seconds" in (tmp_path / "a/bad_rows.jsonl").read_text()
    longer = "modalities.audio.max_seconds=60"
    invoke("train", "--data", tmp_path / "data", *TINY, "steps=3", longer, "--out", tmp_path / "b", "--threads", "1")
    assert not (tmp_path / "b/bad_rows.jsonl").read_text()
    assert "<audio" in (tmp_path / "b/report.html").read_text(), "a long clip cannot be shown"


def test_what_is_not_measured_of_an_answer_is_said(tmp_path):
    yes, no = (Message("assistant", (Part("text", word),)) for word in ("yes", "no"))
    samples = [Sample((asked(f"one {n}?"), yes, asked("two?"), no), "chat") for n in range(12)]
    several = Message("assistant", (Part("text", "here"), Part("text", "and there")))
    samples += [Sample((asked(f"where {n}?"), several), "places") for n in range(12)]
    write(tmp_path / "data", samples)
    invoke("train", "--data", tmp_path / "data", *TINY, "steps=3", "--out", tmp_path / "run", "--threads", "1")
    notes = " ".join(json.loads((tmp_path / "run/report.json").read_text())["notes"])
    assert "of 12 conversations with several answers only the last" in notes
    assert "12 answers of several parts" in notes


def test_every_row_leaves_training_only_when_it_must(tmp_path):
    rows = [row(asked(f"say {n}"), f"word {n}") for n in range(300)]
    write(tmp_path, rows)
    divided = splits.make(tmp_path, {"test": 0.1}, KNOWN)
    total = sum(len(list(divided.rows(split, KNOWN))) for split in ("train", "test"))
    assert total == 300 == len(list(read_rows(tmp_path / "train.jsonl", KNOWN)))


def test_one_question_asked_over_and_over_is_not_held_out(tmp_path):
    """Its group is of one piece: held out, it would leave nothing to learn from."""
    for question in ("tell me a joke", "another?", "more", "one more", "again"):
        write(tmp_path, [row(asked(question), f"joke {n}") for n in range(150)])
        divided = splits.make(tmp_path, {"test": 0.5}, KNOWN)
        assert len(list(divided.rows("train", KNOWN))) == 150


def test_names_with_brackets_are_names(tmp_path):
    """Square brackets are markup to the terminal library; in somebody's task or folder they are letters."""
    folder = tmp_path / "data[/x]"
    write(folder, [row(asked(f"say {n}"), f"word {n}", "[/b] a[en]") for n in range(30)])
    output = invoke("train", "--data", folder, *TINY, "steps=3", "--out", tmp_path / "run[/mk]", "--threads", "1")
    assert "[/b] a[en]" in output


def test_a_stopped_check_leaves_a_folder_that_can_be_used(tmp_path):
    folder = tmp_path / "data"
    write(folder, [row(asked(f"say {n}"), f"word {n}") for n in range(30)])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/bad_rows.jsonl.partial").write_text("")
    assert api.finished(api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str))


def test_a_test_without_a_good_row_is_said(tmp_path):
    folder = tmp_path / "data"
    write(folder, [row(asked(f"say {n}"), f"word {n}") for n in range(30)])
    write(folder, [], "test")
    with pytest.raises(DataError, match=r"test\.jsonl has no good row of 0"):
        api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str)
    write(folder, [row(asked(Part("image", f"{n}.png")), "gone") for n in range(5)], "test")
    with pytest.raises(DataError, match=r"test\.jsonl has no good row of 5.*measure on"):
        api.train_on(folder, *TINY, "steps=3", out=tmp_path / "run", say=str)


def test_bad_rows_of_a_given_test_are_listed_and_stop_strict_runs(tmp_path):
    folder = tmp_path / "data"
    write(folder, [row(asked(f"say {n}"), f"word {n}") for n in range(30)])
    write(
        folder,
        [row(asked(f"tell {n}"), f"word {n}") for n in range(20)] + [row(asked(Part("image", "gone")), "?")],
        "test",
    )
    out = tmp_path / "run"
    output = invoke("train", "--data", folder, *TINY, "steps=3", "--out", out, "--threads", "1")
    assert "test.jsonl: 21 rows checked" in output
    (entry,) = map(json.loads, (out / "bad_rows.jsonl").read_text().splitlines())
    assert (entry["file"], entry["line"]) == ("test.jsonl", 21)
    report = json.loads((out / "report.json").read_text())
    assert {(cell["split"], cell["n"]) for cell in report["cells"]} == {("test", 20)}
    with pytest.raises(DataError, match=r"1 rows of .* are bad.*test\.jsonl:21"):
        api.train_on(folder, *TINY, "steps=3", out=tmp_path / "strict", strict=True, say=str)


def test_rows_that_were_mended_are_checked_again(tmp_path):
    """The run was killed before its first checkpoint, and its list of bad rows is there."""
    folder, out = tmp_path / "data", tmp_path / "run"
    good = [row(asked(f"say {n}"), f"word {n}") for n in range(30)]
    write(folder, [*good, row(asked("say more"), "")])
    with pytest.raises(DataError, match="1 rows"):
        api.train_on(folder, *TINY, "steps=3", out=out, strict=True, say=str)
    write(folder, [*good, row(asked("say more"), "more")])
    api.train_on(folder, *TINY, "steps=3", out=out, strict=True, say=str)
    assert not (out / "bad_rows.jsonl").read_text()


def test_minutes_bound_steps_that_are_settled(tmp_path):
    folder, out = tmp_path / "data", tmp_path / "run"
    write(folder, [row(asked(f"say {n}"), f"word {n}") for n in range(30)])
    assert not api.finished(api.train_on(folder, *TINY, "steps=100000", out=out, minutes=0.02, say=str))
    assert not api.finished(api.train_on(folder, *TINY, out=out, minutes=0.02, resume=True, say=str))


@pytest.mark.parametrize(
    "manifest", ['{"audio_filepath": "a.wav"}\n{"audio_filepath": "b.wav"}', "[1]", '{"files": ["a"]}']
)
def test_somebody_else_s_manifest_is_no_matter(tmp_path, manifest):
    folder = tmp_path / "data"
    write(folder, [row(asked(f"say {n}"), f"word {n}") for n in range(30)])
    (folder / "manifest.json").write_text(manifest)
    output = invoke("train", "--data", folder, *TINY, "steps=3", "--out", tmp_path / "run", "--threads", "1")
    assert "train.jsonl: 30 rows checked" in output


def test_checks_do_not_hang_on_the_order_of_the_rows():
    """Rows sorted by class, each picture asked about twice: who stands next has the same answer, or the same picture."""
    samples = [
        Sample((asked(Part("image", f"{n // 2}.png")), Message("assistant", (Part("text", f"class {n // 20}"),))), meta={"expect": {}})
        for n in range(60)
    ]  # fmt: skip
    for number, partner in enumerate(partners(samples, 60)):
        assert samples[number].messages[-1] != samples[partner].messages[-1]
        assert samples[number].messages[0] != samples[partner].messages[0]
    alike = [replace(sample, messages=samples[0].messages) for sample in samples]
    assert partners(alike, 3) == [1, 2, 3], "where all are alike the next must do"


def test_measured_rows_are_mixed(trained, rows_of_digits):
    """The importer writes class after class; twenty rows of a report must not be of one class."""
    out, _ = trained
    (card,) = out.glob("checkpoints/*/README.md")
    before, lines = card.read_bytes(), []
    report = api.evaluate(out, limit=20, say=lines.append)
    assert card.read_bytes() == before, "the card has the numbers of 20 rows"
    assert any("model card stays as it is: at most 20 rows" in line for line in lines)
    expected = {cell["task"]: cell for cell in report["cells"]}
    assert expected["image->text classes"]["n"] == 20
    suite, _ = user_data.suite(Recipe(**json.loads((out / "proposal.json").read_text())), out, KNOWN, {})
    rows = suite.rows.rows(suite.tasks[0], "test")[:20]
    assert len({str(sample.meta["expect"]) for sample in rows}) > 3


def test_attributes_of_one_task_have_their_own_names(tmp_path):
    """Two questions about one picture: two lines of the report that can be told apart."""
    folder = tmp_path / "data"
    samples = []
    for n in range(30):
        Image.new("L", (8, 8), n * 8).save((folder.mkdir(exist_ok=True) or folder) / f"{n}.png")
        for question, answers in (("Which bird?", ("owl", "wren")), ("How many?", ("one", "two", "three"))):
            samples.append(row(asked(Part("image", f"{n}.png"), question), answers[n % len(answers)], "birds"))
    write(folder, samples)
    invoke("train", "--data", folder, *TINY, "steps=3", "--out", tmp_path / "run", "--threads", "1")
    cells = json.loads((tmp_path / "run/report.json").read_text())["cells"]
    assert {cell["metric"] for cell in cells} >= {"Which bird?: exact match", "How many?: exact match"}
