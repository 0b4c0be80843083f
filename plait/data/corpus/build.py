"""From collected sources to a data folder: groups, splits, rows, shards, and the proof that nothing leaks.

1. Assets are grouped by key, and keys whose media are near-duplicates are joined, whatever source they are from.
2. A group goes to a split by the hash of its name, or where its source says; a style that is held out is held out whole,
   and so are sources whose speakers are.
3. Training rows are packed as shards, a group a sample; held-out rows are TASK.SPLIT.jsonl.
4. What was written is compared again, medium by medium and question by question: a leak fails the build.
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
from plait.tasks.dictionary import TASKS
from plait.tasks.dictionary.group import LANGUAGES, Group, GroupTask, hashed, labels_of

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
    """With names in the languages that tasks ask for; where a language has only a variant, that. Of speech that is in a variant
    the language is told; of writing it is not: the same in two scripts would be asked twice."""
    told = {language: asset.texts[code] for code, language in VARIANTS.items() if code in asset.texts}
    texts = told | {code: text for code, text in asset.texts.items() if code in LANGUAGES}
    spoken = asset.facts.get("language") if asset.kind == "speech" else None
    facts = {**asset.facts, "language": VARIANTS[spoken]} if spoken in VARIANTS else asset.facts
    return replace(asset, texts=texts, facts=facts)


def join(assets: Sequence[Asset]) -> tuple[Groups, int]:
    """Groups of assets by key, and by near-duplicate media."""
    groups = Groups()
    for asset in assets:
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
            one, other = _name_of(holders[i][0]), _name_of(holders[j][0])
            if groups.of(one) != groups.of(other):
                groups.join(one, other)
                joined += 1
    return groups, joined


def split(assets: Iterable[Asset]) -> Corpus:
    """Every asset in its split. Where a source names splits, a group that has assets of several goes to the held-out one."""
    known: list[Asset] = []
    apart: list[Asset] = []
    for asset in assets:
        (apart if asset.source in NEVER_TRAINED else known).append(_trimmed(asset))
    groups, joined = join(known)
    by_group: dict[str, list[Asset]] = {}
    for asset in known:
        by_group.setdefault(str(groups.of(_name_of(asset))), []).append(asset)
    corpus = Corpus({TRAIN: {}, TEST: {}, DEV: {}, SPEAKERS: {}}, joined)
    for asset in apart:
        corpus.splits[NEVER_TRAINED[asset.source]].setdefault(_name_of(asset), []).append(asset)
    for name, members in by_group.items():
        told = {OFFICIAL[asset.split] for asset in members if asset.split}
        place = next((s for s in (TEST, DEV, TRAIN) if s in told), None) or split_of(hashed(name), SHARES)
        corpus.splits[place][name] = members
    return corpus


def add_composites(corpus: Corpus, folder: Path) -> None:
    """Pictures of several drawings of a split with exact boxes, for every split from its own drawings. What looks like one of
    an earlier split (training first) is not taken."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier: list[PictureSignature] = []
    for number, (place, count) in enumerate(COMPOSITES.items()):
        made = list(_composites(corpus.splits[place], place, count, folder, np.random.default_rng([2026, 50, number])))
        signatures = [PictureSignature.parse(asset.signatures["picture"]) for asset in made]
        alike = {index for index, _ in duplicates.near_pictures(signatures, earlier)}
        taken = [asset for index, asset in enumerate(made) if index not in alike]
        corpus.splits[place].update({f"composites:{asset.key}": [asset] for asset in taken})
        earlier += signatures


