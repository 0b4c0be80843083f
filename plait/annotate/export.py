"""Rows of what people said, with where it is from: `plait train --data` reads them as any others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from plait import registry
from plait.annotate import items, review
from plait.annotate.kinds import CHOICES, Question, known
from plait.annotate.project import Project
from plait.contract import WORDS, Message, Part, Sample
from plait.data.importers.core.intake import add_checked
from plait.data.importers.core.records import Record
from plait.data.importers.core.writer import Writer
from plait.errors import ConfigError

FIRST, SECOND, _ = CHOICES
NAMED = 3  # of the items that are left out


def write(
    project: Project,
    media: Path,
    folder: Path,
    least_confidence: float = 0.0,
    least_gold: float = 0.0,
    agreed_only: bool = False,
    say: Callable[[str], object] = print,
) -> dict[str, int]:
    """Write a data folder of all items that have an answer, as sure as `least_confidence` at least and of persons who are right about
    `least_gold` of the known items, with `agreed_only` without those of which people differ and nobody decided; returns rows by split. `media`: the
    folder of the items. Raises ConfigError where there is none."""
    sure = [result for result in review.results(project, least_gold) if result.confidence >= least_confidence]
    if agreed_only:
        sure = [result for result in sure if not review.is_disputed(project, result)]
    absent = [result.item.id for result in sure if project.is_absent(result.item.id)]
    results = [result for result in sure if not project.is_absent(result.item.id)]
    if absent:
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        say(
            f"left out: item {', '.join(absent[:NAMED])}{more}: its picture or clip is gone, or another than when people were asked"
        )
    if not results:
        chosen = " that is chosen" if least_confidence or least_gold or agreed_only else ""
        raise ConfigError(
            f"{project.store.path}: there is no answer{chosen} to write; expected some: label first{', or leave less out' if chosen else ''}"
        )
    if differing := sum(review.is_disputed(project, result) for result in results):
        say(
            f"{differing} of {len(results)} items: people differ and nobody decided, so it is what is likeliest, also where that is a tie; decide on the page "
            "Review, or leave them out: --agreed"
        )
    overlap = project.plan.overlap
    if few := sum(result.method != review.DECISION and len(result.answers) < overlap for result in results):
        say(f"{few} of {len(results)} items have fewer answers than the {overlap} that overlap={overlap} asks for")
    writer = Writer(folder)
    with writer:
        try:
            add_checked(writer, records(project, media, results), say)
            counts = writer.finish()
            writer.note({"format": 1, "annotated": {"question": project.question.as_json(), "rows": counts}})
        except BaseException:
            writer.discard()
            raise
    return counts


def records(project: Project, media: Path, results: Sequence[review.Result]) -> Iterator[Record]:
    """Rows of results; a choice of `same` teaches nothing and is none."""
    modalities = registry.build_all(registry.available())
    for result in results:
        sample = items.sample_of(result.item, media, modalities)
        answered = _answered(sample, result, project.question)
        if answered is not None:
            provenance = {
                "kind": project.question.kind, "by": sorted(result.answers), "confidence": round(result.confidence, 4), "method": result.method,
                "answers": dict(result.answers), "events": _events(project, result), "item": result.item.id,
            }  # fmt: skip
            task = sample.task or f"annotated {project.question.kind}"
            meta = {**sample.meta, "annotated": provenance}
            yield Record(replace(answered, task=task, meta=meta), result.item.split, where=sample.where)


def _events(project: Project, result: review.Result) -> list[int]:
    """Numbers of the events that a result comes from."""
    with project.lock:
        votes = [project.votes[result.item.id][person] for person in result.answers]
        decision = project.decision(result.item.id)
    return sorted(vote.event.number for vote in (*votes, *([decision] if decision else [])))


def _answered(sample: Sample, result: review.Result, question: Question) -> Sample | None:
    """The row with what people say as its answer."""
    kind = known(question.kind)
    before, answers = items.conversation(sample)
    if kind.needs_two:
        if result.value not in (FIRST, SECOND):
            return None
        better, worse = answers if result.value == FIRST else answers[::-1]
        return replace(sample, messages=(*before, *better), rejected=worse)
    *earlier, last = before
    extra: tuple[Part, ...] = ()
    if kind.judges:  # the answer is part of the question, not learned
        extra = (*(part for message in answers[0] for part in message.parts), Part(WORDS, asked(question)))
    elif all(part.type != WORDS for message in before for part in message.parts):
        extra = (Part(WORDS, asked(question)),)
    answer = Message("assistant", (Part(WORDS, kind.write(result.value, question, items.places_in(sample))),))
    asking = replace(last, role="user", parts=(*last.parts, *extra))  # a document is asked about
    return replace(sample, messages=(*earlier, asking, answer), rejected=())


def asked(question: Question) -> str:
    """The words that ask. Words of one's own ask alone, so that the question is the same in rows, on pages and later; ratings tell
    what their numbers mean, and the words of the kind itself, which say little, what may be answered."""
    kind = known(question.kind)
    if kind.judges:
        scale = ", ".join(f"{number}: {option}" for number, option in enumerate(question.options, 1))
        return f"{question.words} Answer with a number. {scale}."
    if not question.options or question.words != kind.words:
        return question.words
    return f"{question.words} Answer with {', '.join(question.options)}."
