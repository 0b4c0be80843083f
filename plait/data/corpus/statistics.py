"""`plait data stats`: a built data set in numbers, as tables in the terminal, plots on a page, or JSON.

The training rows are read once in stored order. Memory is bounded: lengths and sizes are counted rather than stored, media
are told apart by a hash of their names (about 60 bytes each), and tokens are counted on SAMPLED rows of each task.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rich.table
from markupsafe import Markup
from PIL import Image
from rich.console import Console
from rich.text import Text

from plait import registry
from plait.contract import WORDS, Part, Sample
from plait.data.corpus.folder import SEED, DataFolder, Reservoir
from plait.data.corpus.pages import write_page
from plait.data.media import CachedReader, Member
from plait.data.sequence import Encoder
from plait.data.splits import TRAIN
from plait.data.vocabulary import Vocabulary
from plait.errors import RowError
from plait.modalities.image.boxes import boxes_in_text
from plait.runtime.pages import Bins, bars, grouped, histogram, write_file

SAMPLED = 100  # rows of each task whose tokens are counted
TEXTS = 20_000  # texts that the vocabulary is learned from
MOST_ANSWERS = 500  # different answers of a task that are counted one by one
WORDY = ("why", "note", "licence", "from", "taken", "commonest")  # columns of words
SHOWN = 24  # of the commonest answers,
FEW = 10  # and of the commonest sizes and boxes
OTHERS = "others"
LETTERS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000, 2000, 5000, 10_000)
SECONDS = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120, 300)


class Tally:
    """Counts of the training rows."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.asked: Counter[float] = Counter()  # lengths in characters
        self.answered: Counter[float] = Counter()
        self.answers: dict[str, Counter[str] | None] = {}  # None: too many different ones
        self.boxes: Counter[str] = Counter()
        self.media: dict[str, Counter[str]] = {}
        self.named: dict[str, Counter[str]] = {}  # facts of media in words, such as sizes
        self.numbers: dict[str, Counter[float]] = {}  # and in numbers, such as seconds
        self.texts: Reservoir[str] = Reservoir(TEXTS)
        self.sampled: dict[str, Reservoir[Sample]] = {}
        self._met: set[int] = set()

    def add(self, sample: Sample) -> None:
        self.rows[sample.task] += 1
        self.sampled.setdefault(sample.task, Reservoir(SAMPLED)).add(sample)
        if "language" in sample.meta:
            self.languages[str(sample.meta["language"])] += 1
        for message in sample.messages:
            for part in message.parts:
                if isinstance(part.value, str) and part.type == WORDS:
                    self._text(part.value, sample, learned=message.role in (None, "assistant"))
                else:
                    self._medium(part)

    def _text(self, text: str, sample: Sample, learned: bool) -> None:
        self.texts.add(text)
        (self.answered if learned else self.asked)[len(text)] += 1
        if not learned:
            return
        boxes = boxes_in_text(text, (1, 1)) if "[" in text else []
        self.boxes.update(box["label"] or sample.meta.get("label", "") for box in boxes)
        answers = self.answers.setdefault(sample.task, Counter())
        if answers is not None:
            answers[text] += 1
            if len(answers) > MOST_ANSWERS:
                self.answers[sample.task] = None

    def _medium(self, part: Part) -> None:
        name = hash((part.type, str(part.value)))
        if name in self._met:
            return
        self._met.add(name)
        counts = self.media.setdefault(part.type, Counter())
        counts["files"] += 1
        try:
            data = part.value.read() if isinstance(part.value, Member) else Path(part.value).read_bytes()
            counts["bytes"] += len(data)
            measures = registry.measures(part.type)
            for fact, value in (measures.facts(replace(part, value=data)) if measures else {}).items():
                if isinstance(value, str):
                    self.named.setdefault(fact, Counter())[value] += 1
                else:
                    self.numbers.setdefault(fact, Counter())[value] += 1
        except (OSError, RuntimeError, Image.DecompressionBombError):
            counts["damaged"] += 1


