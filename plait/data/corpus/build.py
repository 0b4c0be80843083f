"""Builds a data folder from collected sources: groups, splits, rows, shards, and a check for leaks.

1. Assets are grouped by key; keys with near-duplicate media are joined, across sources.
2. A group's split follows from the hash of its name, or from its source. One style, and some sources with speakers of
   their own, are held out as a whole.
3. Training rows are packed as shards, a group a sample; held-out rows are TASK.SPLIT.jsonl.
4. The rows written are compared across splits, medium by medium and question by question: a leak fails the build.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plait import registry
from plait.contract import WORDS, Message, Sample
from plait.data import sources, store
from plait.data.corpus import duplicates
from plait.data.corpus.collect import assets_of
from plait.data.corpus.composites import composite
from plait.data.corpus.duplicates import Fingerprints, Groups, PictureSignature
from plait.data.rows import dump_row
from plait.data.shards import ShardWriter
from plait.data.sources import Asset
from plait.data.splits import split_of
from plait.runtime.files import atomic_write
from plait.runtime.words import plain_words
from plait.tasks.dictionary import TASKS
from plait.tasks.dictionary.group import LANGUAGES, Group, GroupTask, hashed, labels_of
from plait.tasks.task import REWORDED

TRAIN, TEST, DEV = "train", "test", "dev"
STYLE, PHRASING, KNOWN, SPEAKERS = "style", "phrasing", "known", "speakers"
SHARES = {TEST: 0.1, DEV: 0.02}
HELD_OUT_STYLE = "noto"
NEVER_TRAINED = {"nouns": SPEAKERS}  # sources that are a split of their own
TOGETHER = {"voices": "prompts"}  # sources whose keys mean the same
OFFICIAL = {"test": TEST, "val": DEV, "dev": DEV, "train": TRAIN}
VARIANTS = {  # the last one counts
    "de-1996": "de", "en-GB": "en", "pt-PT": "pt", "pt-BR": "pt", "zh-Hant": "zh", "zh-Hans": "zh",
}  # fmt: skip
ROWS_A_TEST = 500  # of a task and split
COMPOSITES = {TRAIN: 4000, TEST: 400, DEV: 100}
MOST_KINDS, MOST_ALIKE = 3, 3  # kinds of things in a composite, and how many of one
LEAST_ROWS = 200  # held-out rows of a task, or the manifest says why there are fewer


@dataclass
class Corpus:
    """Assets of each split, by group."""

    splits: dict[str, dict[str, list[Asset]]]
    joined: int  # groups that near-duplicates made one


def _name_of(asset: Asset) -> str:
    return f"{TOGETHER.get(asset.source, asset.source)}:{asset.key}"


def _trimmed(asset: Asset) -> Asset:
    """An asset with its texts in the languages that tasks know; a variant stands in for a language that has no plain text.

    Speech in a variant counts as speech of the language. Variants of writing are not added to texts that exist: the same text
    in two scripts would be asked twice.
    """
    variants = {language: asset.texts[code] for code, language in VARIANTS.items() if code in asset.texts}
    texts = variants | {code: text for code, text in asset.texts.items() if code in LANGUAGES}
    spoken = asset.facts.get("language") if asset.kind == "speech" else None
    facts = {**asset.facts, "language": VARIANTS[spoken]} if spoken in VARIANTS else asset.facts
    return replace(asset, texts=texts, facts=facts)


def join(assets: Sequence[Asset], by_name: bool = False) -> tuple[Groups, int]:
    """Groups of assets by key and by near-duplicate media, and how many pairs of groups near-duplicates joined.

    `by_name`: drawings of one English name belong together too, whatever their source.
    """
    groups = Groups()
    for asset in assets:
        if by_name and asset.kind == "drawing" and (named := plain_words(asset.texts.get("en", ""))):
            groups.join(_name_of(asset), f"~{named}")  # sorts last, so that a group is called after one of its assets
        if "prompt" in asset.facts:  # of which several may say the same: their source's key is one for all
            groups.join(_name_of(asset), _name_of(replace(asset, key=asset.facts["prompt"])))
    joined = 0
    pictures = [(a, m) for a in assets for m in a.signatures if m == "picture"]
    clips = [(a, m) for a in assets for m in a.signatures if m != "picture"]
    seen = [PictureSignature.parse(a.signatures[m]) for a, m in pictures]
    heard = [int(a.signatures[m], 16) for a, m in clips]
    for holders, pairs in (
        (pictures, duplicates.near_pictures(seen, seen)),
        (clips, duplicates.near_clips(heard, heard)),
    ):
        for i, j in pairs:
            first_name, second_name = _name_of(holders[i][0]), _name_of(holders[j][0])
            if groups.of(first_name) != groups.of(second_name):
                groups.join(first_name, second_name)
                joined += 1
    return groups, joined


def split(assets: Iterable[Asset], by_name: bool = False) -> Corpus:
    """Puts every asset into a split. A group whose assets have several official splits goes to the held-out one.

    `by_name` as in `join`.
    """
    known: list[Asset] = []
    apart: list[Asset] = []
    for asset in assets:
        (apart if asset.source in NEVER_TRAINED else known).append(_trimmed(asset))
    groups, joined = join(known, by_name)
    by_group: dict[str, list[Asset]] = {}
    for asset in known:
        by_group.setdefault(str(groups.of(_name_of(asset))), []).append(asset)
    corpus = Corpus({TRAIN: {}, TEST: {}, DEV: {}, SPEAKERS: {}}, joined)
    for asset in apart:
        corpus.splits[NEVER_TRAINED[asset.source]].setdefault(_name_of(asset), []).append(asset)
    for name, members in by_group.items():
        official = {OFFICIAL[asset.split] for asset in members if asset.split}
        split_name = next((s for s in (TEST, DEV, TRAIN) if s in official), None) or split_of(hashed(name), SHARES)
        corpus.splits[split_name][name] = members
    return corpus


def add_composites(corpus: Corpus, folder: Path) -> None:
    """Adds pictures composed of several drawings, with exact boxes, to every split from its own drawings.

    A composite that is a near-duplicate of one in an earlier split (training first) is dropped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier: list[PictureSignature] = []
    for number, (split_name, count) in enumerate(COMPOSITES.items()):
        assets = list(
            _composites(corpus.splits[split_name], split_name, count, folder, np.random.default_rng([2026, 50, number]))
        )
        signatures = [PictureSignature.parse(asset.signatures["picture"]) for asset in assets]
        alike = {index for index, _ in duplicates.near_pictures(signatures, earlier)}
        taken = [asset for index, asset in enumerate(assets) if index not in alike]
        corpus.splits[split_name].update({f"composites:{asset.key}": [asset] for asset in taken})
        earlier += signatures


