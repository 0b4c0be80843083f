"""What Label Studio, Argilla and CVAT write, taken in; and what Label Studio reads."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plait import registry
from plait.annotate import formats, items
from plait.annotate.formats import label_studio
from plait.annotate.kinds import Question
from plait.annotate.store import ANSWER, Prediction
from plait.api import annotating
from plait.errors import ConfigError, DataError
from plait.runtime.pages import data_url

BOXES = Question("box", "", ("cat", "dog"))
LABELS = Question("label", "", ("cat", "dog"))


@pytest.fixture
def begin(tmp_path):
    """Opens a project on two pictures, or on rows of words."""
    opened = []

    def begin(question, words=(), raw=(), more=lambda folder: None):
        if raw:
            (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, raw)))
        elif words:
            lines = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in words]
            (tmp_path / "train.jsonl").write_text("\n".join(lines))
        else:
            for number, name in enumerate(("a.png", "images/b.png")):
                (tmp_path / name).parent.mkdir(exist_ok=True)
                Image.fromarray(np.full((50, 100, 3), 99 * number, np.uint8)).save(tmp_path / name)
        more(tmp_path)
        opened.append(annotating.open_project(tmp_path, question, ["gold_every=0"], lambda line: None))
        return opened[-1], tmp_path

    yield begin
    for project in opened:
        project.store.close()


def taken(project, folder, raw, name="export.json"):
    path = folder.resolve().parent / f"{folder.resolve().name}-{name}"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return formats.take(project, folder, path)


def of_item(project, folder, name):
    modalities = registry.build_all(["image", "text"])
    for id, item in project.items.items():
        if any(str(part.value).endswith(name) for part in items.asked_parts(items.sample_of(item, folder, modalities))):
            return project.answers_of(id)
    raise AssertionError(name)


def label_studio_box(label="cat", rotation=0, **value):
    value = {"x": 10, "y": 20, "width": 30, "height": 40} | value
    return {
        "id": "r1",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 100,
        "original_height": 50,
        "image_rotation": 0,
        "value": value | {"rotation": rotation, "rectanglelabels": [label]},
    }


def test_boxes_of_label_studio(begin):
    project, folder = begin(BOXES)
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/3/1a2b3c4d-a.png"}, "annotations": [
            {"id": 7, "completed_by": {"id": 1, "email": "ann@x.org"}, "result": [label_studio_box()], "was_cancelled": False, "lead_time": 3.5},
            {"id": 8, "completed_by": 2, "result": [label_studio_box("dog", 90)], "was_cancelled": False},
        ]},
        {"id": 2, "data": {"image": "/data/upload/3/9f8e7d6c-b.png"}, "annotations": [{"id": 9, "completed_by": 2, "result": [], "was_cancelled": True}]},
        {"id": 3, "data": {"image": "/data/upload/3/elsewhere.png"}, "annotations": [{"id": 10, "completed_by": 2, "result": []}]},
    ]  # fmt: skip
    added, answers, passed = taken(project, folder, tasks)
    assert (added, answers) == (0, 3)
    assert list(passed.values()) == [1]
    assert "elsewhere.png" in next(iter(passed))
    said = of_item(project, folder, "a.png")
    assert said["ann@x.org"] == [{"label": "cat", "box": [100, 200, 400, 600]}]
    (turned,) = said["user 2"]
    assert turned["label"] == "dog"
    assert turned["box"] == [0, 200, 100, 500], "turned about its corner by a right angle, and cut at the side"
    assert taken(project, folder, tasks)[1] == 0, "the same file again says nothing new"


@pytest.mark.parametrize(
    ("question", "result", "value"),
    [
        (LABELS, {"type": "choices", "value": {"choices": ["dog"]}}, "dog"),
        (Question("transcribe", ""), {"type": "textarea", "value": {"text": ["one", "two"]}}, "one\ntwo"),
    ],
)
def test_other_answers_of_label_studio(begin, question, result, value):
    project, folder = begin(question, ["hello"])
    tasks = [
        {"id": 1, "data": {"text": "hello"}, "annotations": [{"id": 1, "completed_by": 1, "result": [result]}]},
        {"id": 2, "data": {"text": "new words"}, "annotations": [{"id": 2, "completed_by": 1, "result": [result]}]},
    ]
    assert taken(project, folder, tasks)[:2] == (1, 2)
    assert [project.answers_of(id) for id in project.items] == [{"user 1": value}] * 2


def test_ratings_and_choices_of_label_studio():
    assert label_studio.value_of([{"type": "rating", "value": {"rating": 2}}], "rate") == 2
    assert label_studio.value_of([{"type": "pairwise", "value": {"selected": "right"}}], "choose") == "second"


def test_what_is_given_to_label_studio_comes_back(begin):
    project, folder = begin(BOXES)
    first, second = project.items
    boxes = [{"label": "dog", "box": [125, 250, 500, 750]}]
    project.say(ANSWER, first, "ann", boxes, "1", 2.0)
    project.add_predictions([Prediction(second, "smol", boxes, 0.25)])
    given = formats.give(project, folder)
    (control,) = label_studio.controls(given["config"])
    assert control.question.options == ("cat", "dog")
    assert (control.kind, control.key, control.name) == ("image", "image", "asked")
    task, guessed = given["tasks"]
    assert task["data"] == {"image": "a.png"}
    assert task["annotations"][0]["result"][0]["value"] == {
        "x": 12.5,
        "y": 25.0,
        "width": 37.5,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["dog"],
    }
    assert guessed["predictions"][0] | {"result": None} == {"model_version": "smol", "score": 0.75, "result": None}
    before = project.answers_of(first)
    taken(project, folder, given["tasks"])
    assert of_item(project, folder, "a.png") == before | {"ann": boxes}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><assignee><username>ann</username></assignee></job></meta>
<image id="0" name="a.png" width="100" height="50">
<box label="cat" source="manual" occluded="0" xtl="10.0" ytl="5.00" xbr="60.0" ybr="30.0" z_order="0"></box><tag label="dog" source="manual"></tag></image>
<image id="1" name="images/b.png" width="100" height="50"></image></annotations>"""


