"""The evaluation of a checkpoint: asking, scoring, and what a report says of where its code is from."""

import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_suite import SAMPLING, WORLD, drawn, evaluation, picture, task
from worlds import text

from plait.contract import Message, Part, Sample
from plait.errors import MissingError
from plait.eval import runner, statistics
from plait.eval.suites import Cycle, Outcome
from plait.infer.engine import Engine


def mean_distance(answers, references):
    cells = evaluation(task("text->image")).distances(drawn(answers, references))
    (cell,) = [cell for cell in cells if cell["metric"] == "mse"]
    assert cell["n"] == len(references), "rows without an answer went missing"
    return cell["value"]


@pytest.mark.parametrize(
    ("level", "error"),
    [(200, 20), (10, 200)],  # attempts better, and attempts worse than a black picture
    ids=["good attempts", "bad attempts"],
)
def test_a_model_that_is_silent_in_half_of_the_rows_does_not_beat_one_that_answers_all(level, error):
    rng = np.random.default_rng(0)
    references = [picture(rng.integers(0, 40, (8, 8)) + level) for _ in range(20)]
    answers = [picture(np.asarray(part.value, int) + (error if level < 100 else -error)) for part in references]
    half = [answer if number % 2 else None for number, answer in enumerate(answers)]
    everything = mean_distance(answers, references)
    assert everything == pytest.approx((error / 255) ** 2)
    assert mean_distance(half, references) >= everything - 1e-12
    assert mean_distance([None] * 20, references) > 0, "a model that never answers has a distance, too"


def git(folder, *arguments):
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_repository_that_only_encloses_the_package_is_not_its_commit(tmp_path, monkeypatch):
    """An environment within somebody's repository, which does not track what is installed in it."""
    package = tmp_path / "site-packages/plait/eval"
    package.mkdir(parents=True)
    (package / "runner.py").write_text("")
    (tmp_path / "theirs.txt").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "theirs.txt")
    git(tmp_path, "commit", "--quiet", "-m", "theirs")
    monkeypatch.setattr(runner, "__file__", str(package / "runner.py"))
    assert runner.commit().startswith("version ")
    git(tmp_path, "add", "-f", "site-packages")
    git(tmp_path, "commit", "--quiet", "-m", "ours")
    assert runner.commit() == git(tmp_path, "rev-parse", "--short", "HEAD")