def _composites(
    groups: Mapping[str, Sequence[Asset]], split_name: str, count: int, folder: Path, rng: np.random.Generator
) -> Iterator[Asset]:
    drawings = [
        asset
        for members in groups.values()
        for asset in members
        if asset.source == "emoji" and "en" in asset.texts and not asset.facts.get("tone")
        if asset.facts["style"] != HELD_OUT_STYLE and len(asset.texts["en"]) <= 16
    ]
    for index in range(count if len(drawings) >= MOST_KINDS else 0):
        kinds = [drawings[i] for i in rng.integers(0, len(drawings), int(rng.integers(1, MOST_KINDS + 1)))]
        taken = [kind for kind in kinds for _ in range(int(rng.integers(1, MOST_ALIKE + 1)))]
        pictures = []
        for asset in taken:
            with Image.open(asset.media["picture"]) as picture:
                pictures.append((asset.texts["en"], picture.copy()))
        canvas, boxes = composite(pictures, rng)
        path = folder / f"{split_name}-{index:05d}.png"
        canvas.save(path)
        facts = {"boxes": boxes, "size": list(canvas.size)}
        signatures = {"picture": str(duplicates.picture_signature(canvas))}
        yield Asset("composites", "boxes", path.stem, {"picture": str(path)}, {}, facts, signatures=signatures)


def _group(name: str, members: Sequence[Asset], task: GroupTask, split_name: str) -> Group:
    """A task's group. Training and the split `known` draw the same items of it."""
    salt = TRAIN if split_name == KNOWN else split_name
    rng = np.random.default_rng([2026, 51, hashed(f"{salt}/{task.name}/{name}") & 0xFFFFFFFF])
    return Group(name, members, rng, seen=split_name in (TRAIN, STYLE, KNOWN))


def _in_style(members: Sequence[Asset], held: bool) -> list[Asset]:
    return [a for a in members if a.kind != "drawing" or (a.facts.get("style") == HELD_OUT_STYLE) == held]


