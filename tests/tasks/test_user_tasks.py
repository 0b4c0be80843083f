"""Tasks and labels found in rows of unknown origin."""

import pytest

from plait.contract import Message, Part, Sample
from plait.tasks.user_data import EXACT, MOST_ATTRIBUTES, _names, labels_of, shown_in_words, split_answer, tasks_of


def asked(*parts):
    return Message("user", tuple(Part("text", p) if isinstance(p, str) else p for p in parts))


def row(question, answer, task=""):
    answer = Part("text", answer) if isinstance(answer, str) else answer
    return Sample((question, Message("assistant", (answer,))), task)


def heard(labels, question="What?", task="hear"):
    """A row for each label, about a clip of its own."""
    return [row(asked(Part("audio", f"{n}.wav"), question), label, task) for n, label in enumerate(labels)]


# tasks and labels


def test_labels_are_closed_sets():
    kinds = ["cat", "dog"]
    rows = [row(asked(Part("image", f"{n}.png"), "What is this?"), kinds[n % 2], "name") for n in range(20)]
    rows += [row(asked(f"Draw: {kinds[n % 2]}"), Part("image", f"{n}.png"), "draw") for n in range(20)]
    labels = labels_of(rows)
    assert labels.values == {"image": {"name": ["cat", "dog"]}}
    assert labels.expected(rows[0]) == {"name": "cat"}
    assert labels.expected(rows[20]) == {"name": "cat"}
    other = row(asked("Draw something"), Part("image", "0.png"), "draw")
    assert labels.expected(other) == {}, "nothing was ordered that a judge could see"


def test_open_answers_are_no_labels():
    rows = [row(asked(Part("image", f"{n}.png"), "Describe."), f"picture number {n}", "tell") for n in range(20)]
    labels = labels_of(rows)
    assert labels.values == {}
    assert labels.expected(rows[3]) == {"exact": "picture number 3"}


def test_two_questions_about_one_clip_are_two_attributes():
    rows = []
    for n in range(30):
        clip = Part("audio", f"{n}.wav")
        rows.append(row(asked(clip, "Which word?"), ["yes", "no"][n % 2], "hear"))
        rows.append(row(asked(clip, "Who speaks?"), ["Ann", "Bob", "Cem"][n % 3], "hear"))
        rows.append(row(asked(f"Say {['yes', 'no'][n % 2]} as {['Ann', 'Bob', 'Cem'][n % 3]}"), clip, "say"))
    labels = labels_of(rows)
    assert set(labels.values["audio"]) == {"Which word?", "Who speaks?"}
    assert labels.expected(rows[0]) == {"Which word?": "yes"}
    assert labels.expected(rows[2]) == {"Which word?": "yes", "Who speaks?": "Ann"}


