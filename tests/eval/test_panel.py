"""Judges and their ceilings, hits, baselines and features of an evaluation."""

import numpy as np
import pytest
from PIL import Image
from small_suite import CLASSES, WORLD, Rows, lit, task, view
from worlds import text

from plait import registry
from plait.contract import Message, Part, Sample
from plait.eval.class_means import nearest_class_mean
from plait.eval.judges import Judge
from plait.eval.panel import Panel, share
from plait.eval.suites import Suite


class Labelled(Rows):
    """Lit pictures with their labels, some for every split."""

    def __init__(self, counts):
        super().__init__()
        self.splits = {split: lit(count, seed) for seed, (split, count) in enumerate(counts.items())}

    def labelled(self, split, kind):
        parts, labels = self.splits.get(split, ([], []))
        pictures = [Part("image", Image.fromarray(np.asarray(part.value, np.uint8))) for part in parts]
        return (pictures, labels) if kind == "image" else ([], [])

    def media(self, split, kind):
        return self.labelled(split, kind)[0]


def panel(folder, rows=None, judges=()):
    notes = []
    suite = Suite(
        (),
        rows or Rows(),
        dict.fromkeys(judges, lambda: Judge(CLASSES, view(8))),
        folder,
        lambda name, label: str(label),
    )
    return Panel(suite, WORLD.modalities, 0, notes.append), notes


def row(question, answer, **expect):
    return Sample((Message("user", tuple(question)), Message("assistant", (answer,))), "task", {"expect": expect})


# hits


def test_words_are_compared_without_blanks_at_their_ends(tmp_path):
    judges, _ = panel(tmp_path)
    rows = [row([text("?")], text("yes"), same="yes") for _ in range(4)]
    answers = [text(" yes\n"), text("Yes"), None, text("yes, no")]
    assert judges.hits(task("text->text"), answers, rows) == {"same": [True, False, False, False]}


def test_parts_of_an_answer_are_compared_one_by_one(tmp_path):
    judges, _ = panel(tmp_path)
    rows = [row([text("?")], text("zero, jackson"), word="zero", speaker="jackson") for _ in range(5)]
    answers = [text("zero, jackson"), text("zero, theo"), text("zero"), None, text("jackson, zero")]
    assert judges.hits(task("text->text"), answers, rows) == {
        "word": [True, True, True, False, False],
        "speaker": [True, False, False, False, False],
    }


def test_only_rows_that_expect_an_attribute_count_for_it(tmp_path):
    judges, _ = panel(tmp_path)
    rows = [row([text("?")], text("a"), letter="a"), row([text("?")], text("1"), digit="1")]
    assert judges.hits(task("text->text"), [text("a"), text("2")], rows) == {"letter": [True], "digit": [False]}


def test_media_without_a_judge_have_no_hits(tmp_path):
    judges, _ = panel(tmp_path)
    parts, labels = lit(2, 0)
    rows = [row([text("?")], part, **label) for part, label in zip(parts, labels, strict=True)]
    assert judges.hits(task("text->image"), parts, rows) == {}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    judges, notes = panel(folder, Labelled({"judge": 90, "test": 30, "train": 24}), ["image"])
    judges.prepare()
    return judges, notes, folder


def pictures_and_rows(judges, count=12):
    parts, labels = judges.suite.rows.labelled("test", "image")
    rows = [row([text("draw")], part, **label) for part, label in zip(parts[:count], labels, strict=False)]
    return parts[:count], rows


def test_a_judge_looks_at_the_answers_that_there_are(judged):
    judges, _, _ = judged
    parts, rows = pictures_and_rows(judges)
    hits = judges.hits(task("text->image"), [None, *parts[1:]], rows)
    assert set(hits) == {"side", "a.b"}
    assert not hits["side"][0]
    assert np.mean(hits["side"][1:]) > 0.8
    swapped = judges.hits(task("text->image"), parts[1:] + parts[:1], rows)
    assert np.mean(swapped["side"]) < 0.2, "every neighbour is lit on the other side"


def test_a_model_that_answers_nothing_has_no_hit(judged):
    judges, _, _ = judged
    parts, rows = pictures_and_rows(judges)
    assert judges.hits(task("text->image"), [None] * len(parts), rows)["side"] == [False] * len(parts)


def test_attributes_that_the_judge_does_not_know_are_left_out(judged):
    judges, _, _ = judged
    parts, rows = pictures_and_rows(judges, 2)
    rows = [row([text("draw")], part, side="left", mood="sad") for part in parts]
    assert set(judges.hits(task("text->image"), parts, rows)) == {"side"}


# judges and ceilings


def test_ceilings_are_measured_on_held_out_media_and_noted(judged):
    judges, notes, folder = judged
    assert judges.ceilings["image"]["side"] > 0.9
    assert notes == [
        f"image judge on 30 held-out items: side {judges.ceilings['image']['side']:.1%}, a.b {judges.ceilings['image']['a.b']:.1%}"
    ]
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_a_judge_is_fitted_once(judged, monkeypatch):
    _, _, folder = judged
    monkeypatch.setattr(Judge, "fit", lambda *arguments: pytest.fail("fitted again"))
    again, _ = panel(folder, Labelled({"judge": 90, "test": 30}), ["image"])
    again.prepare()
    assert again.ceilings["image"] == judged[0].ceilings["image"]