def write_training(corpus: Corpus, folder: Path, tasks: Sequence[GroupTask]) -> Iterator[Sample]:
    """Packs the training rows; yields each one as it is written."""
    with ShardWriter(folder, TRAIN, registry.build_all(registry.available())) as writer:
        groups = sorted(corpus.splits[TRAIN].items(), key=lambda item: hashed(item[0]))  # shards are alike
        for name, members in groups:
            taught = _in_style(members, held=False)
            rows = [
                sample
                for task in tasks
                for sample in task.samples(_group(name, taught, task, TRAIN), task.trained_phrasings)
            ]
            if rows:
                writer.add(rows)
                yield from rows


def _home(split_name: str) -> str:
    """The split whose groups the rows of a held-out split are made from."""
    return {STYLE: TRAIN, KNOWN: TRAIN, PHRASING: TEST, REWORDED: TEST}.get(split_name, split_name)


def held_out(corpus: Corpus, task: GroupTask, split_name: str) -> list[Sample]:
    """All rows of a task and held-out split in a drawn order, so that the first rows represent all.

    Of several phrasings of one question without media the first is kept.
    """
    groups = corpus.splits[_home(split_name)]
    samples: list[Sample] = []
    for name, members in groups.items():
        taken = [a for a in members if a.kind == "drawing"] if split_name == STYLE else members
        taken = _in_style(taken, held=split_name == STYLE)  # elsewhere its drawings would be new in two ways
        phrasings = {PHRASING: [task.held_out_phrasing], REWORDED: task.reworded}.get(
            split_name, task.trained_phrasings
        )
        samples += task.samples(_group(name, taken, task, split_name), phrasings)
    if split_name == KNOWN:
        samples = [sample for sample in samples if sample.meta.get("known", True)]
    order = np.random.default_rng([2026, 52]).permutation(len(samples))
    once: dict[Any, Sample] = {}
    for index in order:
        once.setdefault(samples[index].meta.get("asks", index), samples[index])
    return list(once.values())


def _answer(sample: Sample) -> str:
    return " ".join(str(part.value) for part in sample.messages[-1].parts)


def _question(sample: Sample) -> str:
    """The identity of a question without media, equal for all its phrasings; empty for a question with media."""
    return f"{sample.task}: {sample.meta['asks']}" if "asks" in sample.meta else ""


def labelled(groups: Mapping[str, Sequence[Asset]]) -> Iterator[Sample]:
    """Training media with their labels, for baselines and for finding copies."""
    for members in groups.values():
        for asset in _in_style(members, held=False):
            for medium in asset.media:
                part = asset.part(medium)
                yield Sample((Message("user", (part,)),), "labelled", {"labels": labels_of(asset)})


class Prints:
    """Fingerprints of rows, gathered as they are written: media by signature, questions by words."""

    def __init__(self, assets: Iterable[Asset]) -> None:
        self.signatures = {a.media[m]: s for a in assets for m, s in a.signatures.items()}

    def of(self, samples: Iterable[Sample], keys: Iterable[str]) -> Fingerprints:
        pictures, clips, words = {}, {}, set()
        for sample in samples:
            for part in (part for message in sample.messages for part in message.parts if part.type != WORDS):
                signature = self.signatures[part.value]
                if ":" in signature:
                    pictures[part.value] = PictureSignature.parse(signature)
                else:
                    clips[part.value] = int(signature, 16)
            if question := _question(sample):
                words.add(question)
        return Fingerprints(frozenset(keys), pictures, clips, frozenset(words))

    def unseen(self, samples: Sequence[Sample], train: Fingerprints, words: bool, media: bool) -> list[Sample]:
        """Rows that are new to training.

        With `words`, rows whose question training does not ask (two things may have one name). With `media`, rows without a medium
        that is a near-duplicate of one in training.
        """
        fingerprints = self.of(samples, ())
        again = set(fingerprints.words & train.words) if words else set()
        if media:
            again |= {medium for _, medium, _ in duplicates.alike(fingerprints, train)}
        return [s for s in samples if not again & ({_question(s)} | {p.value for m in s.messages for p in m.parts})]


