"""Tasks found in rows of unknown origin: what the input is, what the answer is, and which labels media have.

A *label set* is a small closed set of texts that media go with: the answers to a question about one medium
("What is this?" -> "cat"), or, where no question is asked about media, the words that order one ("cat" -> picture).
Labels of several comma-separated parts ("zero, jackson"), each from a closed set of its own, are one attribute a part.
Judges and baselines are fitted to labels.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plait.contract import Message, Part, Sample
from plait.tasks.task import InGrid

MOST_LABELS = 64
ROWS_A_LABEL = 5  # on average, or it is no closed set
LONGEST_LABEL = 80  # characters
MOST_TASKS = 24
MOST_ATTRIBUTES = 6  # of a modality's media
EXACT = "exact"
Targets = Mapping[str, Mapping[str, float]]
_COMMA = re.compile(r"(?<!\d),|,(?!\d)|，")  # not that of a number: 3,5


@dataclass(frozen=True)
class UserTask(InGrid):
    """One kind of question in a user's rows. `example` is the conversation before the answer, of one of them."""

    name: str
    cell: str
    task: str  # as the rows name it
    example: tuple[Message, ...]
    targets: Mapping[str, float] = field(default_factory=dict)
    splits: tuple[str, ...] = ("test",)
    relative: bool = False
    scores: Sequence[str] = ()

    def blanked(self, sample: Sample, blank: Mapping[str, Callable[[Part], Part]]) -> tuple[Message, ...]:
        """The same question with its media emptied, or, where it is words alone, with a full stop instead of them."""
        messages = []
        for message in sample.messages[:-1]:
            parts = [blank[part.type](part) if part.type in blank else part for part in message.parts]
            if self.gives == {"text"} and message.role == "user":
                parts = [Part("text", ".")]
            messages.append(replace(message, parts=tuple(parts)))
        return tuple(messages)

    def ask_about(self, part: Part) -> tuple[Message, ...]:
        """The example's question about `part` instead of its own medium."""
        return tuple(
            replace(message, parts=tuple(part if p.type == part.type else p for p in message.parts))
            for message in self.example
        )


def words_of(messages: Sequence[Message]) -> str:
    """The words in some messages."""
    return " ".join(str(p.value) for m in messages for p in m.parts if p.type == "text").strip()


def question(sample: Sample) -> str:
    """The words of a row's question."""
    return words_of(sample.messages[:-1])


def split_answer(answer: str, most: int = 0) -> list[str]:
    """The comma-separated parts of an answer; with `most`, at most so many, of which the last keeps its commas."""
    if most == 1:
        return [answer.strip()]
    return [part.strip() for part in _COMMA.split(answer, maxsplit=max(0, most - 1))]


def shown_in_words(answer: str, attributes: Sequence[str]) -> dict[str, str]:
    """What an answer in words gives for each attribute: the whole answer for a single attribute, else its comma-separated
    parts in order. Attributes without a part are left out.
    """
    return dict(zip(attributes, split_answer(answer, len(attributes)), strict=False)) if attributes else {}


def cell_of(sample: Sample) -> str | None:
    """A row's cell, such as `image->text`: the question's media, or text, to the modality of the answer's first part.

    None for a sample that is not a question with an answer.
    """
    if len(sample.messages) < 2 or sample.messages[-1].role != "assistant":
        return None
    asked = {part.type for message in sample.messages[:-1] for part in message.parts}
    media = sorted(asked - {"text"})
    return f"{'+'.join(media) or 'text'}->{sample.messages[-1].parts[0].type}"


def key_of(sample: Sample) -> tuple[str, str] | None:
    """The (task, cell) of a row; None for a sample that is not a question with an answer."""
    cell = cell_of(sample)
    return (sample.task, cell) if cell else None


def tasks_of(samples: Iterable[Sample], splits: tuple[str, ...], targets: Targets) -> list[UserTask]:
    """The commonest tasks of some rows. `targets` maps a task's name to the share aimed at by attribute."""
    first: dict[tuple[str, str], Sample] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        key = key_of(sample)
        if key:
            counts[key] += 1
            first.setdefault(key, sample)
    cells = Counter(task for task, _ in counts)
    tasks = []
    for (task, cell), _ in counts.most_common(MOST_TASKS):
        name = task if task and cells[task] == 1 else f"{task} {cell}".strip()
        tasks.append(UserTask(name, cell, task, first[task, cell].messages[:-1], targets.get(name, {}), splits))
    return tasks


