"""Annotation in Python: open a project on data, ask models for guesses, write what people said as rows."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.annotate import export as exporting
from plait.annotate import items, review
from plait.annotate.kinds import Question
from plait.annotate.project import Project
from plait.annotate.store import EXPECTED_FILE, Item, Prediction, Store
from plait.errors import ConfigError, PlaitError
from plait.recipes.overrides import changed
from plait.runtime.database import StorageError
from plait.runtime.files import atomic_write

if TYPE_CHECKING:
    from plait.api.model import Model

STORE = "annotations.sqlite"
REASONS = 3  # that are said
MOST_REASONS = 20  # for which answers of another program are passed over
GUESSES_AT_ONCE = 16  # items whose guesses are kept together
Say = Callable[[str], object]


def store_of(data: Path) -> Path:
    """The file of the annotations of a data folder, or of one file of rows."""
    return data / STORE if data.is_dir() else data.with_suffix(f".{STORE}")


def open_project(
    data: Path, question: Question | None = None, overrides: Sequence[str] = (), say: Say = print
) -> Project:
    """The project on `data`, begun with `question` if there is none yet; items that are new are added.
    `overrides`: of how items are shared out (plait.annotate.project.Plan), such as overlap=2; the others stay as they were. Raises ConfigError, DataError."""
    if not data.exists():
        raise ConfigError(f"{data} is not there; expected a folder of rows or media, or a .jsonl file")
    if question is None and not store_of(data).is_file():
        raise ConfigError(
            f"{store_of(data)} is not there: nothing is asked about {data} yet; expected --ask, such as: --ask label --options 'cat,dog'"
        )
    is_new = not store_of(data).is_file()
    store = Store(store_of(data), question)
    try:
        unfit: Counter[str] = Counter()
        listed = list(items.read(data, store.question, on_bad=lambda error: unfit.update([str(error)])))
        added = store.add_items(listed)
        project = Project(store)
        if overrides:
            project = Project(store, changed(project.plan, overrides))
        if not project.items:
            reasons = "; ".join(list(unfit)[:REASONS]) or "it is empty"
            raise ConfigError(f"{data}: nothing in it can be asked about with --ask {store.question.kind}: {reasons}")
    except BaseException as error:
        store.close()
        if is_new:
            store.remove()  # so that another question may be asked
        if isinstance(error, sqlite3.Error):
            raise ConfigError(f"{store.path}: {error}; expected {EXPECTED_FILE}") from error
        raise
    for message in list(unfit)[:REASONS]:
        say(f"left out: {message}")
    if len(unfit) > REASONS:
        say(f"left out: {len(unfit) - REASONS} more")
    say(f"{len(project.items)} items, {added} of them new, in {store.path}")
    missing = set(project.items) - {item.id for item in listed}
    changed_media = items.changed([project.items[id] for id in missing], data)
    project.leave_out(changed_media)
    if changed_media:
        say(f"{len(changed_media)} of them are gone from {data}, or were changed: what was said of them is kept, and they are asked about no more")  # fmt: skip
    if rows := len(missing - changed_media):
        say(f"{rows} of them are not in {data}, but came as rows before: they are still asked about")
    return project


@contextmanager
def reading(data: Path) -> Iterator[Project]:
    """The project on `data` as it stands, also while pages ask about it. Raises ConfigError."""
    if not store_of(data).is_file():
        raise ConfigError(
            f"{store_of(data)} is not there: nothing was asked about {data}; expected plait annotate {data} first"
        )
    store = Store(store_of(data), reading=True)
    try:
        project = Project(store)
        project.leave_out(items.changed(project.items.values(), data, by_content=False))
        yield project
    except sqlite3.Error as error:
        raise ConfigError(f"{store.path}: {error}; expected {EXPECTED_FILE}") from error
    finally:
        store.close()


def guesses(
    model: Model,
    name: str,
    project: Project,
    folder: Path,
    wanted: Callable[[], bool] = lambda: True,
    on_bad: Callable[[PlaitError], object] = lambda error: None,
) -> Iterator[Prediction]:
    """What a model guesses of the items that have no answer and no guess of this name yet, in their order. Items that it cannot read are
    passed over, and `on_bad` is told why."""
    for id, item in list(project.items.items()):
        if not wanted():
            return
        if (
            item.gold is not None
            or name in project.predictions.get(id, {})
            or project.is_complete(id)
            or project.is_absent(id)
        ):
            continue
        try:
            yield guess(model, name, project.question, item, folder)
        except PlaitError as error:
            on_bad(error)


def guess(model: Model, name: str, question: Question, item: Item, folder: Path) -> Prediction:
    """What a model guesses of one item (plait.annotate.guessing). Raises PlaitError."""
    from plait.annotate.guessing import Weighing, asking
    from plait.infer.likelihood import pair_log_likelihoods

    questions = asking(items.sample_of(item, folder, model.network.vocabulary.modalities), question)
    if isinstance(questions, Weighing):
        return Prediction(item.id, name, *questions.settled(pair_log_likelihoods(model.engine, questions.pairs)))
    answers = model.generate_all(questions.requests(model.usual))
    for answer in answers:
        if answer.error is not None:
            raise ConfigError(str(answer.error)) from answer.error
    return Prediction(item.id, name, *questions.settled(answers))


def ask_models(
    models: Mapping[str, Model], project: Project, folder: Path, wanted: Callable[[], bool], say: Say = print
) -> None:
    """Have models guess, a few items at a time, until all have or nobody wants it any more."""
    for name, model in models.items():
        held: list[Prediction] = []
        reasons: Counter[str] = Counter()
        bad = partial(_count, reasons)
        for prediction in guesses(model, name, project, folder, wanted, bad):
            held.append(prediction)
            if len(held) == GUESSES_AT_ONCE:
                _keep(project, held, say)
                held = []
        _keep(project, held, say)
        if reasons:
            say(f"{name} passed over {reasons.total()} items: {'; '.join(list(reasons)[:REASONS])}")
        say(f"{name} has guessed {sum(name in by_model for by_model in project.predictions.values())} items")


def _count(reasons: Counter[str], error: PlaitError) -> None:
    reasons[str(error)] += 1


def _keep(project: Project, predictions: list[Prediction], say: Say) -> None:
    """Keep guesses; a full disk ends no others."""
    try:
        project.add_predictions(predictions)
    except StorageError as error:
        say(f"{len(predictions)} guesses are lost: {error}")


def export(
    data: Path,
    to: Path,
    least_confidence: float = 0.0,
    least_gold: float = 0.0,
    agreed_only: bool = False,
    say: Say = print,
) -> dict[str, int]:
    """Write what people said of `data` as the new data folder `to`, as `plait.annotate.export.write` does; returns rows by split. Raises
    ConfigError."""
    with reading(data) as project:
        project.leave_out(items.changed([item for id, item in project.items.items() if project.has_results(id)], data))
        return exporting.write(project, items.folder_of(data), to, least_confidence, least_gold, agreed_only, say)


def status(data: Path) -> dict[str, Any]:
    """How the work on `data` stands (plait.annotate.review.statistics)."""
    with reading(data) as project:
        return review.statistics(project)


def take(data: Path, path: Path, say: Say = print) -> tuple[int, int]:
    """Take in what people said of `data` in Label Studio, Argilla or CVAT; returns how many items and answers are new. Raises DataError."""
    from plait.annotate import formats

    project = open_project(data, say=say)
    try:
        added, answers, passed = formats.take(project, items.folder_of(data), path)
    finally:
        project.store.close()
    for reason, count in passed.most_common(MOST_REASONS):
        say(f"{count} passed over: {reason}")
    if further := sum(count for _, count in passed.most_common()[MOST_REASONS:]):
        say(f"{further} more passed over, for {len(passed) - MOST_REASONS} reasons more")
    return added, answers


def give(data: Path, path: Path) -> None:
    """Write the project on `data` as Label Studio's tasks at `path`, and its configuration beside it, as `.xml`. Raises ConfigError."""
    from plait.annotate import formats

    if path.suffix != ".json" or not path.parent.is_dir():
        raise ConfigError(f"{path}: expected the name of a .json file in a folder that is there")
    with reading(data) as project:
        shapes = formats.give(project, items.folder_of(data))
    atomic_write(path, json.dumps(shapes["tasks"], indent=1, ensure_ascii=False))
    atomic_write(path.with_suffix(".xml"), shapes["config"])