def write_rows(path: Path, samples: Sequence[Sample], folder: Path) -> dict[str, Any]:
    """Writes rows with media relative to the folder; returns their number and hash."""
    root = f"{folder.resolve()}/"
    text = "".join(f"{dump_row(_relative(sample, root))}\n" for sample in samples)
    atomic_write(path, text)
    return {"rows": len(samples), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _relative(sample: Sample, root: str) -> Sample:
    return replace(
        sample,
        messages=tuple(
            replace(m, parts=tuple(replace(p, value=str(p.value).removeprefix(root)) for p in m.parts))
            for m in sample.messages
        ),
    )


def write(
    corpus: Corpus, folder: Path, say: Callable[[str], object], tasks: Sequence[GroupTask] = TASKS
) -> dict[str, Any]:
    """Writes the rows of all splits; returns the manifest's `files`, `tasks` and `few`. Raises DataError where a split leaks."""
    everything = [asset for groups in corpus.splits.values() for members in groups.values() for asset in members]
    prints = Prints(everything)
    counts: Counter[str] = Counter({task.name: 0 for task in tasks})
    answers: dict[str, set[str]] = {task.name: set() for task in tasks if SPEAKERS in task.splits}
    train = prints.of(_counted(write_training(corpus, folder, tasks), counts, answers), corpus.splits[TRAIN])
    files: dict[str, Any] = {"train.jsonl": {"rows": counts.total(), "sha256": store.digest(folder, TRAIN)}}
    few: dict[str, str] = {}
    rows: dict[str, list[Sample]] = {}
    for task in tasks:
        for split_name in (*task.splits, DEV):
            drawn = held_out(corpus, task, split_name)
            # A language that training never heard cannot be told, whoever speaks.
            able = [sample for sample in drawn if split_name != SPEAKERS or _answer(sample) in answers[task.name]]
            looked_at = able[: 2 * ROWS_A_TEST]
            unseen = prints.unseen(looked_at, train, words=split_name != KNOWN, media=split_name in (STYLE, SPEAKERS))
            samples = unseen[:ROWS_A_TEST]
            asked = bool(samples or counts[task.name])  # else its sources are not among those chosen
            if split_name != DEV and asked and len(samples) < LEAST_ROWS:
                untaught = f"; answers of {len(drawn) - len(able)} are not taught" if len(able) < len(drawn) else ""
                more = f"{len(looked_at) - len(unseen)} more are asked in training{untaught}"
                few[f"{task.name}.{split_name}"] = (
                    f"{len(samples)} rows, all that can be asked of what is held out; {more}"
                )
            if samples:
                name = f"{task.name}.{split_name}.jsonl"
                files[name] = write_rows(folder / name, samples, folder)
                rows.setdefault(split_name, []).extend(samples)
    files["labelled-train.jsonl"] = write_rows(
        folder / "labelled-train.jsonl", list(labelled(corpus.splits[TRAIN])), folder
    )
    say("comparing splits")
    for split_name, samples in rows.items():
        apart = _home(split_name) != TRAIN
        names = corpus.splits[_home(split_name)] if apart else ()
        if split_name != KNOWN:  # which is what training had
            duplicates.refuse_leaks(split_name, duplicates.leaks(prints.of(samples, names), train, keys=apart))
    return {"files": files, "tasks": dict(counts), "few": few}


def _counted(samples: Iterable[Sample], counts: Counter[str], answers: Mapping[str, set[str]]) -> Iterator[Sample]:
    """Passes samples on, counting their tasks and collecting the answers of the tasks in `answers`."""
    for sample in samples:
        counts[sample.task] += 1
        if sample.task in answers:
            answers[sample.task].add(_answer(sample))
        yield sample


def load(names: Iterable[str], collected: Path) -> Iterator[Asset]:
    """Assets of several collected sources."""
    for name in names:
        yield from assets_of(name, collected)


def manifest_sources(
    facts: Mapping[str, Mapping[str, Any]], collected: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The manifest's entries of its sources: origin, licence, attribution, numbers of things taken and left out."""
    return [
        {
            "what": facts[name]["what"], "from": facts[name]["public"], "licence": facts[name]["licence"],
            "attribution": facts[name]["attribution"], "share_alike": sources.module(name).SOURCE.share_alike,
            "packages": facts[name]["packages"], "items": collected[name]["items"], "left_out": collected[name]["left_out"],
        }
        for name in collected
    ]  # fmt: skip


def read_facts(root: Path, name: str) -> dict[str, Any]:
    """The source.json written by fetching."""
    facts: dict[str, Any] = json.loads((root / name / "source.json").read_text(encoding="utf-8"))
    return facts
