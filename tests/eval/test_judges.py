"""Independent judges: what they learn, that they are the same again, and what they say of nothing."""

import numpy as np
import pytest
import torch
from small_suite import CLASSES, lit, view

from plait.contract import Part
from plait.eval.judges import WIDTH, Judge, load_or_fit


@pytest.fixture(scope="module")
def fitted():
    judge = Judge(CLASSES, view())
    seconds = judge.fit(*lit(90, 0))
    assert seconds > 0
    return judge


def test_a_judge_tells_every_attribute(fitted):
    parts, labels = lit(60, 1)
    predicted = fitted.says(parts)
    for name in CLASSES:
        assert np.mean([s[name] == label[name] for s, label in zip(predicted, labels, strict=True)]) > 0.9, name


def test_scores_are_probabilities_in_the_order_of_the_classes(fitted):
    parts, _ = lit(10, 2)
    features, scores = fitted.judge(parts)
    assert features.shape == (10, WIDTH)
    assert {name: values.shape for name, values in scores.items()} == {"side": (10, 2), "a.b": (10, 3)}
    assert np.allclose(scores["side"].sum(axis=1), 1, atol=1e-5)
    best = [CLASSES["side"][index] for index in scores["side"].argmax(axis=1)]
    assert best == [labels_of_part["side"] for labels_of_part in fitted.says(parts)]


def test_a_part_is_judged_the_same_alone_and_among_others(fitted):
    parts, _ = lit(300, 3)  # more than are looked at together
    _, together = fitted.judge(parts)
    _, alone = fitted.judge(parts[270:271])
    assert np.allclose(together["a.b"][270], alone["a.b"][0], atol=1e-5)


def test_nothing_is_judged_to_be_nothing(fitted):
    """A model that gave no answer at all is still measured."""
    features, scores = fitted.judge([])
    assert features.shape == (0, WIDTH)
    assert scores["a.b"].shape == (0, 3)
    assert fitted.says([]) == []


def test_a_judge_is_a_function_of_its_data_and_seed():
    parts, labels = lit(30, 4)
    first, again, other = Judge(CLASSES, view(2)), Judge(CLASSES, view(2)), Judge(CLASSES, view(2))
    for judge, seed in ((first, 0), (again, 0), (other, 1)):
        torch.manual_seed(99 + id(judge) % 7)  # the state that other code left behind is of no matter
        judge.fit(parts, labels, seed)
    assert torch.equal(first.heads[0].weight, again.heads[0].weight)
    assert not torch.equal(first.heads[0].weight, other.heads[0].weight)


def test_few_media_are_enough_to_fit():
    judge = Judge({"side": ["left", "right"]}, view(1))
    judge.fit(*lit(4, 5))
    assert len(judge.says(lit(2, 6)[0])) == 2


def test_an_unknown_label_is_refused():
    parts, labels = lit(4, 7)
    with pytest.raises(ValueError, match="middle"):
        Judge(CLASSES, view(1)).fit(parts, [*labels[:3], {"side": "middle", "a.b": 0}])


def test_weights_are_written_once_and_loaded_after(tmp_path, fitted, monkeypatch):
    path = tmp_path / "judges" / "image.safetensors"
    parts, labels = lit(30, 8)
    load_or_fit(Judge(CLASSES, view(1)), path, parts, labels)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(Judge, "fit", lambda *arguments: pytest.fail("fitted again"))
    loaded = [Judge(CLASSES, view(1)) for _ in range(2)]
    for judge in loaded:
        load_or_fit(judge, path, parts, labels)
        assert not judge.training, "dropout is off"
    assert loaded[0].says(parts) == loaded[1].says(parts)


def test_round_trips_are_the_view_s_own():
    halved = Judge(CLASSES, view(round_trip=lambda part: Part(part.type, part.value // 2)))
    parts = [Part("image", np.full((16, 16), 8))]
    assert halved.round_trips(parts)[0].value.max() == 4
    assert Judge(CLASSES, view()).round_trips(parts) == parts
