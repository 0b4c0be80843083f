"""`plait data show`: the sources of a built data set and some of its rows, in the terminal or on a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from plait import registry
from plait.contract import WORDS, Message, Modality, Part, Sample, Segment
from plait.data.augment import Augmenter
from plait.data.corpus.folder import SEED, DataFolder
from plait.data.corpus.pages import write_page
from plait.data.fit import fit
from plait.data.media import Member, read
from plait.tasks.dictionary import LANGUAGES
from plait.tasks.dictionary.group import IN_LANGUAGE
from plait.tasks.user_data import cell_of

MOST_BYTES = 9_500_000  # of rows in a page
VARIANTS = 4
LONGEST_VALUE = 200  # characters of a value without a rendering
MEDIUM = "\0"  # stands for a medium in the words of a question
_SLOT = re.compile(r"\{(\w+)\}")
_FILLING = f"({MEDIUM}|[^{MEDIUM}]*?)"


def lines(folder: DataFolder, count: int) -> Iterator[str]:
    """Sources, notes, counts, and up to `count` training rows of each task, as text."""
    for source in folder.manifest["sources"]:
        yield f"{source['what']}: {source['from']} ({source['licence']})"
    yield from (f"note: {note}" for note in folder.manifest["notes"])
    for file, facts in folder.manifest["files"].items():
        yield f"{file}: {facts['rows']} rows, sha256 {facts['sha256'][:12]}"
    for task, samples in folder.some(count).items():
        for sample in samples:
            yield f"\n{task}\n    " + "\n    ".join(
                _message_in_words(message, folder.known) for message in sample.messages
            )


def _message_in_words(message: Message, known: Mapping[str, Modality]) -> str:
    parts = (
        f"<{part.type} {Path(str(part.value)).name}>" if known[part.type].head == "flow" else str(part.value)
        for part in message.parts
    )
    return f"{message.role or 'document'}: {' '.join(parts)}"


@dataclass(frozen=True)
class PageRow:
    """A row of a page: its split, question and answer, and its augmented variants."""

    what: str
    asked: Markup
    answer: Markup
    variants: Sequence[PageRow] = ()

    def __len__(self) -> int:
        """Characters."""
        return len(self.asked) + len(self.answer) + sum(map(len, self.variants))


@dataclass
class Section:
    """A task of a page."""

    task: str
    cell: str | None
    varied: float  # share of its rows in training
    rows: list[PageRow] = field(default_factory=list)


def write_html(folder: DataFolder, path: Path, count: int, augment: bool = False) -> None:
    """Writes a page with up to `count` training rows and as many held-out rows of each task.

    With `augment` a training row also stands there as the model reads it, and VARIANTS times as training may augment it.
    Raises RowError for a medium that cannot be opened.
    """
    train, held = folder.some(count), folder.some_held_out(count)
    row_augmenter = (
        RowAugmenter(folder, [sample for samples in train.values() for sample in samples]) if augment else None
    )
    shown = {task: [("training", s) for s in train.get(task, [])] + held.get(task, []) for task in {**train, **held}}
    sections = {
        task: Section(
            task, cell_of(rows[0][1]), folder.recipe.augment[task].share if task in folder.recipe.augment else 0.0
        )
        for task, rows in shown.items()
    }
    size = too_many = 0
    for rank in zip_longest(*shown.values()):  # a row of each task in turn: where the page is full, it is for all alike
        for split, sample in filter(None, rank):
            row = render(split, sample, row_augmenter if split == "training" else None)
            if size + len(row) > MOST_BYTES:
                too_many += 1
                continue
            size += len(row)
            sections[sample.task].rows.append(row)
    write_page(
        path,
        "samples.html",
        recipe=folder.recipe.name,
        manifest=folder.manifest,
        sections=list(sections.values()),
        augment=augment,
        variants=VARIANTS,
        too_many=too_many,
    )


def render(split: str, sample: Sample, row_augmenter: RowAugmenter | None = None) -> PageRow:
    """A row as HTML."""
    asked, answer = _sides(sample)
    if row_augmenter is None:
        return PageRow(split, asked, answer)
    variants = [
        ("as it is read", row_augmenter.as_read(sample)),
        *(("varied", altered) for altered in row_augmenter.variants(sample)),
    ]
    changed = [(what, altered, _changed(altered, sample)) for what, altered in variants]
    rows = [
        PageRow(what, *_sides(parts, _texts(altered)))
        for what, altered, parts in changed
        if any(m.parts for m in parts.messages)
    ]
    return PageRow(split, asked, answer, rows)


def _changed(altered: Sample, sample: Sample) -> Sample:
    """An augmented sample with the parts alone that differ from the original."""
    messages = []
    for after, before in zip(altered.messages, sample.messages, strict=True):
        pairs = zip(after.parts, before.parts, strict=True)
        parts = tuple(a for a, b in pairs if (a.value != b.value if a.type == WORDS else a is not b))
        messages.append(replace(after, parts=parts))
    return replace(altered, messages=tuple(messages))


class RowAugmenter:
    """Augments samples as the recipe's training does, with modalities fitted on the samples at hand."""

    def __init__(self, folder: DataFolder, samples: Sequence[Sample]) -> None:
        self.modalities = registry.build_all(folder.recipe.modalities)
        fit(self.modalities, [_loaded(sample) for sample in samples], folder.recipe.seed)
        self.augmenter = Augmenter(folder.recipe.augment, self.modalities)
        self.rng = np.random.default_rng(SEED)

    def _rewritten(self, sample: Sample, change: Callable[[Segment], Segment]) -> Sample:
        """A sample whose inputs are read, changed and written again; targets stay."""

        def renewed(part: Part) -> Part:
            return self.modalities[part.type].write(change(read(self.modalities[part.type], part)))

        messages = (
            m if m.role in (None, "assistant") else replace(m, parts=tuple(map(renewed, m.parts)))
            for m in sample.messages
        )
        return replace(sample, messages=tuple(messages))

    def as_read(self, sample: Sample) -> Sample:
        """A sample as the model sees and hears it."""
        return self._rewritten(sample, lambda segment: segment)

    def variants(self, sample: Sample) -> list[Sample]:
        """VARIANTS augmented copies of a sample; none of a task that the recipe does not augment."""
        return [self._augmented(sample) for _ in range(VARIANTS if self.augmenter.shares.get(sample.task) else 0)]

    def _augmented(self, sample: Sample) -> Sample:
        if sample.task in self.augmenter.transforms:
            return self.as_read(self.augmenter.transforms[sample.task](sample, self.rng))
        return self._rewritten(sample, lambda segment: self.augmenter.augment(sample.task, segment, self.rng))


