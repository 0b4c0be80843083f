"""Who is asked what, what is kept, and what comes back after a kill."""

import json
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from plait.annotate.kinds import Question
from plait.annotate.project import LEASE, Plan, Project
from plait.annotate.store import ANSWER, DECIDE, IMPORT, SKIP, Event, Item, Prediction, Store
from plait.errors import ConfigError
from plait.runtime.database import StorageError

LABELS = Question("label", "", ("cat", "dog"))


class Clock:
    """Seconds that a test turns on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def items(count, gold=()):
    row = {"messages": [{"role": "user", "content": "?"}]}
    return [Item(f"i{number}", row, gold="cat" if number in gold else None) for number in range(count)]


@pytest.fixture
def begin(tmp_path):
    """Opens projects, and closes them at the end."""
    opened = []

    def begin(count=3, plan=None, question=LABELS, gold=(), name="a.sqlite"):
        store = Store(tmp_path / name, question)
        opened.append(store)
        store.add_items(items(count, gold))
        return Project(store, plan or Plan(gold_every=0), Clock())

    yield begin
    for store in opened:
        store.close()


def say(project, person, value="cat", item=None, id=None, kind=ANSWER):
    item = item or project.next(person).id
    return project.say(kind, item, person, value, id or f"{person}-{item}-{value}-{kind}")


def test_each_item_is_asked_of_as_many_as_the_plan_says(begin):
    project = begin(3, Plan(overlap=2, gold_every=0))
    asked = {person: [] for person in ("ann", "ben", "cid")}
    for person in ("ann", "ben", "cid") * 3:
        item = project.next(person)
        if item is not None:
            asked[person].append(item.id)
            say(project, person, item=item.id)
    everything = sorted(id for ids in asked.values() for id in ids)
    assert everything == sorted([f"i{number}" for number in range(3)] * 2)
    assert all(len(set(each)) == len(each) for each in asked.values()), "nobody is asked twice"
    assert project.progress()["complete"] == 3
    assert project.next("dan") is None


def test_two_people_are_not_asked_about_one_item_at_once(begin):
    project = begin(2)
    assert project.next("ann").id != project.next("ben").id
    assert project.next("cid") is None, "both are handed out"
    assert project.next("ann").id == "i0", "what is not answered comes again"


def test_what_was_handed_out_and_forgotten_is_handed_out_again(begin):
    project = begin(1)
    project.next("ann")
    assert project.next("ben") is None
    project.clock.now += LEASE + 1
    assert project.next("ben").id == "i0"
    say(project, "ann", item="i0")
    say(project, "ben", item="i0")
    assert project.answers_of("i0") == {"ann": "cat", "ben": "cat"}, "what comes late is kept, too"


def test_a_clock_that_jumps_loses_nothing(begin, monkeypatch):
    project = begin(3)
    for now in (2e9, 10.0, 1e9):
        monkeypatch.setattr("plait.annotate.store.time.time", lambda now=now: now)
        say(project, "ann")
    again = Project(project.store, project.plan)
    assert [again.answers_of(f"i{n}") for n in range(3)] == [{"ann": "cat"}] * 3
    assert [event.item for event in project.store.events()] == ["i0", "i1", "i2"], "the order is that of saying"


def test_the_same_answer_sent_twice_is_kept_once(begin):
    project = begin(2)
    assert say(project, "ann", item="i0", id="x") is not None
    assert say(project, "ann", item="i0", id="x") is None
    for person, value, item in (("ann", "dog", "i0"), ("ben", "cat", "i0"), ("ann", "cat", "i1")):
        with pytest.raises(ConfigError, match="another answer's"):
            say(project, person, value, item=item, id="x")
    assert project.answers_of("i0") == {"ann": "cat"}
    assert len(project.store.events()) == 1
    say(project, "ann", "dog", item="i0", id="y")
    assert project.answers_of("i0") == {"ann": "dog"}, "a new answer counts"
    assert len(project.store.events()) == 2, "and the old one stays"


def test_undo_goes_back_step_by_step(begin):
    project = begin(2)
    say(project, "ann", "cat", "i0", "1")
    say(project, "ann", "dog", "i0", "2")
    say(project, "ann", "dog", "i1", "3")
    assert project.undo("ann", "4").id == "i1"
    assert project.answers_of("i1") == {}
    assert project.next("ann").id == "i1", "it is theirs again"
    project.undo("ann", "5")
    assert project.answers_of("i0") == {"ann": "cat"}
    project.undo("ann", "6")
    assert project.answers_of("i0") == {}
    assert project.undo("ann", "7") is None
    again = Project(project.store, project.plan)
    assert again.answers_of("i0") == again.answers_of("i1") == {}
    assert len(again.store.events()) == 6
    assert {again.next("ben").id, again.next("cid").id} == {"i0", "i1"}, "nobody has answered them now"


def test_undo_leaves_what_was_given_elsewhere_since(begin):
    project = begin(1)
    say(project, "ann", "cat", "i0", "1")
    project.take([], [Event("2", IMPORT, "i0", "ann", "dog")])
    project.undo("ann", "3")
    assert project.answers_of("i0") == {"ann": "dog"}
    assert Project(project.store, project.plan).answers_of("i0") == {"ann": "dog"}


def test_undo_sent_twice_takes_back_one(begin):
    project = begin(2)
    say(project, "ann", "cat", "i0", "1")
    say(project, "ann", "dog", "i1", "2")
    assert project.undo("ann", "3").id == "i1"
    assert project.undo("ann", "3").id == "i1"
    assert project.answers_of("i0") == {"ann": "cat"}


def test_an_item_that_is_passed_over_goes_to_another(begin):
    project = begin(1)
    say(project, "ann", kind=SKIP)
    assert project.next("ann") is None
    say(project, "ben", kind=SKIP)
    assert project.next("cid") is None, "two passed it over: it is left to a review"
    assert project.answers_of("i0") == {}


def test_known_items_come_now_and_then(begin):
    project = begin(12, Plan(gold_every=3), gold=(10, 11))
    asked = []
    for _ in range(9):
        item = project.next("ann")
        asked.append(item.id)
        say(project, "ann", item=item.id)
    assert [id in ("i10", "i11") for id in asked] == [False, False, True, False, False, True, False, False, False]
    assert project.progress()["items"] == 10


def test_what_models_are_unsure_of_comes_first(begin):
    project = begin(3)
    project.add_predictions(
        [Prediction("i0", "m", "cat", 0.1), Prediction("i1", "m", "dog", 0.2), Prediction("i2", "m", "dog", 0.7)]
    )
    assert project.next("ann").id == "i2"
    project.add_predictions(
        [Prediction("i0", "n", "dog", 0.1), Prediction("i1", "n", "dog", 0.2), Prediction("i2", "n", "dog", 0.2)]
    )
    assert project.next("ben").id == "i0", "two models contradict each other"
    assert [project.next(name).id for name in ("cid",)] == ["i1"]
    plain = Project(project.store, Plan(gold_every=0, is_active=False))
    assert plain.next("ann").id == "i0"


def test_decisions_are_for_reviewers(begin):
    project = begin(1, Plan(gold_every=0, reviewers=("eve",)))
    with pytest.raises(ConfigError, match="one of the reviewers: eve"):
        say(project, "ann", "dog", "i0", kind=DECIDE)
    say(project, "eve", "dog", "i0", kind=DECIDE)
    assert project.decided["i0"].value == "dog"
    assert project.is_complete("i0")
    project.undo("eve", "undo")
    assert not project.decided


def test_decisions_of_two_reviewers_are_taken_back_one_by_one(begin):
    project = begin(1, Plan(gold_every=0))
    say(project, "eve", "dog", "i0", kind=DECIDE)
    say(project, "eva", "cat", "i0", kind=DECIDE)
    project.undo("eve", "1")
    assert project.decided["i0"].value == "cat"
    assert project.next("ann") is None, "what is decided is not asked"
    project.undo("eva", "2")
    assert not project.decided
    assert Project(project.store).decided == {}


def test_a_known_item_that_is_taken_back_is_no_ordinary_one(begin):
    project = begin(3, Plan(gold_every=1), gold=(2,))
    assert project.next("ann").id == "i2"
    say(project, "ann", item="i2")
    project.undo("ann", "u")
    plain = Project(project.store, Plan(gold_every=0))
    assert plain.next("ben").id == "i0"
    assert [project._open("ben", 0.0)] == ["i0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("answer", "nowhere", "ann", "cat", "1"), "expected one of this project's"),
        (("answer", "i0", "ann", "fish", "1"), "expected one of cat, dog"),
        (("answer", "i0", "ann", 7, "1"), "expected a text"),
        (("answer", "i0", "  ", "cat", "1"), "printable"),
        (("answer", "i0", "a\u202eb", "cat", "1"), "printable"),
        (("answer", "i0", "ann", "cat", ""), "new with every answer"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_kept(begin, arguments, message):
    project = begin(1)
    with pytest.raises(ConfigError, match=message):
        project.say(*arguments)
    assert not project.store.events()


def test_history_is_only_added_to(begin):
    project = begin(1)
    say(project, "ann")
    with closing(sqlite3.connect(project.store.path)) as file:
        for query in ("UPDATE events SET value = '\"dog\"'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="say something after it"):
                file.execute(query)


def test_one_process_at_a_time(begin, tmp_path):
    begin(1)
    with pytest.raises(ConfigError, match="in use by another process"):
        Store(tmp_path / "a.sqlite", LABELS)


def test_another_question_does_not_mix_with_the_first(begin, tmp_path):
    project = begin(1)
    say(project, "ann")
    project.store.close()
    with pytest.raises(ConfigError, match="do not mix"):
        Store(tmp_path / "a.sqlite", Question("label", "", ("cat", "bird")))
    store = Store(tmp_path / "a.sqlite")  # leaving it out goes on
    assert store.question == LABELS
    store.close()


def test_a_full_disk_keeps_nothing_of_it_and_says_so(begin):
    project = begin(1)
    item = project.next("ann").id
    pages = project.store.rows("PRAGMA page_count")[0][0]
    project.store._writing.execute(f"PRAGMA max_page_count = {pages}")

    def fill():
        for number in range(2000):
            project.say(ANSWER, item, "ann", "cat", f"{'x' * 90}{number}")

    with pytest.raises(StorageError, match="make room on the disk"):
        fill()
    kept = len(project.store.events())
    project.store._writing.execute("PRAGMA max_page_count = 100000")
    assert project.say(ANSWER, item, "ann", "dog", "again") is not None, "it goes on once there is room"
    again = Project(project.store, project.plan)
    assert len(project.store.events()) == kept + 1
    assert again.answers_of(item) == project.answers_of(item) == {"ann": "dog"}


def test_a_kill_loses_nothing_that_was_answered_for(tmp_path):
    script = tmp_path / "say.py"
    script.write_text(
        textwrap.dedent("""
        import os
        import sys
        from pathlib import Path
        from plait.annotate.kinds import Question
        from plait.annotate.project import Plan, Project
        from plait.annotate.store import Item, Store
        store = Store(Path(sys.argv[1]), Question("label", "", ("cat", "dog")))
        store.add_items([Item(f"i{n}", {}) for n in range(100000)])
        project = Project(store, Plan(gold_every=0))
        for number in range(100000):
            project.say("answer", project.next("ann").id, "ann", "cat", f"{os.getpid()}-{number}")
            print(number, flush=True)
        """)
    )
    path = tmp_path / "a.sqlite"
    told = -1
    for _ in range(2):  # the second one goes on where the first was killed
        with subprocess.Popen([sys.executable, str(script), str(path)], stdout=subprocess.PIPE, text=True) as process:
            told += sum(1 for _, line in zip(range(50), process.stdout, strict=False))
            process.kill()
        store = Store(path)
        said = len(store.events())
        store.close()
        assert told + 1 <= said
        told = said - 1


def test_foreign_scripts_are_kept_in_one_spelling(begin):
    project = begin(1, question=Question("transcribe", ""), name="b.sqlite")
    text = "cafe\u0301 \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d \U0001f469\u200d\U0001f680"
    project.say(ANSWER, "i0", "\u0639\u0644\u064a", text, "1")
    assert project.answers_of("i0") == {"\u0639\u0644\u064a": text.replace("e\u0301", "\xe9")}
    with pytest.raises(ConfigError, match="surrogate"):
        project.say(ANSWER, "i0", "ann", "\ud800", "2")
    with pytest.raises(ConfigError, match="at most"):
        project.say(ANSWER, "i0", "ann", "x" * 20_001, "3")


def test_what_was_said_elsewhere_is_taken_in_once(begin):
    project = begin(1)
    events = [Event("ls-1", IMPORT, "new", "ben", "dog"), Event("ls-2", IMPORT, "i0", "ben", "cat")]
    assert project.take([Item("new", {})], events) == (1, 2)
    assert project.take([Item("new", {})], events) == (0, 0)
    assert project.answers_of("new") == {"ben": "dog"}
    with pytest.raises(ConfigError, match="expected one of cat, dog"):
        project.take([], [Event("ls-3", IMPORT, "i0", "ben", "fish")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("guess", "", ()), "expected one of label"),
        (("label", "", ("cat",)), "at least 2"),
        (("label", "", ("cat", "cat ")), "differ"),
        (("transcribe", "", ("cat",)), "expected none"),
    ],
)
def test_questions_that_cannot_be_asked(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Question(*arguments)


@pytest.mark.parametrize(
    "value",
    ["x", [{"label": "cat"}], [{"label": "cat", "box": [1, 2, 3]}], [{"label": "cat", "box": [5, 5, 5, 9]}], [{"label": "fish", "box": [1, 1, 5, 5]}], [{"label": "cat", "box": [1, 1, "5", 5]}]],
)  # fmt: skip
def test_boxes_that_are_none(value):
    with pytest.raises(ConfigError):
        Question("box", "", ("cat",)).checked(value)


def test_boxes_have_one_form():
    question = Question("box", "", ("cat", "dog"))
    value = [{"label": "dog", "box": [10.4, 500, 300, 1200]}, {"label": "cat", "box": [0, 0, 5, 5]}]
    assert question.checked(value) == [
        {"label": "cat", "box": [0, 0, 5, 5]},
        {"label": "dog", "box": [10, 500, 300, 1000]},
    ]
    assert json.dumps(question.checked([])) == "[]"