def test_boxes_and_tags_of_cvat(begin):
    project, folder = begin(BOXES)
    assert taken(project, folder, CVAT, "cvat.xml") == (0, 1, {})
    assert of_item(project, folder, "a.png") == {"ann": [{"label": "cat", "box": [100, 100, 600, 600]}]}
    assert of_item(project, folder, "b.png") == {}, "it may be that nobody looked at it"
    other = CVAT.replace("<username>ann", "<username>ben").replace('xtl="10.0"', 'xtl="20.0"')
    assert taken(project, folder, other, "other.xml") == (0, 1, {})
    assert of_item(project, folder, "a.png")["ben"] == [{"label": "cat", "box": [200, 100, 600, 600]}]


def test_tags_of_cvat(begin):
    project, folder = begin(LABELS)
    assert taken(project, folder, CVAT, "cvat.xml")[1] == 1
    assert of_item(project, folder, "a.png") == {"ann": "dog"}
    assert of_item(project, folder, "b.png") == {}, "an image without a tag says nothing"


@pytest.mark.parametrize(
    ("rotation", "box"), [("90.00", [225, 0, 475, 850]), ("0", [100, 100, 600, 600]), ("180", [100, 100, 600, 600])]
)
def test_a_box_of_cvat_that_is_turned_is_enclosed(begin, rotation, box):
    project, folder = begin(BOXES)
    taken(project, folder, CVAT.replace('xtl="10.0"', f'rotation="{rotation}" xtl="10.0"'), "cvat.xml")
    assert of_item(project, folder, "a.png") == {"ann": [{"label": "cat", "box": box}]}


def test_several_labels_of_one_item_are_passed_over_and_said(begin):
    project, folder = begin(LABELS, ["hello"])
    result = {"id": "r", "type": "choices", "value": {"choices": ["cat", "dog"]}, "from_name": "l", "to_name": "t"}
    tasks = [{"id": 1, "data": {"text": "hello"}, "annotations": [{"id": 1, "completed_by": 1, "result": [result]}]}]
    items, answers, passed = taken(project, folder, tasks)
    assert (items, answers) == (0, 0)
    assert "cat" in str(passed)


def test_several_tags_of_cvat_are_passed_over_and_said(begin):
    project, folder = begin(LABELS)
    both = CVAT.replace('<tag label="dog"', '<tag label="cat"></tag><tag label="dog"')
    items, answers, passed = taken(project, folder, both, "cvat.xml")
    assert (items, answers) == (0, 0)
    assert "cat" in str(passed)