def _loaded(sample: Sample) -> Sample:
    """A sample with members of shards replaced by their bytes."""
    messages = (replace(m, parts=tuple(replace(part, value=_value(part)) for part in m.parts)) for m in sample.messages)
    return replace(sample, messages=tuple(messages))


def _value(part: Part) -> Any:
    return part.value.read() if isinstance(part.value, Member) else part.value


def _texts(sample: Sample) -> list[str]:
    return [str(part.value) for message in sample.messages for part in message.parts if part.type == WORDS]


def _sides(sample: Sample, texts: Sequence[str] | None = None) -> tuple[Markup, Markup]:
    """Question and answer as HTML; a document is all answer.

    The boxes that `texts` name (the sample's own texts if None) are drawn into the question's pictures.
    """
    boxes = _texts(sample) if texts is None else texts
    *asked, answer = sample.messages
    shown = (Markup('<div class="{}">{}</div>').format(m.role, _parts(m, _question(m, sample), boxes)) for m in asked)
    language = str(sample.meta.get("language", ""))
    if any(part.value in LANGUAGES.values() for part in answer.parts if part.type == WORDS):
        language = "en"  # the name of the language, not words in it
    texts_of_answer = [_words(Markup("{}").format(part.value), language) for part in answer.parts if part.type == WORDS]
    return Markup("").join(shown), _parts(answer, texts_of_answer, [] if asked else boxes)


def _parts(message: Message, texts: Iterable[Markup], boxes: Sequence[str]) -> Markup:
    """A message's parts in order, with `texts` in place of the text parts; `boxes` are texts whose boxes are drawn in."""
    remaining = iter(texts)
    return Markup(" ").join(next(remaining) if part.type == WORDS else _medium(part, boxes) for part in message.parts)


def _words(text: Markup, language: str) -> Markup:
    return Markup('<span class="words" dir="auto"{}>{}</span>').format(_lang(language), text)


def _lang(language: str) -> Markup:
    return Markup(' lang="{}"').format(language) if language else Markup("")


def _question(message: Message, sample: Sample) -> list[Markup]:
    """The texts of a message as HTML; what fills the phrasing's slots is marked, in its own language and direction."""
    joined = "".join(str(part.value) if part.type == WORDS else MEDIUM for part in message.parts)
    fillings = _fillings(joined, str(sample.meta.get("phrasing", "")))
    language = str(sample.meta.get("from") or sample.meta.get("language") or "")
    texts, start = [], 0
    for part in message.parts:
        end = start + (len(str(part.value)) if part.type == WORDS else len(MEDIUM))
        if part.type == WORDS:
            pieces, at = [], start
            for name, low, high in fillings:
                if start <= low < high <= end:
                    own = _lang(language if name in IN_LANGUAGE else "")
                    pieces += [Markup("{}").format(joined[at:low])]
                    pieces += [Markup('<bdi class="slot"{}>{}</bdi>').format(own, joined[low:high])]
                    at = high
            texts.append(_words(Markup("").join([*pieces, Markup("{}").format(joined[at:end])]), ""))
        start = end
    return texts


def _fillings(words: str, phrasing: str) -> list[tuple[str, int, int]]:
    """(slot, start, end) of the words that fill a phrasing's slots; none where the words do not match the phrasing."""
    pieces = _SLOT.split(phrasing)  # words and slots by turns
    pattern = "".join(_FILLING if number % 2 else _literal(piece) for number, piece in enumerate(pieces))
    match = re.fullmatch(pattern, words) if phrasing else None
    spans = [(name, *match.span(number)) for number, name in enumerate(pieces[1::2], start=1)] if match else []
    return [(name, low, high) for name, low, high in spans if words[low:high] != MEDIUM]


def _literal(words: str) -> str:
    """A pattern for the words between slots; blanks beside a medium may be missing."""
    return re.sub(r"(\\\s)+", lambda _: rf"(?:\s+|(?<={MEDIUM})|(?={MEDIUM}))", re.escape(words))


def _medium(part: Part, notes: Sequence[str]) -> Markup:
    """A part as its modality renders it, with what `notes` point to; its plain value without a rendering. Raises RowError."""
    renders, value = registry.renders(part.type), _value(part)
    if renders is None:
        text = str(value)
        return Markup("<code>{}</code>").format(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")
    return Markup(renders.html(replace(part, value=value), notes))
