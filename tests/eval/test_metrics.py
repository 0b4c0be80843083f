"""What answers in words, boxes, pictures and sound are measured by."""

import itertools
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import sacrebleu
from PIL import Image, ImageDraw
from worlds import World, text

from plait.contract import Message, Part, Sample
from plait.data.sources import Asset
from plait.errors import ConfigError, MissingError
from plait.eval.external import cascade_baseline
from plait.eval.metrics import OF_THE_MODEL, SCORES, Bench, choice, score
from plait.eval.metrics.bench import broken_down, entry
from plait.eval.metrics.boxes import Matching, average_precision
from plait.eval.metrics.choice import calibration_error
from plait.eval.runner import Evaluation
from plait.eval.suites import Outcome
from plait.infer.engine import Engine
from plait.infer.likelihood import log_likelihoods, token_log_probabilities
from plait.tasks import smol
from plait.tasks.boxes import boxes_as_text, boxes_in_text
from plait.tasks.dictionary import BY_NAME, TASKS, Group
from plait.tasks.dictionary.words import ABSTAINS

WORLD = World()


@dataclass
class FakeTask:
    cell: str = "text->text"
    name: str = "fake"
    answers_in: str = "text"
    scores: tuple = field(default=())
    gives: frozenset = frozenset({"text"})

    def blanked(self, sample, blank):
        return tuple(
            replace(m, parts=tuple(blank[p.type](p) if p.type in blank else p for p in m.parts))
            for m in sample.messages[:-1]
        )


def outcome(truth, answers, task=None, **facts):
    """Answers to rows; `facts` are lists, a value a row."""
    samples = [
        Sample(
            (
                Message("user", (text(f"question {number}"),)),
                Message("assistant", (t if isinstance(t, Part) else text(t),)),
            ),
            "fake",
            {"expect": {}, **{name: values[number] for name, values in facts.items()}},
        )
        for number, t in enumerate(truth)
    ]
    parts = [answer if isinstance(answer, Part) or answer is None else text(answer) for answer in answers]
    return Outcome(task or FakeTask(), "test", samples, parts, 1.0)


def cell_of(cells, metric):
    return next(cell for cell in cells if cell["metric"] == metric)


def test_every_score_that_a_task_names_is_there():
    assert {name for task in (*TASKS, *smol.TASKS) for name in task.scores} == set(SCORES)
    with pytest.raises(ConfigError, match="unknown score 'luck'; expected one of abstention"):
        score("luck")


def test_chrf_and_bleu_are_sacrebleus():
    truth = ["the cat sat on the mat today", "a red house by the sea", "nothing at all to see here", "ein Haus am Meer"]
    answers = ["the cat sat on a mat today", "a red horse by the sea", "", "ein Haus am See"]
    cells = score("chrf")(outcome(truth, answers), None)
    alone = [sacrebleu.sentence_chrf(s, [t]).score / 100 for s, t in zip(answers, truth, strict=True)]
    assert cell_of(cells, "chrF")["value"] == pytest.approx(np.mean(alone))
    assert cell_of(cells, "chrF")["baseline"] < 0.4
    (bleu,) = score("bleu")(outcome(truth, answers), None)
    assert bleu["value"] == pytest.approx(
        sacrebleu.metrics.BLEU(effective_order=True).corpus_score(answers, [truth]).score / 100
    )
    assert bleu["ci95"][0] <= bleu["value"] <= bleu["ci95"][1]
    assert cell_of(score("chrf")(outcome(truth, truth), None), "chrF")["value"] == 1.0


def test_word_errors_are_over_all_words_together():
    truth, answers = ["one two three four", "Five."], ["one two tree", "five"]
    (words,) = score("word errors")(outcome(truth, answers), None)
    assert words["value"] == pytest.approx(2 / 5)
    assert not words["higher_is_better"]
    (characters,) = score("character errors")(outcome(["abcd"], [None]), None)
    assert characters["value"] == 1.0


def test_bleu_takes_chinese_by_the_character():
    (apart,) = score("bleu")(outcome(["我喜欢红苹果"], ["我喜欢红苹果和梨"]), None)
    assert apart["value"] > 0.5