def _composites(
    groups: Mapping[str, Sequence[Asset]], place: str, count: int, folder: Path, rng: np.random.Generator
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
        path = folder / f"{place}-{index:05d}.png"
        canvas.save(path)
        facts = {"boxes": boxes, "size": list(canvas.size)}
        signatures = {"picture": str(duplicates.picture_signature(canvas))}
        yield Asset("composites", "boxes", path.stem, {"picture": str(path)}, {}, facts, signatures=signatures)


def _group(name: str, members: Sequence[Asset], task: GroupTask, place: str) -> Group:
    """What a task makes items of. Of a group and task, training and what is asked as known draw the same."""
    salt = TRAIN if place == KNOWN else place
    rng = np.random.default_rng([2026, 51, hashed(f"{salt}/{task.name}/{name}") & 0xFFFFFFFF])
    return Group(name, members, rng, seen=place in (TRAIN, STYLE, KNOWN))


def _in_style(members: Sequence[Asset], held: bool) -> list[Asset]:
    return [a for a in members if a.kind != "drawing" or (a.facts.get("style") == HELD_OUT_STYLE) == held]


def write_training(corpus: Corpus, folder: Path, tasks: Sequence[GroupTask]) -> Iterator[Sample]:
    """Pack the training rows; yields each as it is written."""
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


def _home(place: str) -> str:
    """The split whose groups a held-out split is made from."""
    return {STYLE: TRAIN, KNOWN: TRAIN, PHRASING: TEST}.get(place, place)


def held_out(corpus: Corpus, task: GroupTask, place: str) -> list[Sample]:
    """All rows of a task and held-out split, in an order drawn, so that the first are like all of them. What is asked in words
    alone is asked once."""
    groups = corpus.splits[_home(place)]
    found: list[Sample] = []
    for name, members in groups.items():
        taken = [a for a in members if a.kind == "drawing"] if place == STYLE else members
        taken = _in_style(taken, held=place == STYLE)  # elsewhere its drawings would be new in two ways
        phrasings = [task.held_out_phrasing] if place == PHRASING else task.trained_phrasings
        found += task.samples(_group(name, taken, task, place), phrasings)
    if place == KNOWN:
        found = [sample for sample in found if sample.meta.get("known", True)]
    order = np.random.default_rng([2026, 52]).permutation(len(found))
    once: dict[Any, Sample] = {}
    for index in order:
        once.setdefault(found[index].meta.get("asks", index), found[index])
    return list(once.values())


def _answer(sample: Sample) -> str:
    return " ".join(str(part.value) for part in sample.messages[-1].parts)


def _question(sample: Sample) -> str:
    """What a question without media asks, in whatever words; empty for one with media, which are compared themselves."""
    return f"{sample.task}: {sample.meta['asks']}" if "asks" in sample.meta else ""


def labelled(groups: Mapping[str, Sequence[Asset]]) -> Iterator[Sample]:
    """Media of the training with their labels, for baselines and for finding copies."""
    for members in groups.values():
        for asset in _in_style(members, held=False):
            for medium in asset.media:
                part = asset.part(medium)
                yield Sample((Message("user", (part,)),), "labelled", {"labels": labels_of(asset)})


class Prints:
    """Fingerprints of rows, gathered as they are written: their media by signature, their questions by words."""

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
        """Rows that, with `words`, ask nothing that training asks (two things may have one name) and, with `media`, whose
        pictures and clips are like none there."""
        here = self.of(samples, ())
        again = set(here.words & train.words) if words else set()
        if media:
            again |= {medium for _, medium, _ in duplicates.alike(here, train)}
        return [s for s in samples if not again & ({_question(s)} | {p.value for m in s.messages for p in m.parts})]


def _write(path: Path, samples: Sequence[Sample], folder: Path) -> dict[str, Any]:
    """Rows with media relative to the folder."""
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


def write(corpus: Corpus, folder: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Rows of all splits; returns the manifest's `files`, `tasks` and `few`. Raises DataError where a split leaks."""
    everything = [asset for groups in corpus.splits.values() for members in groups.values() for asset in members]
    prints = Prints(everything)
    counts: Counter[str] = Counter({task.name: 0 for task in TASKS})
    answers: dict[str, set[str]] = {task.name: set() for task in TASKS if SPEAKERS in task.splits}
    train = prints.of(_counted(write_training(corpus, folder, TASKS), counts, answers), corpus.splits[TRAIN])
    files: dict[str, Any] = {"train.jsonl": {"rows": counts.total(), "sha256": store.digest(folder, TRAIN)}}
    few: dict[str, str] = {}
    rows: dict[str, list[Sample]] = {}
    for task in TASKS:
        for place in (*task.splits, DEV):
            drawn = held_out(corpus, task, place)
            # A language that training never heard cannot be told, whoever speaks.
            able = [sample for sample in drawn if place != SPEAKERS or _answer(sample) in answers[task.name]]
            looked_at = able[: 2 * ROWS_A_TEST]
            unseen = prints.unseen(looked_at, train, words=place != KNOWN, media=place in (STYLE, SPEAKERS))
            found = unseen[:ROWS_A_TEST]
            asked = bool(found or counts[task.name])  # else its sources are not among those chosen
            if place != DEV and asked and len(found) < LEAST_ROWS:
                untaught = f"; answers of {len(drawn) - len(able)} are not taught" if len(able) < len(drawn) else ""
                more = f"{len(looked_at) - len(unseen)} more are asked in training{untaught}"
                few[f"{task.name}.{place}"] = f"{len(found)} rows, all that can be asked of what is held out; {more}"
            if found:
                name = f"{task.name}.{place}.jsonl"
                files[name] = _write(folder / name, found, folder)
                rows.setdefault(place, []).extend(found)
    files["labelled-train.jsonl"] = _write(
        folder / "labelled-train.jsonl", list(labelled(corpus.splits[TRAIN])), folder
    )
    say("comparing splits")
    for place, found in rows.items():
        apart = _home(place) != TRAIN
        names = corpus.splits[_home(place)] if apart else ()
        if place != KNOWN:  # which is what training had
            duplicates.refuse_leaks(place, duplicates.leaks(prints.of(found, names), train, keys=apart))
    return {"files": files, "tasks": dict(counts), "few": few}


def _counted(samples: Iterable[Sample], counts: Counter[str], answers: Mapping[str, set[str]]) -> Iterator[Sample]:
    """Samples as they come, their tasks counted and, for the tasks of `answers`, what they say noted."""
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
    """What a manifest says of its sources: where from, licence, attribution, what was taken and left out."""
    return [
        {
            "what": facts[name]["what"], "from": facts[name]["public"], "licence": facts[name]["licence"],
            "attribution": facts[name]["attribution"], "share_alike": sources.module(name).SOURCE.share_alike,
            "packages": facts[name]["packages"], "items": collected[name]["items"], "left_out": collected[name]["left_out"],
        }
        for name in collected
    ]  # fmt: skip


def read_facts(root: Path, name: str) -> dict[str, Any]:
    """The source.json that fetching wrote."""
    found: dict[str, Any] = json.loads((root / name / "source.json").read_text(encoding="utf-8"))
    return found