def test_phrasings_are_one_attribute():
    rows = []
    for n in range(20):
        words = "What is this?" if n % 2 else "Name it"
        rows.append(row(asked(Part("image", f"{n}.png"), words), ["cat", "dog"][n // 10], "name"))
    assert labels_of(rows).values == {"image": {"name": ["cat", "dog"]}}


def test_tasks_are_found_and_named():
    clip = Part("audio", "a.wav")
    rows = [
        row(asked("hi"), "ho"),
        row(asked(clip, "loud?"), "yes", "loud"),
        row(asked(clip, "draw"), Part("image", "b.png")),
    ]
    rows.append(Sample((Message(None, (Part("text", "a document"),)),)))
    tasks = tasks_of(rows, ("test",), {"loud": {"loud": 0.9}})
    assert {(task.name, task.cell) for task in tasks} == {
        ("text->text", "text->text"), ("loud", "audio->text"), ("audio->image", "audio->image"),
    }  # fmt: skip
    assert next(task for task in tasks if task.name == "loud").targets == {"loud": 0.9}


@pytest.mark.parametrize(
    ("words", "label", "named"),
    [("say: banana", "a", False), ("say: a banana", "a", True), ("画一只猫。", "猫", True), ("draw: cats", "cat", False),
     ("a cat!", "cat", True), ("cats and a cat", "cat", True)],
)  # fmt: skip
def test_labels_are_words(words, label, named):
    assert _names(words, label) is named


# labels of several parts


def test_answers_of_several_parts_are_an_attribute_a_part():
    labels = labels_of(heard([f"{('yes', 'no')[n % 2]}, {('Ann', 'Bob', 'Cem')[n % 3]}" for n in range(30)]))
    assert labels.values == {"audio": {"hear, part 1": ["no", "yes"], "hear, part 2": ["Ann", "Bob", "Cem"]}}
    assert labels.of["audio", "4.wav"] == {"hear, part 1": "yes", "hear, part 2": "Bob"}
    rows = heard(["yes, Ann"])
    assert labels.expected(rows[0]) == {"hear, part 1": "yes", "hear, part 2": "Ann"}
    assert labels.expected(heard(["yes"])[0]) == {EXACT: "yes"}, "an answer of another form is compared as it is"


def test_a_hundred_pairs_are_two_closed_sets():
    """Every pair is a label of its own, too many for a closed set; the parts are ten and ten."""
    labels = labels_of(heard([f"w{n % 10}, s{n // 10 % 10}" for n in range(200)]))
    assert [len(values) for values in labels.values["audio"].values()] == [10, 10]


def test_orders_of_several_parts_name_what_a_judge_looks_for():
    rows = [
        row(asked(f"{('red', 'blue')[n % 2]}, {('cat', 'dog', 'owl')[n % 3]}"), Part("image", f"{n}.png"))
        for n in range(30)
    ]
    labels = labels_of(rows)
    assert set(labels.values["image"]) == {"what was ordered, part 1", "what was ordered, part 2"}
    assert sorted(labels.expected(rows[1]).values()) == ["blue", "dog"]


@pytest.mark.parametrize(
    "answers",
    [
        [("cat", "dog, or wolf")[n % 2] for n in range(30)],  # not as many parts everywhere
        [("yes, it is", "no, it is")[n % 2] for n in range(30)],  # one part is always the same
        [(f"yes, {n}", f"no, {n}")[n % 2] for n in range(30)],  # one part is open
        [("a,", "b,")[n % 2] for n in range(30)],  # one part is empty
        [f"{n % 2},{n % 3}" for n in range(30)],  # decimal numbers
        ["one", "two"] * 15,
    ],
)  # fmt: skip
def test_other_answers_stay_whole(answers):
    labels = labels_of(heard(answers))
    values = {"audio": {"hear": sorted(set(answers))}} if len(set(answers)) < 7 else {}
    assert labels.values == values
    assert list(labels.expected(heard(answers)[1])) == (["hear"] if values else [EXACT])


def test_parts_do_not_crowd_out_what_there_is_room_for():
    """Where there is no room for all parts the whole answer is the attribute."""
    rows = []
    for number in range(MOST_ATTRIBUTES - 1):
        rows += heard(["yes", "no"] * 10, f"Question {number}?", f"task {number}")
    rows += heard([f"{'ab'[n % 2]}, {'cd'[n // 2 % 2]}" for n in range(20)], "Both?", "both")
    labels = labels_of(rows)
    assert len(labels.values["audio"]) == MOST_ATTRIBUTES
    assert labels.values["audio"]["both"] == ["a, c", "a, d", "b, c", "b, d"]


def test_two_tasks_with_parts_keep_their_names_apart():
    rows = heard([f"{'ab'[n % 2]}, {'cd'[n // 2 % 2]}" for n in range(20)], task="audio->text pair")
    rows += heard([f"{'ef'[n % 2]}, {'gh'[n // 2 % 2]}" for n in range(20)], "Other?", task="pair")
    labels = labels_of(rows)
    assert len(labels.values["audio"]) == 4
    assert labels.expected(rows[0]) != labels.expected(rows[20])


@pytest.mark.parametrize(
    ("answer", "most", "parts"),
    [
        ("zero, jackson", 0, ["zero", "jackson"]),
        ("zero ,jackson", 0, ["zero", "jackson"]),
        ("零，杰克", 0, ["零", "杰克"]),
        ("3,5", 0, ["3,5"]),
        ("3, 5", 0, ["3", "5"]),
        ("a, b, c", 2, ["a", "b, c"]),
        ("a, b", 1, ["a, b"]),
        ("", 2, [""]),
    ],
)
def test_parts_of_an_answer(answer, most, parts):
    assert split_answer(answer, most) == parts


def test_a_further_part_makes_the_last_one_wrong():
    assert shown_in_words("zero, jackson", ("word", "speaker")) == {"word": "zero", "speaker": "jackson"}
    assert shown_in_words("zero, jackson, theo", ("word", "speaker")) == {"word": "zero", "speaker": "jackson, theo"}
    assert shown_in_words("zero", ("word", "speaker")) == {"word": "zero"}
    assert shown_in_words(" zero, one ", ("word",)) == {"word": "zero, one"}
    assert shown_in_words("zero", ()) == {}