def test_labels_of_argilla(begin):
    project, folder = begin(LABELS, ["hello", "bye"])
    records = [
        {"id": "1", "fields": {"text": "hello"}, "metadata": {}, "suggestions": {"kind": {"value": "dog", "score": None, "agent": None}},
         "responses": {"kind": [{"value": "cat", "user_id": "u1"}, {"value": "dog", "user_id": "u2"}]}, "vectors": {}, "status": "completed"},
        {"id": "2", "fields": {"text": "bye"}, "metadata": {}, "suggestions": {}, "responses": {"kind": [{"value": "fish", "user_id": "u1"}]}, "vectors": {}, "status": "pending"},
    ]  # fmt: skip
    added, answers, passed = taken(project, folder, records)
    assert (added, answers) == (0, 2)
    assert "fish" in next(iter(passed))
    assert project.answers_of(next(iter(project.items))) == {"u1": "cat", "u2": "dog"}


def of_argilla(number, responses, **fields):
    """A record as Argilla writes it."""
    return {"id": str(number), "fields": fields, "metadata": {}, "suggestions": {}, "responses": {"kind": responses}, "vectors": {}, "status": "completed"}  # fmt: skip


def test_pictures_of_argilla(begin):
    project, folder = begin(LABELS)
    anew = io.BytesIO()
    with Image.open(folder / "images/b.png") as picture:
        picture.save(anew, "PNG", compress_level=0)
    assert anew.getvalue() != (folder / "images/b.png").read_bytes()
    other = io.BytesIO()
    Image.fromarray(np.full((50, 100, 3), 7, np.uint8)).save(other, "PNG")
    cat = [{"value": "cat", "user_id": "u1"}]
    records = [
        of_argilla(1, cat, note="the first", photo=data_url("image/png", (folder / "a.png").read_bytes())),
        of_argilla(2, [{"value": "dog", "user_id": "u1"}], photo=data_url("image/png", anew.getvalue())),
        of_argilla(3, cat, photo=data_url("image/png", other.getvalue())),
        of_argilla(4, cat, photo="data:image/png;base64,???"),
        of_argilla(5, [{"value": "dog", "user_id": "u2"}], photo="a.png"),
    ]
    added, answers, passed = taken(project, folder, records)
    assert (added, answers) == (0, 3)
    assert sorted(reason.split(";")[0] for reason in passed) == [
        "a data address that is not base64: data:image/png",
        "it is like no file in the folder",
    ]
    assert of_item(project, folder, "a.png") == {"u1": "cat", "u2": "dog"}
    assert of_item(project, folder, "b.png") == {"u1": "dog"}


def test_a_picture_goes_to_the_one_file_that_is_quite_like_it(begin):
    def more(folder):
        pixels = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
        for name, dot in (("c.png", 0), ("d.png", 255)):
            pixels[:3, :3] = dot
            Image.fromarray(pixels).save(folder / name)
        for name in ("e.png", "f.png"):
            (folder / name).write_bytes((folder / "a.png").read_bytes())

    project, folder = begin(LABELS, more=more)
    anew = io.BytesIO()
    with Image.open(folder / "c.png") as picture:
        picture.save(anew, "PNG", compress_level=0)
    lossy = io.BytesIO()
    with Image.open(folder / "c.png") as picture:
        picture.save(lossy, "JPEG")
    cat = [{"value": "cat", "user_id": "u1"}]
    records = [
        of_argilla(1, cat, photo=data_url("image/png", anew.getvalue())),
        of_argilla(2, cat, photo=data_url("image/jpeg", lossy.getvalue())),
        of_argilla(3, cat, photo=data_url("image/png", (folder / "a.png").read_bytes())),
    ]
    assert taken(project, folder, records)[:2] == (0, 1)
    assert of_item(project, folder, "c.png") == {"u1": "cat"}, "a few pixels tell it from d.png"
    reasons = [reason.split(";")[0] for reason in taken(project, folder, records)[2]]
    assert reasons == ["it is like no file in the folder", "several files are like it: a.png, e.png, f.png"]