@dataclass
class Labels:
    """Closed label sets of media. `values` maps modality -> attribute -> its values; `of` (modality, path) -> labels."""

    values: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    of: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)  # (task, question) -> its attributes

    def expected(self, sample: Sample) -> dict[str, str]:
        """What the answer to a row must show, by attribute.

        Of words: the labels asked for, or else the exact text. Of a medium: the labels of the reference that the question
        names, or all of them where the question has media. Empty where the reference has no labels.
        """
        answer = sample.messages[-1].parts[0]
        if answer.type == "text":
            text, attributes = str(answer.value).strip(), self.answers.get((sample.task, question(sample)), (EXACT,))
            shown = shown_in_words(text, attributes)
            return shown if len(shown) == len(attributes) else {EXACT: text}
        known = self.of.get((answer.type, str(answer.value)), {})
        words = question(sample).casefold()
        asked_with_media = any(p.type != "text" for m in sample.messages[:-1] for p in m.parts)
        return {name: label for name, label in known.items() if asked_with_media or _names(words, label.casefold())}


def _names(words: str, label: str) -> bool:
    """Whether some words contain a label as a word of its own, or in scripts without blanks anywhere."""
    at = words.find(label)
    while at >= 0:
        around = words[max(0, at - 1) : at] + words[at + len(label) : at + len(label) + 1]
        if not any(letter.isalnum() and unicodedata.east_asian_width(letter) not in "WF" for letter in around):
            return True
        at = words.find(label, at + 1)
    return False


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Label sets of the media in some rows."""
    answered: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    ordered: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        if key_of(sample) is None:
            continue
        media = [p for m in sample.messages[:-1] for p in m.parts if p.type != "text"]
        answer = sample.messages[-1].parts
        if len(media) == 1 and len(answer) == 1 and answer[0].type == "text":
            by_question = answered[sample.task, media[0].type]
            by_question[question(sample)][str(media[0].value)] = str(answer[0].value).strip()
        elif not media and len(answer) == 1 and answer[0].type != "text":
            ordered[answer[0].type][str(answer[0].value)] = question(sample)
    labels = Labels()
    for (task, kind), by_question in answered.items():
        _add_answers(labels, task, kind, by_question)
    for kind, by_path in ordered.items():
        if kind not in labels.values:
            _add(labels, kind, "what was ordered", by_path)
    return labels


def _add_answers(labels: Labels, task: str, kind: str, by_question: Mapping[str, Mapping[str, str]]) -> None:
    """Adds the answers to a task's questions as attributes of the media.

    Questions with the same answer about every medium are phrasings of one attribute; others are attributes of their own.
    """
    merged: dict[str, str] = {}
    alike = all(
        merged.setdefault(path, text) == text for answers in by_question.values() for path, text in answers.items()
    )
    if alike:
        name = task.split(" ", 1)[1] if "->" in task and " " in task else task or "answer"
        attributes = _add(labels, kind, _free_name(labels, kind, name, task), merged)
        if attributes:
            labels.answers.update({(task, asked): attributes for asked in by_question})
        return
    for asked, answers in by_question.items():
        if attributes := _add(labels, kind, _free_name(labels, kind, asked, f"{task}: {asked}"), answers):
            labels.answers[task, asked] = attributes


def _free_name(labels: Labels, kind: str, *names: str) -> str:
    """The first of `names` that is not taken by an attribute of the modality or its parts, else one with a number."""
    taken = set(labels.values.get(kind, ()))
    numbered = (f"{names[0]} ({number})" for number in itertools.count(2))
    return next(name for name in itertools.chain(names, numbered) if name and not {name, _part_name(name, 1)} & taken)


def _part_name(name: str, number: int) -> str:
    return f"{name}, part {number}"


def _add(labels: Labels, kind: str, name: str, by_path: Mapping[str, str]) -> tuple[str, ...]:
    """Adds texts as labels of media; returns the names of the new attributes, none where the texts are no closed set.

    Where all texts have the same number of comma-separated parts and each part is a closed set, each part is an attribute.
    """
    room = MOST_ATTRIBUTES - len(labels.values.get(kind, ()))
    parts = {path: split_answer(text) for path, text in by_path.items()}
    counts = {len(split) for split in parts.values()}
    candidates: list[dict[str, Mapping[str, str]]] = [{name: by_path}]
    if len(counts) == 1 and (count := counts.pop()) > 1:
        columns = {_part_name(name, n + 1): {path: split[n] for path, split in parts.items()} for n in range(count)}
        candidates.insert(0, {**columns})
    for attributes in candidates:
        if len(attributes) <= room and all(map(_is_closed, attributes.values())):
            for attribute, labels_by_path in attributes.items():
                labels.values.setdefault(kind, {})[attribute] = sorted(set(labels_by_path.values()))
                for path, label in labels_by_path.items():
                    labels.of.setdefault((kind, path), {})[attribute] = label
            return tuple(attributes)
    return ()


def _is_closed(by_path: Mapping[str, str]) -> bool:
    """Whether the texts of some media are a small closed set of short labels."""
    values = set(by_path.values())
    few = 2 <= len(values) <= MOST_LABELS and len(by_path) >= ROWS_A_LABEL * len(values)
    return few and all(0 < len(value) <= LONGEST_LABEL for value in values)