def bins_of(counts: Mapping[float, int], edges: Sequence[float]) -> Bins:
    """(low, high, count) between the edges, without empty bins at the ends; larger values belong to the last bin."""
    edges = [*edges, max([edges[-1] + 1, *counts])]
    numbers, _ = np.histogram([*counts], edges, weights=[*counts.values()])
    filled = np.flatnonzero(numbers)
    ends = slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0)
    return [(a, b, int(n)) for a, b, n in zip(edges[:-1], edges[1:], numbers, strict=True)][ends]


def _spread(counts: Mapping[float, int]) -> dict[str, float]:
    """Median, 95th percentile and largest of counted numbers."""
    values, weights = np.array(sorted(counts)), np.array([counts[value] for value in sorted(counts)])
    ends = np.cumsum(weights)
    median, high = (float(values[np.searchsorted(ends, share * ends[-1])]) for share in (0.5, 0.95))
    return {"median": median, "95 %": high, "largest": float(values[-1])}


def tokens_of(folder: DataFolder, tally: Tally) -> dict[str, dict[str, float]]:
    """Tokens of the sampled rows by task: clean tokens, and tokens as stored in training with noised copies.

    The modalities are the recipe's; their vocabulary is learned from the sampled texts.
    """
    known = registry.build_all(folder.recipe.modalities)
    if WORDS in known:
        known[WORDS].fit([Part(WORDS, text) for text in tally.texts.sample])
    flow = folder.recipe.flow.model_copy(update={"null_prob": 0.0, "end_prob": 1.0})
    encoder = Encoder(Vocabulary(known), flow, CachedReader(known, capacity=2**27))
    lengths = {}
    for task, reservoir in tally.sampled.items():
        clean: Counter[float] = Counter()
        stored, unreadable = 0, 0
        for sample in reservoir.sample:
            try:
                row = encoder.row(sample, np.random.default_rng(SEED))
            except RowError:
                unreadable += 1
                continue
            clean[row.clean_tokens] += 1
            stored = max(stored, len(row))
        spread = _spread(clean) if clean else {}
        lengths[task] = {**spread, "stored": stored, "of": clean.total(), "unreadable": unreadable}
    return lengths


def gather(folder: DataFolder, say: Callable[[str], object] = print) -> dict[str, Any]:
    """The numbers of a built data folder. Raises RowError for a bad row; damaged media are counted."""
    tally = Tally()
    say(f"reading {folder.path}")
    for sample in folder.train():
        tally.add(sample)
    rows = {task: {TRAIN: count} for task, count in tally.rows.items()}
    held: Counter[str] = Counter()
    for split in folder.held_out():
        for sample in folder.held_out_rows(split):
            by_split = rows.setdefault(sample.task, {})
            by_split[split] = by_split.get(split, 0) + 1
            if "language" in sample.meta:
                held[str(sample.meta["language"])] += 1
    say("counting tokens")
    manifest, seconds = folder.manifest, tally.numbers.get("seconds", Counter())
    return {
        "recipe": folder.recipe.name,
        "rows": rows,
        "counts": manifest.get("counts", {}),
        "joined": manifest.get("joined"),
        "hold_out": {split: share for split, share in folder.recipe.hold_out.items() if split not in folder.held_out()},
        "media": {kind: dict(counts) for kind, counts in tally.media.items()},
        "sizes": _commonest(tally.named.get("size", Counter()), FEW),
        "seconds": {
            "total": round(sum(length * count for length, count in seconds.items())),
            "histogram": bins_of(seconds, SECONDS),
        },
        "languages": {code: {TRAIN: count, "held out": held[code]} for code, count in tally.languages.most_common()},
        "texts": {
            name: {**_spread(counts), "histogram": bins_of(counts, LETTERS)} if counts else {}
            for name, counts in (("questions", tally.asked), ("answers", tally.answered))
        },
        "tokens": tokens_of(folder, tally),
        "pack": folder.recipe.pack.length,
        "answers": {task: _commonest(counts) for task, counts in tally.answers.items()},
        "boxes": _commonest(tally.boxes, FEW),
        "sources": manifest["sources"],
        "notes": manifest["notes"],
    }