def test_the_number_that_an_answer_begins_with():
    answers = ["3: [1, 2, 3, 4]. Notice", "12. Notice", "none", "0. Notice"]
    cells = score("number")(outcome([""] * 4, answers, number=[3, 1, 0, 0], label=["a", "a", "b", "b"]), None)
    assert cell_of(cells, "number right")["value"] == 0.5
    assert cell_of(cells, "number right")["baseline"] == 0.75, "3 or 1 of a, 0 of b"


def test_abstention_counts_what_could_be_known_apart():
    answers = [ABSTAINS, "aspirin", ABSTAINS, "rest"]
    cells = score("abstention")(outcome(["x"] * 4, answers, known=[False, False, True, True]), None)
    assert cell_of(cells, "abstains, unknown: rate")["value"] == 0.5
    assert cell_of(cells, "abstains, known: rate")["value"] == 0.5
    assert [cell["higher_is_better"] for cell in cells] == [True, False]


def test_calibration_error():
    sure, right = np.array([0.95] * 10), np.array([1.0] * 5 + [0.0] * 5)
    assert calibration_error(sure, right) == pytest.approx(0.45)
    assert calibration_error(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == pytest.approx(0.0)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0.0


def test_the_right_answer_is_picked_among_wrong_ones_of_its_language(monkeypatch):
    engine = Engine(WORLD.model())
    names = [f"thing number {'x' * n}" for n in range(1, choice.OPTIONS + 1)]
    languages = ["en"] * choice.OPTIONS + ["de"] * 2
    rows = outcome([*names, "ein Ding", "noch ein Ding"], [*names, "", ""], language=languages)

    def likelihoods(_engine, pairs):
        """The right one first, and likeliest by the character; the long ones are likelier as a whole in no case."""
        right = [pair[1].value == names[number // choice.OPTIONS] for number, pair in enumerate(pairs)]
        return np.array([-len(p[1].value) * (0.5 if r else 1.0) for p, r in zip(pairs, right, strict=True)])

    monkeypatch.setattr(choice, "pair_log_likelihoods", likelihoods)
    (cell,) = score("picked")(rows, Bench(engine))
    assert cell["value"] == 1.0
    assert cell["n"] == choice.OPTIONS
    monkeypatch.setattr(choice, "pair_log_likelihoods", lambda engine, pairs: -likelihoods(engine, pairs))
    assert score("picked")(rows, Bench(engine))[0]["value"] == 0.0


def test_a_name_that_is_likely_whatever_is_shown_is_not_picked(monkeypatch):
    names = [f"thing {n}" for n in range(choice.OPTIONS)]
    rows = outcome(names, names, FakeTask(gives=frozenset({"text", "sign"})), language=["en"] * choice.OPTIONS)
    for row, sample in enumerate(rows.samples):
        sign = Part("sign", names[row])
        rows.samples[row] = replace(sample, messages=(Message("user", (sign,)), sample.messages[-1]))

    def likelihoods(_engine, pairs):
        """The first name is likely whatever is shown; what is shown adds a little."""
        return np.array(
            [5.0 * (answer.value == names[0]) + (asked[-1].parts[0].value == answer.value) for asked, answer in pairs]
        )

    monkeypatch.setattr(choice, "pair_log_likelihoods", likelihoods)
    likely, *none = score("picked")(rows, Bench(None))
    assert not none, "nothing to blank a sign with"
    blank = {"sign": lambda part: Part("sign", "")}
    again, informed = score("picked")(rows, Bench(None, blank=blank))
    assert again["value"] == likely["value"] < 0.5, "the first of the names wins where it is an option"
    assert informed["value"] == 1.0
    assert "made likelier by the input" in informed["metric"]


def test_an_answer_must_be_one_that_training_gave():
    engine = Engine(WORLD.model())
    known = [
        Sample((Message("user", (text("?"),)), Message("assistant", (text(word),)))) for word in ("yes", "yes", "no")
    ]
    rows = outcome(["yes", "no", "never said"], ["", "", ""])
    asked = []

    def generate(requests):
        asked.extend(requests)
        return [SimpleNamespace(message=Message("assistant", (text("yes"),))) for _ in requests]

    bench = Bench(SimpleNamespace(generate=generate), examples=lambda task: known)
    (cell,) = score("listed")(rows, bench)
    assert (cell["value"], cell["n"], cell["baseline"]) == (0.5, 2, 0.5), "what training never gave cannot be right"
    assert {request.choices for request in asked} == {("no", "yes")}
    assert score("listed")(rows, Bench(engine)) == []


def test_the_cascade_is_not_measured_by_what_the_model_finds_likely():
    engine = Engine(WORLD.model())
    task = FakeTask(scores=("chrf", "likelihood"))
    rows = outcome(["red", "blue"] * 10, ["red", "red"] * 10, task)
    bench = SimpleNamespace(bench=Bench(engine), notes=[])
    own = {cell["metric"] for cell in Evaluation.scores(bench, rows)}
    others = {cell["metric"] for cell in Evaluation.scores(bench, rows, OF_THE_MODEL)}
    assert own - others == {"likeliest label: accuracy", "calibration error"}
    assert others == {"chrF"}


def test_a_question_that_is_all_input_has_no_blank_one():
    asked = []
    task = SimpleNamespace(
        name="chat", cell="text->text", answers_in="text", gives={"text"}, splits=("test",),
        blanked=lambda sample, blank: (Message("user", (text(""),)),),
    )  # fmt: skip
    samples = outcome(["yes"] * 3, ["yes"] * 3).samples
    evaluation = SimpleNamespace(
        suite=SimpleNamespace(rows=SimpleNamespace(rows=lambda task, split: samples)), panel=SimpleNamespace(blank={}),
        limit=None, outcomes=[],
        ask=lambda questions, to, what, say: asked.append(len(questions)) or [None] * len(questions),
        _quoted_texts=lambda rows, to: [None] * len(rows),
    )  # fmt: skip
    assert Evaluation.run_task(evaluation, task, "test").blank_answers == []
    assert asked == [3]


# boxes


def box(label, *corners, **more):
    return {"label": label, "box": list(corners), **more}


def test_boxes_as_text_and_back():
    boxes = [box("red cell", 64, 240, 320, 480), box("cell", 0, 0, 640, 48)]
    words = boxes_as_text(boxes, (640, 480))
    assert words == "cell [0, 0, 1000, 100]; red cell [100, 500, 500, 1000]"
    parsed = boxes_in_text(words, (640, 480))
    assert [(b["label"], b["box"]) for b in parsed] == [("cell", [0, 0, 640, 48]), ("red cell", [64, 240, 320, 480])]
    assert words[slice(*parsed[1]["span"])].strip() == "red cell [100, 500, 500, 1000]"
    assert boxes_in_text("cell [5, 5, 5, 9]; cell [1, 2, 3]; none; cell [0, 0, 2000, 9]", (10, 10)) == []


def test_matching_once_gives_the_precision_of_any_choice_of_pictures():
    rng = np.random.default_rng(0)

    def some(most, **more):
        corners = [(rng.uniform(0, 60, 2), rng.uniform(5, 40, 2)) for _ in range(rng.integers(0, most))]
        return [{"label": "abc"[rng.integers(3)], "box": [*at, *(at + size)], **more} for at, size in corners]

    truth = [some(4) for _ in range(30)]
    moved = [[{**b, "box": [c + rng.normal(0, 3) for c in b["box"]], "score": rng.random()} for b in t] for t in truth]
    predicted = [[*moved_boxes, *some(3, score=0.4)] for moved_boxes in moved]
    matching = Matching(truth, predicted)
    choices = [np.arange(30), *(rng.integers(30, size=size) for size in (30, 30, 7, 1))]
    for rows in choices:
        for metric in ("AP", "AP50"):
            slow = average_precision([truth[i] for i in rows], [predicted[i] for i in rows], metric)
            assert matching.average_precision(rows, metric) == pytest.approx(slow, abs=1e-12)
    assert matching.average_precision(choices[0], "AP50") > 0.3
    assert Matching([[]], [[]]).average_precision(np.array([0]), "AP") == 0.0


def test_f1_of_boxes():
    truth = [[box("a", 0, 0, 10, 10), box("a", 20, 20, 40, 40)], [box("b", 5, 5, 25, 25)]]
    predicted = [
        [box("a", 0, 0, 10, 10, score=0.9), box("b", 20, 20, 40, 40, score=0.9)],
        [box("b", 5, 5, 25, 24, score=0.8)],
    ]
    matching = Matching(truth, predicted)
    assert matching.f1(np.array([0, 1])) == pytest.approx(2 * 2 / 6), "a box of another label is none of these"
    assert [matching.f1(np.array([i])) for i in (0, 1)] == [0.5, 1.0]
    assert Matching(truth, [[], []]).f1(np.array([0, 1])) == Matching([[], []], predicted).f1(np.array([0, 1])) == 0.0


def test_average_precision():
    truth = [[box("a", 0, 0, 10, 10), box("a", 20, 20, 40, 40)], [box("b", 5, 5, 25, 25)]]
    assert average_precision(truth, truth, "AP") == pytest.approx(1.0)
    half = [[box("a", 0, 0, 10, 10, score=0.9)], [box("b", 5, 5, 25, 25, score=0.8)]]
    assert average_precision(truth, half, "AP50") == pytest.approx((0.5 + 1.0) / 2, abs=0.01)
    shifted = [[box("a", 2, 0, 12, 10), box("a", 20, 20, 40, 40)], [box("b", 5, 5, 25, 25)]]
    assert average_precision(truth, shifted, "AP50") > average_precision(truth, shifted, "AP")
    assert average_precision(truth, [[], []], "AP") == 0.0
    # a sure false box before the right one costs more than an unsure one after it
    first = [[box("a", 50, 50, 60, 60, score=0.9), box("a", 0, 0, 10, 10, score=0.5)], []]
    last = [[box("a", 50, 50, 60, 60, score=0.1), box("a", 0, 0, 10, 10, score=0.5)], []]
    alone = [[box("a", 0, 0, 10, 10)], []]
    assert average_precision(alone, first, "AP50") < average_precision(alone, last, "AP50")


def test_tokens_of_an_answer_have_their_share_of_its_likelihood():
    engine = Engine(WORLD.model())
    questions = [(Message("user", (text("what is this?"),)),), (Message("user", (text("draw seven"),)),)]
    answers = [text("say it in German"), None]
    tokens, nothing = token_log_probabilities(engine, questions, answers)
    assert nothing == []
    assert tokens[0][1][0] == 0
    assert tokens[-1][1][1] == len("say it in German")
    assert all(a[1][1] == b[1][0] for a, b in itertools.pairwise(tokens))
    likelihood = log_likelihoods(engine, questions[:1], answers[:1])[0, 0]
    assert likelihood < sum(log for log, _ in tokens) < 0  # the rest is that of the closing mark


def test_detection_is_scored_from_the_answers_words():
    engine = Engine(WORLD.model())
    truth = [[box("cell", 0, 0, 10, 10)], [box("cell", 20, 20, 40, 40)], [box("cell", 5, 5, 25, 25)]]
    answers = [boxes_as_text(boxes, (64, 64)) for boxes in truth]
    rows = outcome(answers, answers, boxes=truth, size=[[64, 64]] * 3)
    cells = score("boxes")(rows, Bench(engine))
    assert cell_of(cells, "AP50")["value"] == pytest.approx(1.0)
    assert cell_of(cells, "AP50")["baseline"] < 0.5
    assert cell_of(cells, "F1 of boxes")["value"] == pytest.approx(1.0)
    bare = [boxes_as_text([cell_of | {"label": ""} for cell_of in boxes], (64, 64)) for boxes in truth]
    assert bare[0] == "[0, 0, 156, 156]"
    rows = outcome(bare, bare, boxes=truth, size=[[64, 64]] * 3, label=["cell"] * 3)
    assert cell_of(score("boxes")(rows, Bench(engine)), "AP50")["value"] == pytest.approx(1.0), "the question says what"
    rows = outcome(bare, bare, boxes=truth, size=[[64, 64]] * 3, label=["dog"] * 3)
    assert cell_of(score("boxes")(rows, Bench(engine)), "AP50")["value"] < 0.5
    grid = [
        [box("cell", x * 60 + 20, 80, x * 60 + 40, 100)] for x in range(3)
    ]  # where a grid that sees nothing has its boxes
    words = [boxes_as_text(boxes, (180, 180)) for boxes in grid]
    rows = outcome(words, words, boxes=grid, size=[[180, 180]] * 3, label=["cell"] * 3)
    cells = score("boxes")(rows, Bench(engine))
    assert cell_of(cells, "AP")["baseline"] > 0
    assert cell_of(cells, "F1 of boxes")["baseline"] == pytest.approx(1 / 3), (
        "one box in the middle is right in one of three"
    )
    cells = score("boxes")(outcome(answers, ["nothing here"] * 3, boxes=truth, size=[[64, 64]] * 3), Bench(engine))
    assert cell_of(cells, "AP")["value"] == 0.0


def test_evidence_is_scored_whatever_stands_before_it():
    truth = [[box("platelet", 0, 0, 10, 10), box("platelet", 20, 20, 40, 40)], [box("platelet", 5, 5, 25, 25)], []]
    answers = []
    for boxes in truth:
        asset = Asset("bccd", "boxes", "one", {"picture": "one.png"}, facts={"size": [64, 64]})
        asset.facts["boxes"] = [*boxes, box("red blood cell", 1, 1, 9, 9)]
        items = BY_NAME["blood"].make(Group("one", [asset], np.random.default_rng(0)))
        answers.append(next(i.answer.value for i in items if i.facts["label"] == "platelet"))
    assert [text[0] for text in answers] == list("210")
    rows = outcome(answers, answers, boxes=truth, size=[[64, 64]] * 3, label=["platelet"] * 3, number=[2, 1, 0])
    assert cell_of(score("boxes")(rows, Bench(Engine(WORLD.model()))), "AP")["value"] == pytest.approx(1.0)
    assert cell_of(score("number")(rows, None), "number right")["value"] == 1.0


def test_written_language_is_put_beside_a_judge(monkeypatch):
    asked = []

    class Judge:
        def of(self, texts):
            asked.extend(texts)
            return ["en", "und"]

    monkeypatch.setattr("plait.eval.external.language.TextLanguage", Judge)
    rows = outcome(["English", "French"], ["English", "English"], language=["en", "fr"])
    phrasings, words = ("Language of: {text}", "{text} - which language?"), ("good day", "bonjour")
    samples = [
        replace(
            s,
            messages=(Message("user", (text(p.replace("{text}", w)),)), s.messages[1]),
            meta={**s.meta, "phrasing": p},
        )
        for s, p, w in zip(rows.samples, phrasings, words, strict=True)
    ]
    (cell,) = score("language")(replace(rows, samples=samples), None)
    assert asked == list(words), "the text alone, not the question around it"
    assert (cell["value"], cell["baseline"]) == (0.5, 0.5)


def test_made_drawings_are_put_beside_the_training_in_their_styles():
    class Rows:
        def labelled(self, split, kind):
            return ["flag", "shirt", "face"], [{"style": "flat"}, {"garment": "shirt"}, {"style": "3D"}]

        def media(self, split, kind):
            return ["flag", "shirt", "face"]

    of = SimpleNamespace(suite=SimpleNamespace(rows=Rows()))
    assert Evaluation._trained_on(of, "image", {"flat"}) == ["flag"]
    assert Evaluation._trained_on(of, "image", set()) == ["flag", "shirt", "face"]
    assert Evaluation._trained_on(of, "image", {"unknown"}) == ["flag", "shirt", "face"]


# made media, with features that are looked up instead of a network's


def shape(number, colour="red"):
    canvas = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(canvas).rectangle(
        [number % 5 * 5, number // 5 * 5, number % 5 * 5 + 8, number // 5 * 5 + 8], fill=colour
    )
    return Part("image", canvas)


def bench(training=()):
    stand_in = Bench(None, lambda kind, styles: list(training))
    stand_in.__dict__["picture_features"] = lambda parts: np.stack(
        [np.asarray(p.value, np.float32).ravel() - 128 for p in parts]
    )
    return stand_in


def test_retrieval_finds_what_was_asked_and_chance_otherwise():
    truth = [shape(number) for number in range(20)]
    task = FakeTask("text->image", answers_in="image")
    concepts = [str(number) for number in range(20)]
    right = score("retrieval")(outcome(truth, truth, task, concept=concepts), bench())
    assert cell_of(right, "found among 20, first 1: rate")["value"] == 1.0
    assert (cell_of(right, "rank among 20, median")["value"], cell_of(right, "rank among 20, median")["baseline"]) == (
        1.0,
        10.5,
    )
    wrong = score("retrieval")(outcome(truth, truth[1:] + truth[:1], task, concept=concepts), bench())
    assert cell_of(wrong, "found among 20, first 1: rate")["value"] == 0.0
    assert cell_of(wrong, "found among 20, first 1: rate")["baseline"] == 0.05


class BrightestPlace:
    """A judge that knows a shape by where it is dark; of concept "20" it never saw a picture."""

    def __init__(self):
        self.classes = {"concept": [str(number) for number in reversed(range(20))]}

    def judge(self, parts):
        levels = [np.asarray(part.value.convert("L"), float) for part in parts]
        dark = [[-level[n // 5 * 5 + 4, n % 5 * 5 + 4] for n in reversed(range(20))] for level in levels]
        return None, {"concept": np.array(dark).reshape(len(parts), 20)}


def test_a_drawing_depicts_what_was_asked_for_its_judge():
    truth = [shape(number) for number in range(21)]
    task = FakeTask("text->image", answers_in="image")
    concepts = [str(number) for number in range(21)]
    judged = Bench(None, judges={"image": BrightestPlace()})
    right = cell_of(
        score("depicted")(outcome(truth, truth, task, concept=concepts), judged), "depicts it among 20, first 1: rate"
    )
    assert (right["value"], right["n"], right["baseline"], right["judge_ceiling"]) == (1.0, 20, 0.05, 1.0)
    answers = [None if number < 10 else truth[(number + 3) % 20] for number in range(21)]
    wrong = score("depicted")(outcome(truth, answers, task, concept=concepts), judged)
    assert cell_of(wrong, "depicts it among 20, first 1: rate")["value"] == 0.0
    assert cell_of(wrong, "depicts it among 20, first 10: rate")["value"] <= 0.5, "a missing drawing ranks last"
    nothing = score("depicted")(outcome(truth, [None] * 21, task, concept=concepts), judged)
    assert cell_of(nothing, "depicts it among 20, first 10: rate")["value"] == 0.0


def test_without_a_judge_of_concepts_a_drawing_is_not_judged():
    rows = outcome([shape(1)], [shape(1)], FakeTask("text->image", answers_in="image"), concept=["1"])
    for judges in ({}, {"image": SimpleNamespace(classes={"digit": [1]})}):
        with pytest.raises(MissingError, match="no judge knows the concepts"):
            score("depicted")(rows, Bench(None, judges=judges))


def test_copies_of_the_training_are_seen():
    truth, training = [shape(n) for n in range(12)], [shape(n, "blue") for n in range(12)]
    task = FakeTask("text->image", answers_in="image")
    (copied,) = score("copies")(outcome(truth, training, task), bench(training))
    assert copied["value"] == pytest.approx(1.0, abs=1e-4)
    many = [
        shape(n % 12, (0, n, 255)) for n in range(250)
    ]  # a copy is found among many more than are looked at closely
    (copied,) = score("copies")(outcome(truth, many[100:112], task), bench(many))
    assert copied["value"] == pytest.approx(1.0, abs=1e-4)
    assert copied["baseline"] < 0.999


def test_an_entry_has_a_number_by_language():
    rows = outcome(["x"] * 40, ["x"] * 40, language=["en"] * 20 + ["fr"] * 20)
    cell = entry(rows, "match", [1.0] * 20 + [0.0] * 20)
    assert cell["value"] == 0.5
    assert cell["by"] == {"language en": 1.0, "language fr": 0.0}
    few = outcome(["x"] * 12, ["x"] * 12, language=["en"] * 11 + ["fr"])
    assert broken_down(few.samples, lambda drawn: 0.0) == {}


# missing answers are no better than bad ones


def test_a_missing_picture_ranks_last():
    truth = [shape(number) for number in range(20)]
    task = FakeTask("text->image", answers_in="image")
    half = [part if number % 2 else None for number, part in enumerate(truth)]
    cells = score("retrieval")(outcome(truth, half, task, concept=[str(n) for n in range(20)]), bench())
    first = cell_of(cells, "found among 20, first 1: rate")
    assert (first["value"], first["n"]) == (0.5, 20)
    assert cell_of(cells, "rank among 20, median")["value"] == (1 + 20) / 2
    nothing = score("retrieval")(outcome(truth, [None] * 20, task, concept=[str(n) for n in range(20)]), bench())
    assert cell_of(nothing, "found among 20, first 10: rate")["value"] == 0.0


def test_a_missing_edit_is_as_far_off_as_the_worst_one():
    rng = np.random.default_rng(0)
    levels = [rng.integers(0, 30, (8, 8)).astype(np.uint8) for _ in range(6)]
    truth = [Part("image", Image.fromarray(level)) for level in levels]
    answers = [Part("image", Image.fromarray(level + 200)) for level in levels]  # further off than a black picture
    task = FakeTask("image->image", answers_in="image")
    for some in (answers, [None, *answers[1:]]):
        rows = outcome(truth, some, task)
        asked = [
            replace(s, messages=(Message("user", (part,)), s.messages[1]))
            for s, part in zip(rows.samples, truth, strict=True)
        ]
        (error,) = score("pixels")(replace(rows, samples=asked), Bench(Engine(WORLD.model())))
        assert (error["value"], error["n"]) == (pytest.approx((200 / 255) ** 2), 6)
        assert error["baseline"] < 0.01, "the input is the answer here"


def test_a_missing_recording_has_every_word_wrong():
    words = ["one two", "three four", "five six", "seven"]
    sound = Part("audio", (np.ones(800, np.float32), 16_000))
    of_speech = Bench(None)
    of_speech.__dict__["read_aloud"] = lambda texts: [sound] * len(texts)
    of_speech.__dict__["read_by_piper"] = lambda texts: [sound] * len(texts)
    heard = {2: ["one two", "seven"], 4: words}
    of_speech.__dict__["recognised"] = lambda parts: heard[len(parts)]
    rows = outcome(
        [sound] * 4,
        [sound, None, None, sound],
        FakeTask("text->audio", answers_in="audio"),
        language=["en"] * 4,
        text=words,
    )
    (cell,) = score("recognised")(rows, of_speech)
    assert (cell["value"], cell["n"]) == (pytest.approx(4 / 7), 4)
    silent = outcome([sound] * 4, [None] * 4, rows.task, language=["en"] * 4, text=words)
    assert score("recognised")(silent, of_speech)[0]["value"] == 1.0


def test_a_missing_voice_is_like_nobody():
    task = FakeTask("text->audio", answers_in="audio")
    voices = {"a": np.array([1.0, 0.0]), "b": np.array([0.6, 0.8])}
    of_voices = Bench(None)
    of_voices.__dict__["voice_features"] = lambda parts: np.stack([voices[part.value] for part in parts])
    truth = [Part("audio", name) for name in "abab"]
    (cell,) = score("voice")(outcome(truth, [*truth[:3], None], task, speaker=list("abab")), of_voices)
    assert (cell["value"], cell["n"]) == (0.75, 4)
    assert (cell["baseline"], cell["judge_ceiling"]) == (pytest.approx(0.6), pytest.approx(1.0))


# beside a cascade


class FakeCascade:
    """Says what it was asked, and remembers it."""

    def __init__(self, folder):
        self.asked = []

    def answer(self, question, to):
        self.asked.append([(part.type, part.value) for message in question for part in message.parts])
        return text("right") if to == "text" else None


def test_the_cascade_is_asked_the_same_english_rows(tmp_path):
    fakes = []

    def make(folder):
        fakes.append(FakeCascade(folder))
        return fakes[-1]

    def cells(cell_of):
        right = [part is not None and part.value == "right" for part in cell_of.answers]
        value = float(np.mean(right))
        facts = {"n": len(right), "value": value, "higher_is_better": True, "ci95": [value, value]}
        return [{"metric": "exact match", **facts}]

    def task(name, cell, *scores):
        entries = FakeTask(cell, name, cell.split("->")[1], scores)
        entries.gives, entries.splits = frozenset(cell.split("->")[0].split("+")), ("test",)
        return entries

    rows = outcome(
        ["right"] * 25 + ["left"] * 25, ["wrong"] * 50, task("answer", "text->text"), language=["fr", "en"] * 25
    )
    spoken = outcome(["right", "left"] * 15, ["right"] * 30, task("say", "text->audio"), text=["hello"] * 30)
    recording = Message("user", (Part("audio", "a.wav"), Part("text", "Who is it?")))
    written, recognised, aloud = (
        replace(entries, samples=[replace(s, messages=(recording, *s.messages[1:])) for s in entries.samples])
        for entries in (
            outcome(["right", "left"] * 15, ["right"] * 30, task("transcribe", "audio->text", "word errors")),
            outcome(["right", "left"] * 15, ["right"] * 30, task("speaker", "audio->text")),
            outcome(["right", "left"] * 15, ["right"] * 30, task("respeak", "audio->audio"), text=["the answer"] * 30),
        )
    )
    others = [
        outcome(["right"] * 50, ["right"] * 50, task("name", "image->text")),
        outcome(
            ["right"] * 50,
            ["right"] * 50,
            task("translate", "text->text"),
            **{"from": ["en"] * 50},
            language=["fr"] * 50,
        ),
        outcome(["right"] * 5, ["right"] * 5, task("chat", "text->text")),
        outcome(["English"] * 30, ["English"] * 30, task("written-language", "text->text")),
    ]
    lines = []
    entries = cascade_baseline.compared(
        [rows, spoken, written, recognised, aloud, *others],
        lambda question, to: text("right"),
        tmp_path,
        cells,
        make,
        lines.append,
    )
    assert [(row["task"], row["n"], row["ours"], row["cascade"]) for row in entries] == [
        ("answer", cascade_baseline.ROWS, 0.0, 1.0), ("say", cascade_baseline.ROWS, 1.0, 0.0), ("transcribe", cascade_baseline.ROWS, 1.0, 1.0),
        ("speaker", cascade_baseline.ROWS, 1.0, 1.0), ("respeak", cascade_baseline.ROWS, 1.0, 0.0),
    ]  # fmt: skip
    assert [row["cascade_ci95"] for row in entries[:2]] == [[1.0, 1.0], [0.0, 0.0]]
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["translate", "chat", "written-language"], lines
    assert "0 rows are English" in lines[0]
    assert "all have the answer 'English'" in lines[2]
    assert all(row["seconds"] >= 0 and row["cascade_seconds"] >= 0 for row in entries)
    asked = fakes[0].asked
    assert asked[0] == [("text", "question 1")], "the first English row"
    assert asked[cascade_baseline.ROWS] == [("text", "hello")], "the bare words, not the order to say them"
    assert asked[2 * cascade_baseline.ROWS] == [("audio", "a.wav")], "the recording to write down, without the order"
    assert asked[3 * cascade_baseline.ROWS] == [("audio", "a.wav"), ("text", "Who is it?")], "the whole question"
    assert asked[4 * cascade_baseline.ROWS] == [("audio", "a.wav"), ("text", "Who is it?")], (
        "the recording, not the words of the answer"
    )


def test_speech_is_put_beside_espeak_and_the_recordings():
    """A recogniser that hears silence in quiet and the words in anything loud, so that each of the three is told apart."""
    words = [f"one word number {n}" for n in range(22)]
    loud, quiet = (
        [Part("audio", ((level * rng.normal(size=8000)).astype(np.float32), 16_000)) for _ in words]
        for rng, level in ((np.random.default_rng(1), 0.1), (np.random.default_rng(2), 0.0))
    )
    language = ["en"] * 20 + ["fr", "en"]
    read = []

    class Heard(Bench):
        def read_aloud(self, texts):
            read.append((list(texts), super().read_aloud(texts[:2])))
            return [*loud[: len(texts) - 5], *quiet[:5]]

    lines = []
    bench = Heard(None, say=lines.append)
    english = [text for text, code in zip(words, language, strict=True) if code == "en"]
    bench.recognised = lambda parts: [
        text if np.abs(part.value[0]).max() > 0 else "" for text, part in zip(english, parts, strict=True)
    ]
    asked = outcome(loud, quiet, FakeTask("text->audio", answers_in="audio"), language=language, text=words)
    bench.read_by_piper = lambda texts: [*loud[: len(texts) - 7], *quiet[:7]]
    (cell,) = score("recognised")(asked, bench)
    assert (cell["n"], cell["value"], cell["judge_ceiling"]) == (21, 1.0, 0.0)
    assert cell["baseline"] == pytest.approx(5 / 21), "the better reading, not a number written down"
    assert [line.split(":")[0] for line in lines] == ["no word errors of speech in fr"]
    assert cell["by"]["read by espeak-ng"] == pytest.approx(5 / 21)
    assert cell["by"]["read by Piper"] == pytest.approx(7 / 21)
    ((texts, spoken),) = read
    assert texts == english
    assert all(part.type == "audio" and part.value[1] == 16_000 for part in spoken)
    assert all(np.abs(part.value[0]).max() > 0.01 and len(part.value[0]) > 8000 for part in spoken)
    foreign = outcome(
        loud[:5], quiet[:5], FakeTask("text->audio", answers_in="audio"), language=["fr"] * 5, text=words[:5]
    )
    assert score("recognised")(foreign, bench) == []
