"""What models guess, from likelihoods and from what they write; and the commands around it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from worlds import World

from plait.annotate import guessing, items
from plait.annotate.guessing import Weighing, Writing
from plait.annotate.kinds import Question
from plait.annotate.store import ANSWER, Item
from plait.api import annotating
from plait.api.model import Model
from plait.cli import app as cli
from plait.contract import Message, Part
from plait.errors import ConfigError
from plait.infer.events import Answer, TokenChoice
from plait.infer.likelihood import pair_log_likelihoods

LABELS = Question("label", "Which?", ("yes", "zwei", "四"))


@pytest.fixture(scope="module")
def model():
    return Model(World().model(), {"recipe": {"pack": {"length": 512}, "sampling": {"steps": 2}}}, 8)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        Image.fromarray(np.full((8, 8), 80 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def answered(text, *probabilities):
    tokens = tuple(TokenChoice("", float(np.log(share)), ()) for share in probabilities)
    return Answer(Message("assistant", (Part("text", text),)), [], logprobs=tokens)


def test_labels_are_weighed(model, folder):
    project = annotating.open_project(folder, LABELS, ["gold_every=0"], lambda line: None)
    predictions = list(annotating.guesses(model, "tiny", project, folder))
    assert [each.item for each in predictions] == list(project.items)
    modalities = model.network.vocabulary.modalities
    for prediction in predictions:
        sample = items.sample_of(project.items[prediction.item], folder, modalities)
        asked = (Message("user", (*sample.messages[0].parts, Part("text", "Which?"))),)
        logs = pair_log_likelihoods(model.engine, [(asked, Part("text", label)) for label in LABELS.options])
        shares = np.exp(logs) / np.exp(logs).sum()
        assert prediction.value == LABELS.options[int(logs.argmax())]
        assert prediction.uncertainty == pytest.approx(1 - shares.max(), abs=1e-5)
    project.add_predictions(predictions)
    assert not list(annotating.guesses(model, "tiny", project, folder)), "nothing is guessed twice"
    doubts = sorted((each.uncertainty for each in predictions), reverse=True)
    assert project.uncertainty(project.next("ann").id) == pytest.approx(doubts[0])
    project.store.close()


def test_models_guess_until_nobody_wants_it(model, folder):
    project = annotating.open_project(folder, LABELS, ["gold_every=0"], lambda line: None)
    said = []
    annotating.ask_models({"a": model, "b": model}, project, folder, lambda: True, said.append)
    assert said == ["a has guessed 3 items", "b has guessed 3 items"]
    assert all(set(by_model) == {"a", "b"} for by_model in project.predictions.values())
    first = next(iter(project.items))
    project.say(ANSWER, first, "ann", "yes", "1")
    annotating.ask_models({"c": model}, project, folder, lambda: True, said.append)
    assert "c" not in project.predictions[first], "what people have answered is not asked"
    annotating.ask_models({"d": model}, project, folder, lambda: False, said.append)
    assert said[-1] == "d has guessed 0 items"
    project.store.close()


def test_what_a_model_cannot_read_is_named(model, folder):
    project = annotating.open_project(folder, LABELS, ["gold_every=0"], lambda line: None)
    first = next(iter(project.items.values()))
    path = folder / first.row["messages"][0]["content"][0]["image"]
    path.write_bytes(b"no picture")
    said = []
    annotating.ask_models({"a": model}, project, folder, lambda: True, said.append)
    assert said[-1] == "a has guessed 2 items"
    assert said[0].startswith("a passed over 1 items: ")
    assert path.name in said[0]
    project.store.close()


def test_choices_and_ratings_are_weighed():
    question = (Message("user", (Part("text", "Q"),)),)
    row = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
    modalities = World().modalities
    sample = items.sample_of(Item("i", row), Path.cwd(), modalities)
    weighing = guessing.asking(sample, Question("choose", ""))
    assert isinstance(weighing, Weighing)
    assert [(messages, part.value) for messages, part in weighing.pairs] == [(question, "good"), (question, "bad")]
    assert weighing.settled(np.log([0.25, 0.75])) == ("second", pytest.approx(0.25))
    row = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    sample = items.sample_of(Item("i", row), Path.cwd(), modalities)
    rating = guessing.asking(sample, Question("rate", "How good?", ("bad", "good")))
    assert [part.value for part in rating.pairs[0][0][0].parts] == [
        "Q",
        "A",
        "How good? Answer with a number. 1: bad, 2: good.",
    ]
    assert rating.values == [1, 2]


def test_what_is_written_has_the_doubt_of_its_tokens():
    question = Question("transcribe", "")
    writing = Writing(question, [(Message("user", (Part("text", "Q"),)),)])
    (request,) = writing.requests({"steps": 3, "temperature": 0.7})
    assert (request.temperature, request.logprobs, request.steps) == (0.0, 0, 3)
    value, doubt = writing.settled([answered(" hello ", 0.5, 0.125)])
    assert value == "hello"
    assert doubt == pytest.approx(1 - 0.25)
    with pytest.raises(ConfigError, match="not empty"):
        writing.settled([answered(" ")])


def test_boxes_are_asked_for_label_by_label(folder):
    question = Question("box", "", ("cat", "dog"))
    row = {"messages": [{"role": "user", "content": [{"type": "image", "image": "0.png"}]}]}
    sample = items.sample_of(Item("i", row), folder, World().modalities)
    writing = guessing.asking(sample, question)
    assert [messages[-1].parts[-1].value for messages in writing.conversations] == [
        "Find every cat.",
        "Find every dog.",
    ]
    value, _ = writing.settled([answered("[100, 0, 200, 50]"), answered("dog [0, 0, 10, 10]; nonsense")])
    assert value == [{"label": "dog", "box": [0, 0, 10, 10]}, {"label": "cat", "box": [100, 0, 200, 50]}]


def test_the_commands(folder, tmp_path):
    runner = CliRunner()
    project = annotating.open_project(folder, LABELS, ["overlap=2", "gold_every=0"], lambda line: None)
    for number, id in enumerate(project.items):
        for person in ("ann", "ben"):
            project.say(ANSWER, id, person, LABELS.options[number], f"{person}{id}")
    project.store.close()
    status = runner.invoke(cli, ["annotations", "status", str(folder)])
    assert "3 of 3 items complete, 6 answers, 0 to be decided, 0 decided; alpha 1.00" in status.output
    told = json.loads(runner.invoke(cli, ["annotations", "status", str(folder), "--json"]).output)
    assert (told["complete"], told["alpha"]) == (3, 1.0)
    given = runner.invoke(cli, ["annotations", "give", str(folder), str(tmp_path / "t.json")])
    assert given.exit_code == 0, given.output
    assert len(json.loads((tmp_path / "t.json").read_text())) == 3
    taken = runner.invoke(cli, ["annotations", "take", str(folder), str(tmp_path / "t.json")])
    assert "6 answers are new" in taken.output, "by items, since tasks of ours have no ids yet"
    out = tmp_path / "rows"
    exported = runner.invoke(cli, ["annotations", "export", str(folder), "--to", str(out)])
    assert exported.exit_code == 0, exported.output
    assert sum(len(path.read_text().splitlines()) for path in out.glob("*.jsonl")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "a,b"], "expected --ask"),
        (["--ask", "label", "--options", "a,b", "--at", "8000"], "HOST:PORT"),
        (["--ask", "label", "--options", "a,b", "--at", "0.0.0.0:8000"], "--keys"),
        (["--ask", "label", "--options", "a"], "at least 2"),
        (["--ask", "label", "--options", "a,b", "overlap=many"], "overlap=int"),
        ([], "expected --ask"),
    ],
)
def test_commands_that_cannot_be(folder, arguments, message):
    result = CliRunner().invoke(cli, ["annotate", str(folder), *arguments])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
