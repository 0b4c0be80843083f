"""Annotation in Python: open a project on data, ask models for guesses, write what people said as rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.annotate import export as exporting
from plait.annotate import items, review
from plait.annotate.kinds import Question
from plait.annotate.project import Plan, Project
from plait.annotate.store import Item, Prediction, Store
from plait.errors import ConfigError, PlaitError
from plait.recipes.overrides import parse_value
from plait.runtime.files import atomic_write

if TYPE_CHECKING:
    from plait.api.model import Model

STORE = "annotations.sqlite"
REASONS = 3  # that are said
GUESSES_AT_ONCE = 16  # items whose guesses are kept together
FIELDS = {"overlap": int, "gold_every": int, "is_active": bool, "reviewers": str}
Say = Callable[[str], object]


def plan(overrides: Sequence[str]) -> Plan:
    """How items are shared out, by `key=value`, such as overlap=2. Raises ConfigError."""
    fields: dict[str, Any] = {}
    for entry in overrides:
        key, equals, text = entry.partition("=")
        value = parse_value(text)
        if not equals or key not in FIELDS or not isinstance(value, FIELDS[key]):
            raise ConfigError(
                f"got {entry!r}; expected {', '.join(f'{name}={kind.__name__}' for name, kind in FIELDS.items())}, such as overlap=2"
            )
        fields[key] = tuple(filter(None, map(str.strip, str(value).split(",")))) if key == "reviewers" else value
    return Plan(**fields)


def store_of(data: Path) -> Path:
    """The file of the annotations of a data folder, or of one file of rows."""
    return data / STORE if data.is_dir() else data.with_suffix(f".{STORE}")


def open_project(data: Path, question: Question | None = None, plan: Plan | None = None, say: Say = print) -> Project:
    """The project on `data`, begun with `question` if there is none yet; items that are new are added. Raises ConfigError, DataError."""
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
        added = store.add_items(items.read(data, store.question, on_bad=lambda error: unfit.update([str(error)])))
        project = Project(store, plan)
        if not project.items:
            reasons = "; ".join(list(unfit)[:REASONS]) or "it is empty"
            raise ConfigError(f"{data}: nothing in it can be asked about with --ask {store.question.kind}: {reasons}")
    except BaseException:
        store.close()
        if is_new:
            store.remove()  # so that another question may be asked
        raise
    for message in list(unfit)[:REASONS]:
        say(f"left out: {message}")
    if len(unfit) > REASONS:
        say(f"left out: {len(unfit) - REASONS} more")
    say(f"{len(project.items)} items, {added} of them new, in {store.path}")
    return project


def guesses(
    model: Model, name: str, project: Project, folder: Path, wanted: Callable[[], bool] = lambda: True
) -> Iterator[Prediction]:
    """What a model guesses of the items that have no answer and no guess of this name yet, in their order. Items that it cannot read are
    passed over."""
    for id, item in list(project.items.items()):
        if not wanted():
            return
        if item.gold is not None or name in project.predictions.get(id, {}) or project.is_complete(id):
            continue
        try:
            yield guess(model, name, project.question, item, folder)
        except PlaitError:
            continue


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
        for prediction in guesses(model, name, project, folder, wanted):
            held.append(prediction)
            if len(held) == GUESSES_AT_ONCE:
                project.add_predictions(held)
                held = []
        if held:
            project.add_predictions(held)
        say(f"{name} has guessed {sum(name in by_model for by_model in project.predictions.values())} items")


def export(
    data: Path, to: Path, least_confidence: float = 0.0, least_gold: float = 0.0, say: Say = print
) -> dict[str, int]:
    """Write what people said of `data` as the new data folder `to`; returns rows by split. Raises ConfigError."""
    project = open_project(data, say=say)
    try:
        return exporting.write(project, items.folder_of(data), to, least_confidence, least_gold)
    finally:
        project.store.close()


def status(data: Path, say: Say = print) -> dict[str, Any]:
    """How the work on `data` stands (plait.annotate.review.statistics)."""
    project = open_project(data, say=say)
    try:
        return review.statistics(project)
    finally:
        project.store.close()


def take(data: Path, path: Path, say: Say = print) -> tuple[int, int]:
    """Take in what people said of `data` in Label Studio, Argilla or CVAT; returns how many items and answers are new. Raises DataError."""
    from plait.annotate import formats

    project = open_project(data, say=say)
    try:
        added, answers, passed = formats.take(project, items.folder_of(data), path)
    finally:
        project.store.close()
    for reason, count in passed.most_common():
        say(f"{count} passed over: {reason}")
    return added, answers


def give(data: Path, path: Path, say: Say = print) -> None:
    """Write the project on `data` as Label Studio's tasks at `path`, and its configuration beside it, as `.xml`. Raises ConfigError."""
    from plait.annotate import formats

    project = open_project(data, say=say)
    try:
        shapes = formats.give(project, items.folder_of(data))
    finally:
        project.store.close()
    atomic_write(path, json.dumps(shapes["tasks"], indent=1, ensure_ascii=False))
    atomic_write(path.with_suffix(".xml"), shapes["config"])