def test_records_that_name_nothing_here_are_passed_over(begin):
    project, folder = begin(LABELS)
    outside = folder.parent / f"{folder.name}-outside.png"
    outside.write_bytes((folder / "a.png").read_bytes())
    cat = [{"value": "cat", "user_id": "u1"}]
    shown = {
        "it shows nothing": {"text": ""},
        "it shows nothing; ": {"table": {"a": 1}},
        "its file is outside the folder": {"image": f"../{outside.name}"},
        "its file is not there": {"photo": "https://h.org/view?id=3"},
        "its file is not there: https": {"image_url": "https://h.org/a2.png?sig=1"},
        "it names no file": {"image": "iVBORw0KGgo" * 1000},
        "half of a surrogate": {"text": "x\ud800"},
    }
    records = [of_argilla(number, cat, **fields) for number, fields in enumerate(shown.values())]
    records.append(of_argilla(99, cat, source="images/b.png", note="What is in the file a.png"))
    added, answers, passed = taken(project, folder, records)
    assert (added, answers) == (0, 1), "the last one"
    assert of_item(project, folder, "b.png") == {"u1": "cat"}
    assert sum(passed.values()) == len(shown)
    for reason in shown:
        assert any(reason in each for each in passed), (reason, passed)
    assert max(map(len, passed)) < 400


def test_a_file_that_cannot_be_read_hinders_no_other(begin, monkeypatch):
    project, folder = begin(LABELS)
    read = Path.read_bytes
    reading = lambda path: (_ for _ in ()).throw(PermissionError(path)) if path.name == "a.png" else read(path)  # noqa: E731
    picture = data_url("image/png", (folder / "images/b.png").read_bytes())
    monkeypatch.setattr(Path, "read_bytes", reading)
    records = [of_argilla(1, [{"value": "cat", "user_id": "u1"}], photo=picture)]
    assert taken(project, folder, records) == (0, 1, {})


def test_a_folder_may_be_named_by_a_way_around(begin, monkeypatch):
    project, folder = begin(BOXES)
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert taken(project, Path(".."), CVAT, "export.xml") == (0, 1, {})


def test_chats_of_argilla(begin):
    project, folder = begin(LABELS, ["hello"])
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
    records = [
        of_argilla(1, [{"value": "cat", "user_id": "u1"}], chat=turns[:1], note="not shown"),
        of_argilla(2, [{"value": "dog", "user_id": "u1"}], chat=turns),
    ]
    assert taken(project, folder, records)[:2] == (1, 2), "a chat that is not asked about yet is a new item"
    assert [project.answers_of(id) for id in project.items] == [{"u1": "cat"}, {"u1": "dog"}]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{", "no JSON"),
        ([of_argilla(1, []) | {"fields": ["a"]}], "expected Label Studio"),
        ("[]", "expected Label Studio"),
        ([{"id": 1, "image": "a.png", "label": "cat"}], "not JSON-MIN"),
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><annotations><image name="a.png"/></annotations>', "document type"),
        ('<?xml version="1.0"?><annotations><image name="a.png">', "broken"),
        ('<?xml version="1.0"?><annotations><image name="a.png" width="x" height="1"></image></annotations>', "numbers"),
        ('<?xml version="1.0"?><annotations><image name="a.png" width="0" height="1"><box label="cat" xtl="0" ytl="0" xbr="1" ybr="1"/></image></annotations>', "numbers"),
        ([{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "choices", "value": {}}]}]}], "as Label Studio exports"),
        ([{"data": {}, "annotations": []}], "shows an image"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_taken_in(begin, raw, message):
    project, folder = begin(LABELS)
    with pytest.raises(DataError, match=message):
        taken(project, folder, raw, "broken")
    assert not project.store.events()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("<View", "no XML"),
        ('<View><Image name="i" value="$image"/></View>', "expected one of Choices"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View/>', "plain XML"),
        (
            '<View><Text name="t" value="$text"/><Rating name="r" toName="t" maxRating="3000000"/></View>',
            "expected 2 to",
        ),
        ('<View><Text name="t" value="$text"/><Rating name="r" toName="t" maxRating="x"/></View>', "expected 2 to"),
        (
            '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="one"/></Choices></View>',
            "at least 2",
        ),
    ],
)
def test_configurations_that_nothing_answers(config, message):
    with pytest.raises(ConfigError, match=message):
        label_studio.controls(config)