def _commonest(counts: Counter[str] | None, most: int = SHOWN) -> dict[str, Any]:
    """How many different things there are, the commonest with their counts, and the count of all others."""
    if counts is None:
        return {"different": f"over {MOST_ANSWERS}", "commonest": {}, OTHERS: 0}
    top = dict(counts.most_common(most))
    return {"different": len(counts), "commonest": top, OTHERS: counts.total() - sum(top.values())}


def _with_others(counts: Mapping[str, Any]) -> dict[str, int]:
    others = {OTHERS: counts[OTHERS]} if counts[OTHERS] else {}
    return {**counts["commonest"], **others}


@dataclass(frozen=True)
class Table:
    """A table of words and numbers; `note` says what they mean."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether it needs the whole width of a page."""
        return len(self.columns) > 4 or any(column in WORDY for column in self.columns)


def _number(value: float | None) -> str:
    return "" if value is None else grouped(value)


def tables(stats: Mapping[str, Any]) -> list[Table]:
    """The result of `gather` as tables; empty ones are left out."""
    every = [*_tables_of_rows(stats), *_tables_of_content(stats), *_tables_of_sources(stats)]
    return [table for table in every if table.rows]


def _tables_of_rows(stats: Mapping[str, Any]) -> Iterator[Table]:
    splits = list(dict.fromkeys(split for by_split in stats["rows"].values() for split in by_split))
    lines = [[task, *(by_split.get(split) for split in splits)] for task, by_split in stats["rows"].items()]
    lines.append(["all", *(sum(by_split.get(split, 0) for by_split in stats["rows"].values()) for split in splits)])
    shares = ", ".join(f"{split} {100 * share:.0f} %" for split, share in stats["hold_out"].items())
    yield Table(
        "Rows", ["task", *splits], [[line[0], *map(_number, line[1:])] for line in lines],
        f"Held out of the training rows by content when a model is trained: {shares}." if shares else "",
    )  # fmt: skip
    keys = ("median", "95 %", "largest", "stored")
    yield Table(
        "Tokens a row", ["task", *keys, "rows counted", "unreadable"],
        [[task, *(_number(t.get(key)) for key in (*keys, "of", "unreadable"))] for task, t in stats["tokens"].items()],
        f"Counted once; stored: the longest with its noised copies. A packed sequence has {stats['pack']}, and a row must fit.",
    )  # fmt: skip
    counts = {split: count for split, count in stats["counts"].items() if isinstance(count, int)}
    joined = stats["joined"]
    yield Table(
        "Groups", ["split", "groups"], [[split, _number(count)] for split, count in counts.items()],
        "" if joined is None else f"What belongs together is in one split; {joined} times near-duplicates joined two groups.",
    )  # fmt: skip


def _tables_of_content(stats: Mapping[str, Any]) -> Iterator[Table]:
    total = stats["seconds"]["total"]
    yield Table(
        "Media of training", ["kind", "files", "MB", "damaged"],
        [
            [kind, _number(c["files"]), f"{c.get('bytes', 0) / 1e6:.1f}", _number(c.get("damaged", 0))]
            for kind, c in stats["media"].items()
        ],
        f"{total / 60:.0f} minutes of sound in all." if total else "",
    )  # fmt: skip
    sizes = _with_others(stats["sizes"])
    yield Table("Sizes of pictures", ["pixels", "pictures"], [[size, _number(n)] for size, n in sizes.items()])
    yield Table(
        "Languages", ["language", "training rows", "held-out rows"],
        [[code, *map(_number, counts.values())] for code, counts in stats["languages"].items()],
        "Of the rows that say one: that of the answer, or of what is named, said or read.",
    )  # fmt: skip
    keys = ("median", "95 %", "largest")
    yield Table(
        "Lengths of texts in training", ["in characters", *keys],
        [[name, *(_number(lengths[key]) for key in keys)] for name, lengths in stats["texts"].items() if lengths],
    )  # fmt: skip
    yield Table(
        "Answers in training", ["task", "different", "commonest"],
        [
            [task, str(a["different"]), ", ".join(f"{text} {_number(n)}" for text, n in [*a["commonest"].items()][:6])]
            for task, a in stats["answers"].items()
        ],
    )  # fmt: skip
    boxes = stats["boxes"]
    yield Table(
        "Boxes in training", ["what", "boxes"], [[label, _number(n)] for label, n in _with_others(boxes).items()],
        f"{_number(boxes['different'])} different things have boxes; these have the most.",
    )  # fmt: skip