def test_without_held_out_media_there_is_no_judge(tmp_path):
    judges, notes = panel(tmp_path, Labelled({"judge": 90}), ["image"])
    judges.prepare()
    assert judges.judges == {}
    assert notes == ["no image judge: no labelled image is held out to measure it on"]


# baselines


def test_without_a_label_the_baseline_says_the_commonest_answer(tmp_path):
    judges, _ = panel(tmp_path)
    rows = [row([text(f"{n}?")], text(answer), exact=answer) for n, answer in enumerate(["a", "a", "b", "c"])]
    assert judges.baseline(task("text->text"), rows, "exact") == 0.5


def test_a_label_of_the_input_is_guessed_from_its_nearest_neighbours(tmp_path):
    judges, _ = panel(tmp_path, Labelled({"train": 30, "test": 12}))
    parts, labels = judges.suite.rows.labelled("test", "image")
    rows = [
        row([part, text("?")], text(label["side"]), side=label["side"])
        for part, label in zip(parts, labels, strict=True)
    ]
    assert judges.baseline(task("image->text"), rows, "side") == 1.0
    assert judges.baseline(task("image->text"), rows, "side") == 1.0, "and again, from the classifier at hand"


def test_two_labelled_media_are_enough_for_a_baseline(tmp_path):
    judges, _ = panel(tmp_path, Labelled({"train": 2, "test": 4}))
    parts, labels = judges.suite.rows.labelled("test", "image")
    rows = [row([part], text(label["side"]), side=label["side"]) for part, label in zip(parts, labels, strict=True)]
    assert 0 <= judges.baseline(task("image->text"), rows, "side") <= 1


def test_an_answer_of_the_input_s_modality_is_put_beside_its_echo(judged):
    judges, _, _ = judged
    parts, _ = pictures_and_rows(judges)
    labels = judges.suite.rows.labelled("test", "image")[1]
    rows = [row([part], part, **label) for part, label in zip(parts, labels, strict=False)]
    assert judges.baseline(task("image->image"), rows, "side") > 0.9, "here the echo is right"


# features


def test_features_are_the_judge_s_where_there_is_one(judged, tmp_path):
    judges, _, _ = judged
    parts, _ = pictures_and_rows(judges, 3)
    assert judges.features("image", parts).shape == (3, 128)
    plain, _ = panel(tmp_path)
    assert plain.features("image", parts).shape == (3, 28 * 28)
    assert judges.training_features("image").shape == (24, 128)


@pytest.mark.parametrize(("kind", "expected"), [("image", True), ("text", True), ("smell", False), ("", False)])
def test_what_has_features(tmp_path, kind, expected):
    judges, _ = panel(tmp_path)
    assert judges.has_features(kind) is (expected and registry.measures(kind) is not None)


def test_there_is_nothing_to_compare_with_where_training_had_no_media(tmp_path):
    judges, _ = panel(tmp_path, Labelled({"train": 3}))
    assert judges.can_compare("image")
    assert judges.has_features("audio")
    assert not judges.can_compare("audio")


PICTURES = {level: Image.new("L", (8, 8), level) for level in range(256)}


def named(level, answer, phrasing="what"):
    picture = Part("image", PICTURES[level])
    question = Message("user", (picture, text(phrasing)))
    return Sample((question, Message("assistant", (text(answer),))), "task", {"expect": {"exact": answer}})


def test_class_means_are_those_of_the_features_a_model_reads_with():
    def features(part):
        level = part.value.getpixel((0, 0)) / 255
        return np.array([[1.0, level], [1.0, level]], np.float16)

    examples = [named(level, answer) for level, answer in ((0, "dark"), (40, "dark"), (250, "light"), (230, "light"))]
    examples += [named(0, "dark", "name it")] * 30  # one picture still, else 105 were light
    questions = [named(level, "?") for level in (10, 105, 150, 255)]
    found = nearest_class_mean(examples, questions, "image", features)
    assert found == ["dark", "dark", "light", "light"]
    assert nearest_class_mean([], questions, "image", features) is None


def test_answers_that_seldom_come_twice_are_no_classes():
    rows = [named(level, f"sentence {level}") for level in (0, 40, 105, 250)]

    def features(part):
        raise AssertionError("nothing needs to be read")

    assert nearest_class_mean(rows, rows, "image", features) is None


def test_the_baseline_of_a_model_with_a_reader_is_its_class_means(tmp_path, monkeypatch):
    class Taught(Rows):
        def examples(self, task):
            return [named(0, "dark"), named(1, "dark"), named(254, "light"), named(255, "light")]

    monkeypatch.setattr(registry, "reader_of", lambda modality: object())
    judges, _ = panel(tmp_path, Taught())
    judges.reader_features = lambda part: np.array([[1.0, part.value.getpixel((0, 0)) / 255]])
    rows = [named(10, "dark"), named(240, "light"), named(250, "light"), named(5, "odd")]
    assert judges.baseline(task("image->text"), rows, "exact") == 0.75
    judges.reader_features = None
    assert judges.baseline(task("image->text"), rows, "exact") == 0.5, "the commonest answer"


def test_media_that_can_be_emptied_are(tmp_path):
    judges, _ = panel(tmp_path)
    assert set(judges.blank) == {"audio", "image"}
    assert not np.asarray(judges.blank["image"](WORLD.part("image", 0)).value).any()


def test_the_share_of_nothing_is_nothing():
    assert share([]) == 0.0
    assert share([True, False]) == 0.5
