"""What the answers of a project come to: one answer an item, how well people agree, where they do not, how good each one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plait.annotate import consensus
from plait.annotate.agreement import Distance, krippendorff_alpha, pairwise
from plait.annotate.consensus import Consensus
from plait.annotate.kinds import LEAST_CROWD, Json, known, ratings
from plait.annotate.project import MANY_SKIPS, Project
from plait.annotate.store import Item

AGREED = 1e-9  # distance of answers that are one
RIGHT = 0.5  # distance from the known answer under which an answer is right
DECISION, CROWD = "decision", "dawid-skene"


@dataclass(frozen=True)
class Result:
    """The answer to an item, how sure it is, what it comes from, and what everybody answered, by person."""

    item: Item
    value: Json
    confidence: float
    method: str
    answers: Mapping[str, Json]


@dataclass(frozen=True)
class Dispute:
    """An item that a reviewer should decide: how far apart its answers lie (0 to 1), what they come to without a decision (None where all
    passed it over), and who passed it over."""

    item: Item
    distance: float
    settled: Consensus | None
    answers: Mapping[str, Json]
    passed_over: tuple[str, ...]


def trusted(project: Project, least_gold: float = 0.0) -> dict[str, dict[str, Json]]:
    """Answers by item and person, items with known answers left out, and persons who are right about less than `least_gold` of those."""
    out = {name for name, (right, count) in gold_scores(project).items() if count and right / count < least_gold}
    return {
        id: {name: value for name, value in project.answers_of(id).items() if name not in out}
        for id, item in project.items.items()
        if item.gold is None
    }


def settled(project: Project, least_gold: float = 0.0) -> dict[str, Consensus]:
    """What people come to without decisions, by item."""
    answers = {id: values for id, values in trusted(project, least_gold).items() if values}
    return known(project.question.kind).settle(answers) if answers else {}


def results(project: Project, least_gold: float = 0.0) -> list[Result]:
    """The answers to all items that have one, in their order: a reviewer's decision, or what people come to."""
    with project.lock:
        answers, by_item = trusted(project, least_gold), settled(project, least_gold)
        decided = {id: vote.value for id, vote in project.decided.items()}
    method, listed = _method(project, answers), []
    for id, by_person in answers.items():
        item = project.items[id]
        if id in decided:
            listed.append(Result(item, decided[id], 1.0, DECISION, by_person))
        elif id in by_item:
            listed.append(Result(item, by_item[id].value, by_item[id].confidence, method, by_person))
    return listed


def _method(project: Project, answers: Mapping[str, Mapping[str, Json]]) -> str:
    kind = known(project.question.kind)
    is_crowd = len({name for values in answers.values() for name in values}) >= LEAST_CROWD
    return CROWD if kind.is_categorical and is_crowd else kind.method


def disputes(project: Project) -> list[Dispute]:
    """Items without a decision about which people differ, or which they pass over, the furthest apart first."""
    kind = known(project.question.kind)
    with project.lock:
        by_item = settled(project)
        listed = []
        for id, item in project.items.items():
            if item.gold is not None or project.decision(id) is not None or project.is_absent(id):
                continue
            answers = project.answers_of(id)
            skips = tuple(name for name, vote in project.votes[id].items() if not vote.is_answer)
            apart = _spread(list(answers.values()), kind.distance)
            if apart > AGREED or len(skips) >= MANY_SKIPS:
                listed.append(Dispute(item, apart, by_item.get(id), answers, skips))
    return sorted(listed, key=lambda dispute: -dispute.distance)


def is_disputed(project: Project, result: Result) -> bool:
    """Whether the answers that a result comes from differ, and nobody decided."""
    distance = known(project.question.kind).distance
    return result.method != DECISION and _spread(list(result.answers.values()), distance) > AGREED


def _spread(values: list[Json], distance: str | Distance) -> float:
    """Mean distance of two answers; without a distance of their own they are one or not."""
    pairs = [(a, b) for i, a in enumerate(values) for b in values[:i]]
    if not pairs:
        return 0.0
    return sum(float(a != b) if isinstance(distance, str) else distance(a, b) for a, b in pairs) / len(pairs)


def gold_scores(project: Project) -> dict[str, tuple[int, int]]:
    """By person: how many known answers they gave, of how many they were asked."""
    kind = known(project.question.kind)
    scores: dict[str, list[int]] = {}
    for id, item in project.items.items():
        if item.gold is None:
            continue
        for name, value in project.answers_of(id).items():
            score = scores.setdefault(name, [0, 0])
            score[0] += _spread([value, item.gold], kind.distance) < RIGHT
            score[1] += 1
    return {name: (right, count) for name, (right, count) in scores.items()}


def statistics(project: Project) -> dict[str, Any]:
    """How the work stands: progress, Krippendorff's alpha, Cohen's kappa of every two persons, and of each person how many answers, what
    is right of what is known, seconds an answer, and the skill that Dawid and Skene's model sees."""
    kind = known(project.question.kind)
    with project.lock:
        answers = trusted(project)
        votes = ratings(answers)
        persons = sorted({name for values in answers.values() for name in values} | set(gold_scores(project)))
        seconds: dict[str, list[float]] = {}
        for by_person in project.votes.values():
            for name, vote in by_person.items():
                if vote.is_answer and vote.event.seconds is not None:
                    seconds.setdefault(name, []).append(vote.event.seconds)
        golds, progress = gold_scores(project), project.progress()
    skills = _skills(votes) if kind.is_categorical and len(persons) >= LEAST_CROWD else {}
    counts = {name: sum(name in values for values in answers.values()) for name in persons}
    kappas = [pair._asdict() for pair in pairwise(votes)] if kind.is_categorical and votes else []
    return progress | {
        "alpha": krippendorff_alpha(votes, kind.distance) if votes else None,
        "kappas": [pair for pair in kappas if pair["items"]],
        "decided": len(project.decided),
        "disputed": len(disputes(project)),
        "persons": [
            {
                "name": name,
                "answers": counts[name],
                "gold_right": golds.get(name, (0, 0))[0],
                "gold_asked": golds.get(name, (0, 0))[1],
                "seconds": _median(seconds.get(name, [])),
                "skill": skills.get(name),
            }
            for name in persons
        ],
    }


def _skills(votes: list[Any]) -> dict[str, float]:
    if not votes:
        return {}
    by_item, confusions = consensus.dawid_skene(votes)
    prior = consensus.label_shares(by_item)
    return {name: consensus.skill(confusion, prior) for name, confusion in confusions.items()}


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
