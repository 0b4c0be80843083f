"""Annotation in Python: open a project on data, ask models for guesses, write what people said as rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.annotate import export as exporting
from plait.annotate import items, review
from plait.annotate.export import asked
from plait.annotate.kinds import Json, Question, known
from plait.annotate.project import Plan, Project
from plait.annotate.store import Item, Prediction, Store
from plait.contract import WORDS, Message, Part
from plait.errors import ConfigError, PlaitError
from plait.infer.request import Request
from plait.recipes.overrides import parse_value

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
    """What a model guesses of one item. Of labels and ratings it weighs every one; its doubt is 1 less the share of the likeliest. What is
    written has the doubt of its mean token. Raises PlaitError."""
    kind = known(question.kind)
    sample = items.sample_of(item, folder, model.network.vocabulary.modalities)
    before, answers = items.conversation(sample)
    *earlier, last = before
    parts = last.parts
    if kind.judges:
        parts = (*parts, *(part for message in answers[0] for part in message.parts))
    if kind.judges or all(part.type != WORDS for message in before for part in message.parts):
        parts = (*parts, Part(WORDS, asked(question)))
    messages = (*earlier, Message("user", parts))
    if kind.needs_two:
        return _weighed(model, name, item, [(messages, answer[0].parts) for answer in answers], ["first", "second"])
    if question.options and not kind.needs_media:
        values: list[Json] = list(range(1, len(question.options) + 1)) if kind.judges else list(question.options)
        return _weighed(model, name, item, [(messages, (Part(WORDS, str(value)),)) for value in values], values)
    request = Request(messages, to=WORDS, **{**model.usual, "temperature": 0.0, "max_tokens": 200, "logprobs": 0})
    answer = model.generate_all([request])[0]
    if answer.error is not None:
        raise ConfigError(str(answer.error)) from answer.error
    text = "".join(str(part.value) for part in answer.message.parts if part.type == WORDS).strip()
    value = question.checked(kind.parse(text, question, items.places_in(sample)))
    logs = [token.logprob for token in answer.logprobs]
    return Prediction(item.id, name, value, 1 - math.exp(sum(logs) / len(logs)) if logs else None)


def _weighed(model: Model, name: str, item: Item, pairs: Sequence[Any], values: Sequence[Json]) -> Prediction:
    """The likeliest of some answers. Raises ConfigError for answers that are no words."""
    import numpy as np

    from plait.infer.likelihood import pair_log_likelihoods

    if any(len(parts) != 1 or parts[0].type != WORDS for _, parts in pairs):
        raise ConfigError("got answers that are not words alone; expected words, which can be weighed")
    logs = pair_log_likelihoods(model.engine, [(messages, parts[0]) for messages, parts in pairs])
    shares = np.exp(logs - np.logaddexp.reduce(logs))
    return Prediction(item.id, name, values[int(shares.argmax())], float(1 - shares.max()))


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