def test_without_git_the_version_is_reported(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runner.commit().startswith("version ")


def asked(question, answer, **expect):
    return Sample((Message("user", tuple(question)), Message("assistant", (answer,))), "task", {"expect": expect})


def measured(of_task, rows, answers, split="test", **options):
    """An evaluation without a model, and the outcome of these answers to these rows."""
    made_up = evaluation(of_task, rows={(of_task.name, split): rows}, **options)
    remaining = iter(answers)
    made_up.ask = lambda questions, to, what="", say=(): [next(remaining, None) for _ in questions]
    return made_up, made_up.run_task(of_task, split)


# cells


def test_a_cell_of_words_is_an_exact_match_with_a_baseline():
    rows = [asked([text(f"{n}?")], text("yes" if n % 4 else "no"), exact="yes" if n % 4 else "no") for n in range(8)]
    made_up, outcome = measured(task("text->text"), rows, [text("yes")] * 8)
    (match,) = [entry for entry in made_up.cells(outcome) if entry["metric"] == "exact match"]
    assert (match["value"], match["baseline"], match["n"]) == (0.75, 0.75, 8)
    assert match["ci95"] == list(statistics.wilson(6, 8))
    assert match["judge"] is match["judge_ceiling"] is match["target"] is None


def test_every_part_of_an_answer_is_a_cell():
    rows = [asked([text(f"{n}?")], text("zero, jackson"), word="zero", speaker="jackson") for n in range(4)]
    answers = [text("zero, jackson"), text("zero, theo"), text("zero"), None]
    made_up, outcome = measured(task("text->text"), rows, answers)
    values = {entry["metric"]: entry["value"] for entry in made_up.cells(outcome)}
    assert (values["word: exact match"], values["speaker: exact match"]) == (0.75, 0.25)


@pytest.mark.parametrize(("split", "target"), [("test", 0.8), ("phrasing", None)])
def test_a_target_is_that_of_the_test_split(split, target):
    of_task = replace(task("text->text"), targets={"exact": 0.8})
    rows = [asked([text("?")], text("a"), exact="a")]
    made_up, outcome = measured(of_task, rows, [text("a")], split)
    assert made_up.cells(outcome)[0]["target"] == target


@pytest.mark.parametrize(("of_split", "target"), [("test", None), ("style", 0.45)])
def test_a_suite_aims_at_the_metric_of_a_split(of_split, target):
    rows = [asked([text("?")], text("a"), exact="a")]
    made_up, outcome = measured(task("text->text"), rows, [text("a")], "style")
    made_up.suite = replace(made_up.suite, targets={(outcome.task.name, of_split, "exact *"): 0.45})
    cells = made_up.cells(outcome)
    assert cells[0]["target"] == target
    assert made_up.suite.without_a_cell(cells) == ([] if target else [(outcome.task.name, of_split, "exact *")])


def test_a_target_that_nothing_was_measured_for_is_noted():
    made_up, _ = measured(task("text->text"), [asked([text("?")], text("a"), exact="a")], [text("a")] * 9)
    made_up.suite = replace(made_up.suite, targets={("no task", "test", "exact match"): 0.5})
    report = runner.run(made_up, lambda line: None)
    assert "nothing was measured for the target of no task, test, exact match" in report["notes"]


def test_a_relative_target_without_a_judge_is_a_plain_share():
    """The judge of the input may be missing: no labelled media are held out."""
    of_task = replace(task("image->text"), targets={"digit": 0.9}, relative=True)
    rows = [asked([WORLD.part("image", n)], text("one"), digit="one") for n in range(3)]
    made_up, outcome = measured(of_task, rows, [text("one")] * 3)
    cell = made_up.cells(outcome)[0]
    assert (cell["target"], cell["judge_ceiling"]) == (0.9, None)


def test_a_score_that_lacks_a_package_is_left_out_and_noted_once(monkeypatch):
    def missing(name):
        def raises(outcome, bench):
            raise MissingError(f"{name} needs something")

        return raises

    monkeypatch.setattr(runner, "score", missing)
    of_task = replace(task("text->text"), scores=("chrf",))
    made_up, outcome = measured(of_task, [asked([text("?")], text("a"), exact="a")], [text("a")])
    for _ in range(2):
        assert made_up.scores(outcome) == []
    assert made_up.notes == ["score 'chrf' is left out: chrf needs something"]


def test_limits_bound_the_rows():
    rows = [asked([text(f"{n}?")], text("a"), exact="a") for n in range(30)]
    _, outcome = measured(task("text->text"), rows, [], limit=20)
    assert len(outcome.answers) == 20
    assert measured(task("text->text"), [], [])[1] is None, "no rows, no outcome"


# blanked and swapped questions


def test_questions_are_asked_again_blank_and_about_other_media():
    rows = [asked([WORLD.part("image", n), text("what?")], text(str(n)), exact=str(n)) for n in range(3)]
    questions = []
    made_up = evaluation(task("image->text"), rows={("task", "test"): rows})
    made_up.ask = lambda asked_now, to, what="", say=(): questions.append(asked_now) or [None] * len(asked_now)
    outcome = made_up.run_task(task("image->text"), "test")
    assert len(outcome.blank_answers) == len(outcome.swapped_answers) == 3
    plain, blank, swapped = questions
    assert [message[0].parts[1].value for message in (plain[0], blank[0], swapped[0])] == ["what?"] * 3
    assert not np.asarray(blank[0][0].parts[0].value).any()
    assert swapped[0][0].parts[0] is rows[1].messages[0].parts[0]


# cycles


def cycles(answers, readings, further=()):
    write, read = task("text->image", "draw"), task("image->text", "look")
    rows = [asked([text(f"draw {n}")], WORLD.part("image", n), shade="dim", side="left") for n in range(4)]
    made_up, _ = measured(write, rows, answers)
    made_up.suite = replace(made_up.suite, tasks=(write, read))
    made_up.ask = lambda questions, to, what="", say=(): [text(readings[n]) for n, _ in enumerate(questions)]
    return made_up.cycle(Cycle("text->image->text", "draw", "look", "shade", further))


def test_a_cycle_agrees_where_all_parts_are_read_back():
    pictures = [WORLD.part("image", n) for n in range(4)]
    agreed = cycles(pictures, ["dim, left", "dim, right", "dim", "left, dim"], ("side",))
    assert (agreed["value"], agreed["n"], agreed["metric"]) == (0.25, 4, "cycle agreement")
    assert (agreed["cell"], agreed["task"]) == ("text->image->text", "draw then look")
    single = cycles(pictures, ["dim", " dim ", "left", ""])
    assert single["value"] == 0.5


def test_a_cycle_needs_something_written():
    pictures = [WORLD.part("image", 0), None, None, None]
    assert cycles(pictures, ["dim"])["n"] == 1
    assert cycles([None] * 4, []) is None


# speaker verification


def test_the_judge_s_belief_in_speech_has_an_equal_error_rate():
    class Believes:
        classes = {"speaker": ["ann", "bob"]}  # noqa: RUF012

        def judge(self, parts):
            return None, {"speaker": np.array([[0.9, 0.1] if part.value == "ann" else [0.2, 0.8] for part in parts])}

    spoken = [Part("audio", "ann"), Part("audio", "bob"), None, Part("audio", "ann")]
    rows = [asked([text("say")], Part("audio", "x.wav"), speaker=who) for who in ("ann", "bob", "bob", "ann")]
    made_up = evaluation(task("text->audio"))
    made_up.outcomes = [Outcome(task("text->audio"), "test", rows, spoken, 1.0)]
    made_up.panel.judges["audio"] = Believes()
    (check,) = made_up.equal_error_rates()
    assert (check["value"], check["n"], check["trials"]) == (0.0, 3, 6)
    assert check["ci95"] == [0.0, 1.0], "three trials without an error prove little"
    made_up.outcomes = [Outcome(task("text->audio"), "test", rows, [None] * 4, 1.0)]
    assert made_up.equal_error_rates() == [], "of a model that never speaks there is nothing to verify"
    made_up.panel.judges.clear()
    assert made_up.equal_error_rates() == []


# files


def test_a_report_is_written_into_a_new_folder(tmp_path):
    runner.write_json(tmp_path / "deep" / "report.json", {"name": "四"})
    assert (tmp_path / "deep/report.json").read_text(encoding="utf-8") == '{\n "name": "四"\n}'


def test_what_a_model_has_not_learned_to_write_is_not_asked():
    """Nor is a judge of it trained; the report says which tasks those are."""
    model = WORLD.model()
    model.unlearned = {"flows.image"}
    engine, tasks = Engine(model), (task("text->image", "draw"), task("image->text", "name"))
    judges = {"image": lambda *_: pytest.fail("a judge was trained")}
    suite = replace(evaluation(*tasks).suite, judges=judges)
    asked = runner.Evaluation(engine, suite, SAMPLING, say=str)
    assert [left.name for left in asked.suite.tasks] == ["name"]
    assert not asked.suite.judges
    assert asked.notes == ["the model has not learned to write image: not asked were draw"]
    asked.panel.prepare()
    model.unlearned = set()
    assert runner.Evaluation(engine, suite, SAMPLING, say=str).suite is suite


def test_a_voice_is_told_the_texts_that_questions_quote(monkeypatch):
    noted = []
    model = SimpleNamespace(engine=SimpleNamespace(model=None), _note_once=noted.append)
    metas = [
        {"phrasing": "Say {text}", "text": "7 seas"},
        {"phrasing": "What is this?", "text": "hat"},
        {"phrasing": "Say {text}"},
        {},
    ]
    rows = [Sample((Message("user", (text("Say 7 seas, a hat"),)),), "say", meta) for meta in metas]
    monkeypatch.setattr(runner, "says_letters", lambda network, kind: kind == "audio")
    monkeypatch.setattr(runner, "in_words", lambda said: said.replace("7", "seven"))
    assert runner.Evaluation._quoted_texts(model, rows, "audio") == ["seven seas", None, None, None]
    assert len(noted) == 1
    assert runner.Evaluation._quoted_texts(model, rows, "text") == [None] * 4
    requests = []
    model = SimpleNamespace(
        progress=runner.NoProgress(), seed=0, sampling={}, _first_part=lambda answer, to, what: None, engine=None,
    )  # fmt: skip
    monkeypatch.setattr(runner, "all_answered", lambda engine, asked: requests.extend(asked) or asked)
    runner.Evaluation.ask(model, [row.messages for row in rows[:2]], "audio", "say", ["seven seas", None])
    assert [request.options for request in requests] == [{"audio": {"say": "seven seas"}}, {}]
