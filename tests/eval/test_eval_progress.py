"""How far an evaluation is: batches that report between them and change no answer, a bar, and lines."""

import io
from contextlib import contextmanager

import pytest
from rich.console import Console
from small_suite import SAMPLING, WORLD, evaluation, task
from worlds import text

from plait.contract import Message
from plait.eval import runner
from plait.eval.progress import ConsoleProgress, NoProgress
from plait.infer.request import Request


class Recorded:
    """Keeps what was reported."""

    def __init__(self):
        self.asked = []

    @contextmanager
    def rows(self, what, total):
        done = []
        yield done.append
        self.asked.append((what, total, done))


QUESTIONS = [(Message("user", (text(f"draw {n}"),)),) for n in range(300)]


@pytest.fixture
def asked_at_once():
    """The answers that the engine gives to all questions, and an evaluation with the same engine."""
    progress = Recorded()
    measured = evaluation(task("text->text"), progress=progress, seed=7)
    measured.sampling = {**SAMPLING, "temperature": 1.0, "max_tokens": 4}
    requests = [Request(q, to="text", seed=7 * 1_000_003 + n, **measured.sampling) for n, q in enumerate(QUESTIONS)]
    answers = measured.engine.generate(requests)
    return measured, progress, [next((part.value for part in answer.message.parts), None) for answer in answers]


def test_asking_in_batches_changes_no_answer(asked_at_once):
    measured, progress, expected = asked_at_once
    answers = measured.ask(QUESTIONS, "text", "all of them")
    assert [part.value if part else None for part in answers] == expected
    assert len(set(expected)) > 100, "the noise of each row is its own"
    assert progress.asked == [("all of them", 300, [128, 256, 300])]


def test_what_has_no_name_reports_nothing(asked_at_once):
    measured, progress, expected = asked_at_once
    assert [part.value if part else None for part in measured.ask(QUESTIONS[:2], "text")] == expected[:2]
    assert progress.asked == []


def test_every_question_of_a_task_is_counted():
    """The questions, the blanked ones and those about other media, each by its name."""
    samples = [WORLD.sample([WORLD.part("image", n), text("what?")], [text(f"thing {n}")], "see") for n in range(5)]
    samples = [type(s)(s.messages, s.task, {"expect": {"exact": f"thing {n}"}}) for n, s in enumerate(samples)]
    progress, see = Recorded(), task("image->text", "see")
    measured = evaluation(see, rows={("see", "test"): samples}, progress=progress)
    runner.run(measured, str)
    assert progress.asked == [
        ("image->text see test", 5, [5]),
        ("image->text see test, input blanked", 5, [5]),
        ("image->text see test, another row's media", 5, [5]),
    ]


# on a console


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_without_a_terminal_a_line_at_most_every_ten_seconds():
    file, clock = io.StringIO(), Clock()
    progress = ConsoleProgress(Console(file=file, width=40), clock)
    for name in ("image->text [see] test", "again"):
        with progress.rows(name, 1000) as advance:
            for done in (0, 128, 256, 384):
                advance(done)
                clock.now += 4
    assert file.getvalue().splitlines() == [
        "image->text [see] test: 384/1000 rows  32.0 rows/s  0:19 left",
        "again: 256/1000 rows  32.0 rows/s  0:23 left",
    ]


def test_what_is_over_soon_has_no_line():
    file = io.StringIO()
    with ConsoleProgress(Console(file=file), Clock()).rows("soon", 10) as advance:
        advance(10)
    assert file.getvalue() == ""


def test_a_terminal_has_a_bar_that_vanishes():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    with ConsoleProgress(console).rows("image->text [see] test", 10) as advance:
        advance(3)
        advance(10)
    shown = file.getvalue()
    assert "image->text [see] test" in shown, "a name is no markup"
    assert "10/10" in shown
    assert "\x1b[2K" in shown.splitlines()[-1], "the bar is wiped off at its end"


def test_an_evaluation_without_a_progress_is_silent(capsys):
    silent = evaluation(task("text->text"))
    assert isinstance(silent.progress, NoProgress)
    silent.ask(QUESTIONS[:1], "text", "one")
    assert capsys.readouterr() == ("", "")