def test_a_configuration_of_two_controls():
    config = """<View><!-- a comment --><Audio name="sound" value="$clip"/><Header value="Listen."/>
    <Choices name="who" toName="sound"><Choice value="Ann"/><Choice value="Ben"/></Choices>
    <TextArea name="words" toName="sound"/><Brush name="b" toName="sound"/></View>"""
    first, second = label_studio.controls(config)
    assert (first.kind, first.key, first.question.kind, first.question.options) == (
        "audio",
        "clip",
        "label",
        ("Ann", "Ben"),
    )
    assert (second.name, second.shows, second.question.kind) == ("words", "sound", "transcribe")


def test_a_correction_made_there_is_taken_in_and_is_not_undone_here(begin):
    project, folder = begin(LABELS, ["hello"])

    def tasks(label):
        result = {"type": "choices", "value": {"choices": [label]}}
        return [
            {
                "id": 1,
                "data": {"text": "hello"},
                "annotations": [{"id": 1, "completed_by": {"email": "ann"}, "result": [result]}],
            }
        ]

    (item,) = project.items
    assert taken(project, folder, tasks("cat"))[1] == 1
    assert taken(project, folder, tasks("dog"))[1] == 1
    assert project.answers_of(item) == {"ann": "dog"}
    assert project.undo("ann", "u") is None
    assert project.progress("ann")["yours"] == 0


@pytest.mark.parametrize("kind", ["rate", "choose", "correct"])
def test_questions_about_answers_are_not_exchanged(begin, kind):
    rows = {"rate": ("bad", "good")}.get(kind, ())
    row = (
        {"prompt": "Q", "chosen": "A", "rejected": "B"}
        if kind == "choose"
        else {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    )
    project, folder = begin(Question(kind, "", rows), raw=[row])
    with pytest.raises(ConfigError, match="about answers"):
        formats.give(project, folder)
    with pytest.raises(ConfigError, match="about answers"):
        taken(project, folder, [{"data": {"text": "Q"}, "annotations": []}])


def test_what_several_items_show_is_not_guessed(begin):
    project, folder = begin(
        LABELS, raw=[{"messages": [{"role": "user", "content": "Q"}], "meta": {"n": n}} for n in range(2)]
    )
    result = {"type": "choices", "value": {"choices": ["cat"]}}
    _, answers, passed = taken(
        project, folder, [{"data": {"text": "Q"}, "annotations": [{"id": 1, "completed_by": 1, "result": [result]}]}]
    )
    assert answers == 0
    assert "several items" in next(iter(passed))


@pytest.mark.parametrize(
    "task",
    [
        {"annotations": None}, {"annotations": [5]}, {"data": []}, {"meta": []}, {"meta": {"said_by": 5}}, {"annotations": [{"result": ["x"]}]},
        {"annotations": [{"completed_by": "\ud800", "result": []}]}, {"annotations": [{"result": [label_studio_box(x=float("inf"))]}]},
        {"annotations": [{"result": [label_studio_box(x="a")]}]},
    ],
)  # fmt: skip
def test_damaged_tasks_end_in_a_message_and_keep_nothing(begin, task):
    project, folder = begin(BOXES)
    raw = [{"id": 1, "data": {"image": "a.png"}, "annotations": []} | task]
    with contextlib.suppress(DataError):
        assert taken(project, folder, raw)[1] == 0
    assert not project.store.events()


@pytest.mark.parametrize("seconds", ["soon", 10**30, -1, {}, float("nan"), True])
def test_seconds_that_are_none_are_left_out(begin, seconds):
    project, folder = begin(LABELS, ["hello"])
    result = {"type": "choices", "value": {"choices": ["cat"]}}
    annotation = {"id": 1, "completed_by": 1, "result": [result], "lead_time": seconds}
    assert taken(project, folder, [{"data": {"text": "hello"}, "annotations": [annotation]}])[1] == 1
    assert project.store.events()[0].seconds is None


def test_names_are_held_to_the_rule_of_the_pages(begin):
    project, folder = begin(LABELS, ["hello"])
    result = {"type": "choices", "value": {"choices": ["cat"]}}
    annotations = [
        {"id": n, "completed_by": name, "result": [result]} for n, name in enumerate(("", "\u202eevil", "x" * 300))
    ]
    _, answers, passed = taken(project, folder, [{"data": {"text": "hello"}, "annotations": annotations}])
    assert answers == 0
    assert sum(passed.values()) == 3
