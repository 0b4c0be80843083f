"""Tasks that are found in rows nobody here wrote: what is given, what is answered, and which labels media have.

A *label set* is a small closed set of texts that media go with: the answers to a question about one medium
("What is this?" -> "cat"), or, where nothing is asked about media, the whole words that order one ("cat" -> picture).
Labels are what judges and baselines can be fitted to.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class UserTask(InGrid):
    """One kind of question in somebody's rows. `example` is the conversation before the answer, of one of them."""

    name: str
    cell: str
    task: str  # as the rows say
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
        """The example's question with `part` in the place of its medium."""
        return tuple(
            replace(message, parts=tuple(part if p.type == part.type else p for p in message.parts))
            for message in self.example
        )


def words_of(messages: Sequence[Message]) -> str:
    """The words in some messages."""
    return " ".join(str(p.value) for m in messages for p in m.parts if p.type == "text").strip()


def question(sample: Sample) -> str:
    """The words of what was asked."""
    return words_of(sample.messages[:-1])


def cell_of(sample: Sample) -> str | None:
    """`image->text`: media that are asked with, or text, to the modality of the answer's first part; None for what is
    not a question and an answer."""
    if len(sample.messages) < 2 or sample.messages[-1].role != "assistant":
        return None
    asked = {part.type for message in sample.messages[:-1] for part in message.parts}
    media = sorted(asked - {"text"})
    return f"{'+'.join(media) or 'text'}->{sample.messages[-1].parts[0].type}"


def key_of(sample: Sample) -> tuple[str, str] | None:
    """(task, cell) that a row belongs to."""
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
    made = []
    for (task, cell), _ in counts.most_common(MOST_TASKS):
        name = task if task and cells[task] == 1 else f"{task} {cell}".strip()
        made.append(UserTask(name, cell, task, first[task, cell].messages[:-1], targets.get(name, {}), splits))
    return made


@dataclass
class Labels:
    """Closed label sets of media. `values` maps modality -> attribute -> its values; `of` (modality, path) -> labels."""

    values: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    of: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)  # (task, question) -> attribute it asks for

    def expected(self, sample: Sample) -> dict[str, str]:
        """What the answer to a row must show: the attribute's label, or exactly the text; for a medium the labels of the
        reference that the question names, or, asked with media, all of them. Empty where nothing is known."""
        answer = sample.messages[-1].parts[0]
        if answer.type == "text":
            return {self.answers.get((sample.task, question(sample)), EXACT): str(answer.value).strip()}
        known = self.of.get((answer.type, str(answer.value)), {})
        words = question(sample).casefold()
        asked_with_media = any(p.type != "text" for m in sample.messages[:-1] for p in m.parts)
        return {name: label for name, label in known.items() if asked_with_media or _names(words, label.casefold())}


def _names(words: str, label: str) -> bool:
    """Whether a label stands in some words as a word of its own, in scripts without blanks also as a part."""
    at = words.find(label)
    while at >= 0:
        around = words[max(0, at - 1) : at] + words[at + len(label) : at + len(label) + 1]
        if not any(letter.isalnum() and unicodedata.east_asian_width(letter) not in "WF" for letter in around):
            return True
        at = words.find(label, at + 1)
    return False


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Label sets of the media in some rows."""
    told: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    ordered: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        key = key_of(sample)
        if key is None:
            continue
        media = [p for m in sample.messages[:-1] for p in m.parts if p.type != "text"]
        answer = sample.messages[-1].parts
        if len(media) == 1 and len(answer) == 1 and answer[0].type == "text":
            by_question = told[sample.task, media[0].type]
            by_question[question(sample)][str(media[0].value)] = str(answer[0].value).strip()
        elif not media and len(answer) == 1 and answer[0].type != "text":
            ordered[answer[0].type][str(answer[0].value)] = question(sample)
    labels = Labels()
    for (task, kind), by_question in told.items():
        _add_told(labels, task, kind, by_question)
    for kind, by_path in ordered.items():
        if kind not in labels.values:
            _add(labels, kind, "what was ordered", by_path)
    return labels


def _add_told(labels: Labels, task: str, kind: str, by_question: Mapping[str, Mapping[str, str]]) -> None:
    """Questions of a task that are answered alike for the same medium are phrasings; others are attributes."""
    merged: dict[str, str] = {}
    alike = all(
        merged.setdefault(path, text) == text for answers in by_question.values() for path, text in answers.items()
    )
    name = task.split(" ", 1)[1] if "->" in task and " " in task else task or "answer"
    name = name if name not in labels.values.get(kind, ()) else task or f"{name} ({len(labels.values[kind])})"
    if alike:
        if _add(labels, kind, name, merged):
            labels.answers.update({(task, asked): name for asked in by_question})
        return
    for asked, answers in by_question.items():
        name = asked if asked not in labels.values.get(kind, ()) else f"{task}: {asked}"
        if _add(labels, kind, name, answers):
            labels.answers[task, asked] = name


def _add(labels: Labels, kind: str, name: str, by_path: Mapping[str, str]) -> bool:
    """Take `by_path` as labels if its texts are a small closed set."""
    values = sorted(set(by_path.values()))
    if len(labels.values.get(kind, ())) >= MOST_ATTRIBUTES:
        return False
    closed = 2 <= len(values) <= MOST_LABELS and len(by_path) >= ROWS_A_LABEL * len(values)
    if not closed or max(map(len, values)) > LONGEST_LABEL:
        return False
    labels.values.setdefault(kind, {})[name] = values
    for path, label in by_path.items():
        labels.of.setdefault((kind, path), {})[name] = label
    return True