def _tables_of_sources(stats: Mapping[str, Any]) -> Iterator[Table]:
    yield Table(
        "Sources", ["what", "taken", "left out", "licence", "from"],
        [
            [
                source["what"], ", ".join(f"{_number(n)} {kind}" for kind, n in source.get("items", {}).items()),
                _number(sum(source.get("left_out", {}).values())), source["licence"], source["from"],
            ]
            for source in stats["sources"]
        ],
    )  # fmt: skip
    yield Table(
        "Left out", ["of", "why", "things"],
        [
            ["" if number else source["what"], why, _number(count)]
            for source in stats["sources"] for number, (why, count) in enumerate(source.get("left_out", {}).items())
        ],
    )  # fmt: skip
    yield Table("Notes", ["note"], [[note] for note in stats["notes"]])


def print_tables(stats: Mapping[str, Any]) -> None:
    """Prints all tables in the terminal."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for entry in tables(stats):
        table = rich.table.Table(title=entry.title, title_justify="left")
        for number, name in enumerate(entry.columns):
            words = not number or name in WORDY
            table.add_column(name, justify="left" if words else "right", overflow="fold" if words else "ellipsis")
        for row in entry.rows:
            table.add_row(*map(Text, row))
        console.print(table, Text(f"{entry.note}\n" if entry.note else ""))


def plots(stats: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """The result of `gather` as plots: (title, SVG)."""
    drawn = [("Training rows by task", bars({task: splits.get(TRAIN, 0) for task, splits in stats["rows"].items()}))]
    if stats["languages"]:
        drawn.append(("Training rows by language", bars({k: n[TRAIN] for k, n in stats["languages"].items()})))
    drawn += [
        (f"{name.capitalize()} by length in characters, in per cent", histogram(lengths["histogram"]))
        for name, lengths in stats["texts"].items()
        if lengths
    ]
    if stats["seconds"]["histogram"]:
        drawn.append(("Clips by length in seconds, in per cent", histogram(stats["seconds"]["histogram"])))
    if stats["sizes"]["commonest"]:
        drawn.append(("Pictures by size in pixels", bars(_with_others(stats["sizes"]))))
    if stats["tokens"]:
        drawn.append(("Tokens a row, median", bars({task: t.get("median", 0) for task, t in stats["tokens"].items()})))
    drawn += [
        (f"Answers of {task or 'the rows'}", bars(answers["commonest"]))
        for task, answers in stats["answers"].items()
        if 1 < len(answers["commonest"]) == answers["different"]
    ]
    if stats["boxes"]["commonest"]:
        drawn.append(("Boxes of what has the most", bars(stats["boxes"]["commonest"])))
    return drawn


def write_html(stats: Mapping[str, Any], path: Path) -> None:
    """Writes the page."""
    write_page(
        path, "stats.html", stats=stats, tables=tables(stats), plots=plots(stats), wordy=WORDY,
        rows={
            "training": sum(by_split.get(TRAIN, 0) for by_split in stats["rows"].values()),
            "held out": sum(n for by_split in stats["rows"].values() for split, n in by_split.items() if split != TRAIN),
        },
    )  # fmt: skip


def write_json(stats: Mapping[str, Any], path: Path) -> None:
    write_file(path, json.dumps(stats, indent=1, ensure_ascii=False))
