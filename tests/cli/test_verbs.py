"""The verbs, on the command line and in Python, on the real data built small."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import plait
from plait import api, registry
from plait.cli import app
from plait.cli.generate import parse_arguments, request_options, write_part
from plait.contract import Message, Part
from plait.errors import ConfigError, DataError, PlaitError
from plait.eval import card, statistics
from plait.infer.engine import Answer, Engine
from plait.modalities import PROVENANCE
from plait.modalities.audio import judge as audio_judge
from plait.modalities.image import judge as image_judge
from plait.recipes import measuring
from plait.train import checkpoint, shipped

TINY = [
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "steps=6", "pack.sequences=2", "dtype=float32",
    'sampling={"steps":2,"guidance":2.5,"temperature":0.3,"max_tokens":12}',
]  # fmt: skip


@pytest.fixture(scope="module")
def run(small_digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("verbs") / "run"
    made = invoke("train", "digits", f"data={small_digits}", *TINY, "--out", out, "--threads", "1")
    assert made.strip().endswith("step-00000006")
    return out


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_training_leaves_its_traces(run):
    assert (run / "train.log").read_text().count('"step"') == 1
    assert list((run / "tensorboard").glob("events*"))
    facts = json.loads((run / "train.json").read_text())["train"]
    assert facts["steps"] == 6
    assert facts["tokens"] > 500
    assert facts["flops"] > 0


@pytest.mark.parametrize("to", ["text", "image", "audio", "auto"])
def test_generate(run, small_digits, tmp_path, to):
    picture = min((small_digits / "media/test").glob("*.png"))
    sound = min((small_digits / "media/test").glob("*.flac"))
    said = invoke(
        "generate", run, "--text", "Draw seven.", "--image", picture, "--audio", sound, "--to", to,
        "steps=2", "--out", tmp_path, "seed=3",
    ).strip()  # fmt: skip
    if to == "image":
        with Image.open(said) as made:
            assert min(made.size) >= 14
    if to == "audio":
        assert said.endswith("answer-0.wav")


def test_generate_in_python(run):
    model = plait.load(run)
    reply = model.generate(["Draw seven."], to="image", steps=2, options={"image": {"size": (28, 28)}})
    assert reply.parts[0].value.size == (28, 28)
    again = model.generate(["Draw seven."], to="image", steps=2, options={"image": {"size": (28, 28)}})
    assert np.array_equal(np.asarray(reply.parts[0].value), np.asarray(again.parts[0].value)), "same seed, same picture"
    other = model.generate(["Draw seven."], to="image", steps=2, seed=1, options={"image": {"size": (28, 28)}})
    assert not np.array_equal(np.asarray(reply.parts[0].value), np.asarray(other.parts[0].value))
    bare = model.generate("Draw seven.", to="image", steps=2, options={"image": {"size": (28, 28)}})
    assert np.array_equal(np.asarray(bare.parts[0].value), np.asarray(reply.parts[0].value)), "not a list of letters"
    with pytest.raises(ConfigError, match="expected str"):
        model.generate([3])


def test_generate_asks_for_input(run):
    with pytest.raises(ConfigError, match="--text"):
        invoke("generate", run)


def test_inputs_keep_their_order():
    line = ["x", "--image", "a.png", "seed=3", "--text=b", "--audio", "c.wav", "--text", "d", "image.size=28x14"]
    asked = parse_arguments(line, registry.available())
    assert asked.inputs == [("image", "a.png"), ("text", "b"), ("audio", "c.wav"), ("text", "d")]
    assert str(asked.checkpoint) == "x"
    assert request_options(asked.settings, registry.available()) == {"seed": 3, "options": {"image": {"size": "28x14"}}}
    assert request_options({"choices": "yes, no"}, registry.available()) == {"choices": ("yes", "no")}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["x", "--smell", "rose"], "got --smell"),
        (["x", "--text"], "without a value"),
        (["x", "y", "--text", "b"], "'y' after the checkpoint"),
    ],
)
def test_bad_command_lines(line, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_arguments(line, registry.available())


@pytest.mark.parametrize("key", ["colour", "image.", "smell.size", "Seed"])
def test_unknown_settings_of_a_request(key):
    with pytest.raises(ConfigError, match="got the setting"):
        request_options({key: "1"}, registry.available())


@pytest.mark.parametrize("size", ["28", "28x", "0x5", "axb", 28, [28], ["a", "b"]])
def test_bad_sizes(size):
    with pytest.raises(ConfigError, match=r"WIDTHxHEIGHT|got size"):
        registry.build("image").expects(("<open:image>",), {"size": size})


NOTHING = Message("assistant", ())
KEYS = {
    "cell": str, "task": str, "split": str, "metric": str, "higher_is_better": bool, "value": float, "ci95": list,
    "n": int, "baseline": float, "judge": str, "judge_ceiling": float, "blank_input": float, "target": float,
    "seconds": float, "by": dict,
}  # fmt: skip
MAY_BE_NULL = {"baseline", "judge", "judge_ceiling", "blank_input", "target"}


def test_eval_writes_the_report(run, small_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(image_judge, "EPOCHS", 1)
    monkeypatch.setattr(audio_judge, "EPOCHS", 1)
    invoke(
        "eval",
        run,
        "--json",
        tmp_path / "report.json",
        "--html",
        tmp_path / "report.html",
        "--seed",
        "5",
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == 1
    assert {"checkpoint", "commit", "seed", "machine", "train", "cells"} <= set(report)
    assert set(report["train"]) == {"seconds", "steps", "tokens", "parameters", "flops", "peak_rss_mb"}
    for cell in report["cells"]:
        assert set(cell) == set(KEYS)
        for key, kind in KEYS.items():
            assert (cell[key] is None and key in MAY_BE_NULL) or isinstance(cell[key], kind), (key, cell[key])
        assert 0 <= cell["ci95"][0] <= cell["value"] <= cell["ci95"][1] <= 1
    grid = {f"{a}->{b}" for a in ("text", "image", "audio") for b in ("text", "image", "audio")}
    assert grid <= {cell["cell"] for cell in report["cells"]}, "a cell without a number does not exist"
    (card,) = run.glob("checkpoints/*/README.md")
    assert "espeak-ng" in card.read_text()
    assert "| image->text | read |" in card.read_text()
    assert "| step | pairs |" in card.read_text()
    assert "learned by heart" not in card.read_text(), "the split of questions seen in training is another thing"
    assert "learning by heart" not in (tmp_path / "report.html").read_text()
    assert (report["seed"], report["sampling_seed"]) == (0, 5)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<audio") > 10
    # Not "http" alone: base64 spells that by chance now and then.
    assert "://" not in page.replace("http://www.w3.org", ""), "the report loads nothing from elsewhere"
    worse = json.loads((tmp_path / "report.json").read_text())
    best = max(worse["cells"], key=lambda cell: cell["value"])
    best["value"] -= 0.5
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    assert "0 of" in invoke("eval", tmp_path / "report.json", tmp_path / "report.json")
    invoke("eval", tmp_path / "worse.json", tmp_path / "report.json")
    assert "REGRESSED\n" in invoke("eval", tmp_path / "report.json", tmp_path / "worse.json", code=1)


def test_eval_says_what_it_could_not_check(run, small_digits, tmp_path):
    folder = checkpoint.locate(run)
    here, nowhere = (api.settings("digits", f"data={place}") for place in (small_digits, tmp_path))
    assert measuring.check_rows(folder, here, frozenset()) == []
    assert "no train.jsonl" in measuring.check_rows(folder, nowhere, frozenset())[0]
    lean = tmp_path / "lean"
    model, config = checkpoint.load(folder)
    checkpoint.save(lean, model, model.state_dict(), config["recipe"])
    assert "does not say" in measuring.check_rows(lean, here, frozenset())[0]


def test_eval_refuses_the_rows_of_another_build(run, small_digits, tmp_path):
    other = tmp_path / "data"
    other.mkdir()
    (other / "train.jsonl").write_text((small_digits / "train.jsonl").read_text() + "\n")
    with pytest.raises(DataError, match="may have seen"):
        invoke("eval", run, "--data", other)


def test_the_demo_builds_the_data_it_trains_on(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(api, "build", lambda name, folder, say: built.append((name, str(folder))))
    monkeypatch.setattr(
        shipped, "SHIPPED", tmp_path / "nothing is shipped"
    )  # or the demo would fetch what it stands on
    with pytest.raises(DataError, match=r"holds no training rows.*plait data build digits --folder"):
        invoke("demo", f"data={tmp_path / 'mine'}", "--out", tmp_path / "run")
    assert built == [("digits", str(tmp_path / "mine"))]


def test_the_demo_first_talks_with_what_is_shipped(run, tmp_path, monkeypatch):
    small = tmp_path / "shipped" / "small"
    checkpoint.lean(checkpoint.locate(run), small, "int8")
    (small / shipped.CONVERSATION).write_text("/draw seven\nwhat is 1 plus 1?\n")
    broken = tmp_path / "shipped" / "broken"
    shutil.copytree(small, broken)
    (broken / "model-00001.safetensors").write_bytes(b"")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(api, "build", lambda name, folder, say: None)
    lines = CliRunner().invoke(app, ["demo", f"data={tmp_path / 'none'}", "--out", str(tmp_path / "run")]).output
    assert lines.index("! ") < lines.index("small, as it is shipped") < lines.index("> /draw seven")
    assert (tmp_path / "run" / "shipped" / "small" / "answer-0.png").is_file()


def test_generate_samples_as_the_recipe_does(run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Engine, "generate", lambda self, requests, **options: asked.extend(requests) or [Answer(NOTHING, [])]
    )
    model = plait.load(run)
    model.generate(["Draw seven."])
    model.generate(["Draw seven."], guidance=1.5)
    invoke("generate", run, "--text", "Draw seven.")
    invoke("generate", run, "--text", "Draw seven.", "--steps", "7", "--temperature", "0")
    settings = [(one.steps, one.guidance, one.temperature) for one in asked]
    assert settings == [(2, 2.5, 0.3), (2, 1.5, 0.3), (2, 2.5, 0.3), (7, 2.5, 0.0)]


def test_earlier_answers_are_kept(tmp_path):
    picture = Part("image", Image.new("L", (4, 4)))
    names = [write_part(picture, tmp_path, 0) for _ in range(2)]
    assert [Path(name).name for name in names] == ["answer-0.png", "answer-1.png"]


def test_out_must_be_a_folder(run, tmp_path):
    (tmp_path / "file").write_text("keep")
    with pytest.raises(ConfigError, match="expected a folder"):
        invoke("generate", run, "--text", "Draw seven.", "--out", tmp_path / "file")


def test_a_modality_without_a_rendering_is_its_plain_value(tmp_path):
    assert write_part(Part("smell", 1), tmp_path, 0) == "1"
    assert not list(tmp_path.iterdir())


def test_data_show_and_build(small_digits):
    said = invoke("data", "show", "digits", "--folder", small_digits, "--count", "1")
    assert "synthetic speech" in said
    assert "change-voice" in said
    before = (small_digits / "manifest.json").read_bytes()
    invoke("data", "build", "digits", "--folder", small_digits)
    assert (small_digits / "manifest.json").read_bytes() == before, "what is complete is kept"


def test_a_card_says_which_sources_are_share_alike(tmp_path):
    source = {"what": "stamps", "from": "here", "licence": "GPL-2.0-or-later", "attribution": "Bill"}
    free = {"what": "clothes", "from": "there", "licence": "MIT", "attribution": ""}
    report = {
        "train": {"parameters": 1, "steps": 2, "tokens": 3, "seconds": 4}, "commit": "abc", "notes": [], "cells": [],
        "data": {"sources": [{**source, "share_alike": True}, {**free, "share_alike": False}]},
    }  # fmt: skip
    lines = card.write(tmp_path, report, "dictionary").read_text().splitlines()
    assert f"- stamps: here (GPL-2.0-or-later): Bill {card.SHARE_ALIKE}" in lines
    assert "- clothes: there (MIT)" in lines


def test_doctor_finds_what_is_here():
    said = invoke("doctor")
    assert "torch" in said
    assert "cores" in said


def test_intervals():
    low, high = statistics.wilson(50, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-3)  # textbook values
    assert statistics.wilson(0, 10)[0] == 0
    scores, genuine = np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, True, False, False])
    assert statistics.equal_error_rate(scores, genuine) == 0
    assert statistics.equal_error_rate(scores, ~genuine) == 1
    sample = np.random.default_rng(1).normal(size=400)
    low, high = statistics.bootstrap(lambda rows: float(sample[rows].mean()), len(sample), draws=4000)
    spread = 1.96 * sample.std() / 20  # of a mean of 400; a 90 % interval would be 0.16 narrower on each side
    assert (low, high) == pytest.approx((sample.mean() - spread, sample.mean() + spread), abs=0.1 * spread)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 4))
    assert statistics.coverage(real + 0.001, real) == 1
    assert statistics.coverage(real[:1] + 100, real) == 0
    assert statistics.nearest_distance(real[:50], real) == 0


def test_the_verb_train_can_be_called_whatever_was_imported_before():
    """`plait.train` is a package too, which every other verb imports."""
    assert plait.load
    with pytest.raises(ConfigError, match="unknown recipe 'nothing'"):
        plait.train("nothing", out="nowhere")
    assert plait.train.__doc__


def test_what_is_generated_is_marked_and_verified(tmp_path):
    picture = Part("image", Image.fromarray(np.full((32, 32, 3), (200, 40, 90), np.uint8)))
    marked, plain = Path(write_part(picture, tmp_path, 0)), Path(write_part(picture, tmp_path, 1, mark=False))
    said = invoke("verify", marked)
    assert "says that a model made it (Plait); has the mark" in said
    strange = Part("image", picture.value, {PROVENANCE: "\x1b]0;title\x07Mallory"})
    assert "(?]0;title?Mallory)" in invoke("verify", write_part(strange, tmp_path, 5, mark=False))
    facts = json.loads(invoke("verify", "--json", marked))
    assert facts["marked"]
    assert facts["declared"] == "Plait"
    lines = invoke("verify", marked, plain, tmp_path / "none.png", tmp_path / "a.txt", code=1).splitlines()
    assert "says nothing of where it came from; no mark found" in lines[1]
    assert lines[2].startswith(f"{tmp_path / 'none.png'}: ! ")
    assert "no picture or sound by its name" in lines[3]


def test_explain_says_what_an_answer_hangs_on(run, small_digits, tmp_path):
    picture = min((small_digits / "media/test").glob("*.png"))
    html, numbers = tmp_path / "why.html", tmp_path / "why.json"
    told = invoke(
        "explain", run, "--image", picture, "--text", "Read the digit.", "--answer", "seven", "--method", "masking", "--method", "relevance",
        "--html", html, "--json", numbers,
    )  # fmt: skip
    assert "masking:" in told
    assert "relevance:" in told
    assert "'digit'" in told
    found = json.loads(numbers.read_text())
    assert [one["method"] for one in found] == ["masking", "relevance"]
    assert found[0]["messages"][-1]["parts"] == [{"type": "text", "text": "seven"}]
    assert "heat" in html.read_text()


@pytest.mark.parametrize("to", ["image", "audio"])
def test_explain_answers_first_where_no_answer_is_given(run, tmp_path, to):
    told = invoke("explain", run, "--text", "Draw seven.", "--to", to, "--of", "token:0", "--out", tmp_path, "seed=3")
    assert list(tmp_path.glob("answer-0.*"))
    assert "%" in told or "nothing to explain" in told


@pytest.mark.parametrize("to", ["text", "image", "audio"])
def test_explain_reads_the_layers(run, tmp_path, to):
    html, numbers = tmp_path / "layers.html", tmp_path / "layers.json"
    files = ("--html", html, "--json", numbers, "--out", tmp_path)
    lines = invoke("explain", run, "--text", "Draw seven.", "--to", to, "--of", "layers", *files, "seed=3")
    assert "by the number of layers" in lines
    lens = json.loads(numbers.read_text())
    assert lens["layers"] == 2
    assert lens["head"] == ("categorical" if to == "text" else "flow")
    assert html.read_text().count("<table>") == (1 if to == "text" else 3)
    found = plait.load(run).lens("Draw seven.", answer=Message("assistant", (Part("text", "yes"),)))
    assert found.tokens[0].reading.probability


def test_patch_says_where_an_answer_is(run, tmp_path):
    html, numbers = tmp_path / "where.html", tmp_path / "where.json"
    asked = ("patch", run, "--text", "Draw seven.", "--to", "text", "--html", html, "--json", numbers)
    lines = invoke(*asked, "--counterfactual", "Draw seven!", "--answer", "seven")
    patching = json.loads(numbers.read_text())
    assert f"Score of the answer: {patching['score']:.3f}" in lines
    assert patching["labels"][-2:] == ["all of these", "all others"]
    with pytest.raises(ConfigError, match="empty counterfactual"):
        invoke("patch", run, "--text", "Draw seven.", "--counterfactual", "")
    with pytest.raises(ConfigError, match="plait patch RUN"):
        invoke("patch", run, "--counterfactual", "five")
    assert "Where the answer is" in html.read_text()
    with pytest.raises(ConfigError, match="of that kind"):
        invoke("patch", run, "--text", "Draw", "--text", "seven.", "--counterfactual", "five")


def test_probe_tells_a_label_by_the_layers(run, small_digits, tmp_path):
    rows, numbers = small_digits / "read.test.jsonl", tmp_path / "probe.json"
    lines = invoke("probe", run, rows, "--label", "expect.digit", "--of", "image", "--json", numbers)
    assert "expect.digit from image" in lines
    probing = json.loads(numbers.read_text())
    assert probing["trained"] + probing["held_out"] == 24
    assert len(probing["layers"]) == 3
    assert plait.load(run).probe(rows, "expect.digit", kind="image").layers
    with pytest.raises(ConfigError, match=r"no meta\.digit"):
        invoke("probe", run, rows, "--label", "digit")


def test_explain_in_python(run):
    found = plait.load(run).explain(
        "Draw seven.", answer=Message("assistant", (Part("text", "yes"),)), method="gradient"
    )
    assert len(found.maps[0].values) == len(found.units)


def test_an_archive_is_explained_too(run, tmp_path):
    packed = api.export(run, tmp_path / "mine.plait")
    told = invoke("explain", packed, "--text", "Draw seven.", "--answer", "yes", "--method", "relevance")
    assert "faithfulness" in told or "chance" in told or "nothing to explain" in told


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--text", "what?", "--method", "magic"], "'magic'; expected one of shapley"),
        (["--text", "what?", "--of", "word"], "of='word'"),
        (
            ["--text", "what?", "--answer", "yes", "--of", "layers", "--method", "masking"],
            "masking of layers; expected none",
        ),
        (["--text", "what?", "--answer", "yes", "--html", "/proc/no/why.html"], "cannot be written"),
        (["--text", "what?", "--answer", ""], "empty"),
        (["--text", "what?", "--answer", "yes", "seed=3"], "seed with --answer; expected one of them"),
        (["--text", "what?", "--answer", "yes", "--to", "audio"], "--to audio with an --answer of text"),
        (["--text", "what?", "--answer", "yes", "foo=1"], "setting 'foo'"),
        (["--text", "what?", "--method", "foo", "--method", "all"], "'foo'; expected one of shapley"),
        ([], "no input"),
        (["--text", "what?", "--answer", "gone.png"], "--answer gone.png; expected words, or a file that is there"),
    ],
)
def test_what_explain_cannot_do_is_said(run, arguments, what):
    with pytest.raises(PlaitError, match=what):
        invoke("explain", run, *arguments)
