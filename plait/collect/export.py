"""A data set of what people gave: rows and media, with a licence and a data card."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plait import registry
from plait.collect.consent import SHARE, TRAIN, VOICE
from plait.collect.project import ACCEPTED, Collection, Contribution
from plait.collect.prompts import filled
from plait.collect.purging import COLLECTED
from plait.contract import Modality
from plait.data.importers.core.intake import add_checked
from plait.data.importers.core.records import Record
from plait.data.importers.core.writer import NOTE, Writer
from plait.data.rows import parse_row
from plait.data.splits import TRAIN as TRAINING
from plait.errors import ConfigError, DataError, RowError
from plait.runtime.files import atomic_write

CARD, LICENCE = "README.md", "LICENCE.txt"
FEW = 10  # persons, of whom none is held out
BEGIN, END = "<!-- counted: {} -->", "<!-- to here -->"  # around what is counted anew once something is taken back


def write(
    collection: Collection,
    folder: Path,
    purpose: str = TRAIN,
    standings: Sequence[str] = (ACCEPTED,),
    say: Callable[[str], object] = print,
) -> dict[str, int]:
    """Write the new data folder of all items of some standings whose persons agree to `purpose`; returns rows by split. Raises ConfigError
    where there are none."""
    if purpose not in (TRAIN, SHARE):
        raise ConfigError(f"got the purpose {purpose!r}; expected {TRAIN} (own use) or {SHARE} (to hand on)")
    with collection.exclusive():  # nothing is taken back meanwhile
        return _write(collection, folder, purpose, standings, say)


def _write(
    collection: Collection, folder: Path, purpose: str, standings: Sequence[str], say: Callable[[str], object]
) -> dict[str, int]:
    items = [
        item
        for item in collection.all_items()
        if collection.standing(item.id) in standings and purpose in collection.purposes(item.person)
    ]
    if not items:
        raise ConfigError(
            f"{collection.folder}: no item that is {' or '.join(standings)} may be used to {purpose}; expected some, of persons who agree to the text as it is now ({collection.plan.licence}): collect, and review, first"
        )
    writer = Writer(folder)
    ids = [item.id for item in items]
    collection.note_export(folder, ids)  # before the first byte: a kill leaves nothing that nobody knows
    with writer:
        try:
            persons = len({item.person for item in items})
            if persons < FEW:
                say(
                    f"fewer than {FEW} persons gave this ({persons}): nobody is held out, all rows are for training, which holds out by content"
                )
            split = TRAINING if persons < FEW else ""
            add_checked(writer, records(collection, items, say, split), say)
            counts = writer.finish()
            writer.note(_note(collection, len(items), purpose, counts))
        except BaseException:
            writer.discard()
            collection.note_export(folder, [])
            raise
    atomic_write(folder / CARD, card(collection, items, purpose, counts))
    atomic_write(
        folder / LICENCE,
        f"{collection.plan.licence}\n\nWhat people agreed to, version {_version(collection)}:\n\n{_text(collection)}\n",
    )
    collection.note_export(folder, ids)
    return counts


def _note(collection: Collection, items: int, purpose: str, counts: Mapping[str, int]) -> dict[str, Any]:
    collected = {
        "items": items,
        "purpose": purpose,
        "licence": collection.plan.licence,
        "collection": _id_of(collection),
    }
    return {"format": 1, COLLECTED: collected, "rows": dict(counts)}


def _id_of(collection: Collection) -> str:
    """What an export is known by as this collection's, wherever both lie."""
    return pseudonym(collection, "")


def recount(collection: Collection, folder: Path, remaining: Container[str]) -> None:
    """Write anew what the data card and `import.json` of an exported folder count, of which some items remain. What people wrote into the card
    stays. Raises DataError where that cannot be."""
    try:
        items, rows = [item for item in collection.all_items() if item.id in remaining], _count_rows(folder)
        if (folder / NOTE).is_file():
            note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            collected = note[COLLECTED]
            if collected.get("collection", _id_of(collection)) != _id_of(collection):  # another's took its place
                return
            renewed = note | {COLLECTED: collected | {"items": len(items)}, "rows": rows}
            if renewed != note:
                atomic_write(folder / NOTE, json.dumps(renewed, indent=1))
        if not (folder / CARD).is_file():
            return
        text = card = (folder / CARD).read_text(encoding="utf-8")
        counted = _counted(collection, items, rows)
        if _version(collection) not in text:  # people have agreed to another text since
            del counted["consent"]
        for name, lines in counted.items():
            card = _with_block(card, name, lines)
        if card != text:
            atomic_write(folder / CARD, card)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"what {NOTE} and {CARD} count is not counted anew ({type(error).__name__}: {error}); expected these files as they were "
            "written: put them back, or export anew"
        ) from error


def _count_rows(folder: Path) -> dict[str, int]:
    """Rows by split, of files and of shards."""
    counts = Counter({path.stem: path.read_bytes().count(b"\n") for path in sorted(folder.glob("*.jsonl"))})
    for path in sorted(folder.glob("*-*.tar")):
        with suppress(tarfile.TarError), tarfile.open(path) as shard:  # a broken one is told of by itself
            files = [shard.extractfile(member) for member in shard if member.name.endswith(".jsonl")]
            counts[path.name.rpartition("-")[0]] += sum(file.read().count(b"\n") for file in files if file)
    return dict(counts)


def records(
    collection: Collection, items: Sequence[Contribution], say: Callable[[str], object] = print, split: str = ""
) -> Iterator[Record]:
    """Rows of items, all of one `split` if any; those of rows that a prompt had wrong are left out, and said. Persons have numbers instead of names, and a number for recordings only where their voice may be told from others'; all
    rows of a person are in one split."""
    modalities: dict[str, Modality] = registry.build_all(registry.available())
    for item in items:
        part = collection.part(item)
        value = str(part.value) if item.file is None else f"media/{item.file}"
        prompt = collection.prompts[item.prompt]
        person = pseudonym(collection, item.person)
        meta = {"item": item.id, "prompt": item.prompt, "digest": item.digest}
        if item.file is None or VOICE in collection.purposes(item.person):
            meta["person"] = person
        for template in prompt.rows:
            row = filled(template, value)
            row["meta"] = {**row.get("meta", {}), COLLECTED: meta}
            row.setdefault("task", f"collected {prompt.how or prompt.type}")
            try:
                sample = parse_row(row, collection.folder, modalities, f"item {item.id}")
            except RowError as error:
                say(f"left out: {error}")
                continue
            yield Record(sample, split, group=person, where=f"item {item.id}")


def pseudonym(collection: Collection, person: str) -> str:
    """A number for a person, which nobody turns back without the collection's file."""
    return hashlib.sha256(f"{collection.salt}\n{person}".encode()).hexdigest()[:12]


def _version(collection: Collection) -> str:
    return collection.terms.version if collection.terms else "none"


def _text(collection: Collection) -> str:
    return collection.terms.text if collection.terms else ""


def card(collection: Collection, items: Sequence[Contribution], purpose: str, counts: Mapping[str, int]) -> str:
    """A data card, by the questions of Gebru et al., "Datasheets for Datasets" (arXiv:1803.09010)."""
    counted = {name: _block(name, lines) for name, lines in _counted(collection, items, counts).items()}
    lines = [
        f"# {collection.folder.name}", "",
        f"Written {time.strftime('%Y-%m-%d')} by `plait collected export`, {'to hand on' if purpose == SHARE else 'for own use'}. Licence: {collection.plan.licence}.", "",
        "## Motivation", "", "*For which task was it collected, by whom, paid for by whom? Fill this in: no program knows it.*", "",
        "## Composition", "", counted["composition"], "",
        "Persons have numbers, not names. All rows of a person are in one split (of fewer than "
        f"{FEW} persons all are in train).", "",
        "## Collection", "", f"People drew, photographed, recorded or wrote on web pages, after they had agreed to version {_version(collection)} of the text in {LICENCE}.",
        "Recordings were checked for length, level, clipping and noise, pictures for size and emptiness. Files were written anew from their samples, without what cameras and programs note beside.", "",
        counted["consent"], "",
        "## Review", "", f"An item is here after {collection.plan.votes} others said that it will do.", "", counted["review"], "",
        "## Uses", "", "*What should it not be used for? Voices are told from each other only where persons agreed to it: rows without a person's number must not be used so.*", "",
        "## Distribution and maintenance", "", "People may take back what they gave. Whoever holds a copy has to remove it then: `meta.collected.item` and `meta.collected.digest` of each row name it.", "",
        counted["withdrawn"], "",
    ]  # fmt: skip
    return "\n".join(lines)


def _counted(
    collection: Collection, items: Sequence[Contribution], counts: Mapping[str, int]
) -> dict[str, Sequence[str]]:
    """Lines of a card that tell how many there are, by name."""
    status = collection.status()
    by_person = Counter(item.person for item in items)
    by_kind = Counter(f"{collection.prompts[item.prompt].how or item.type} ({item.type})" for item in items)
    purposes = Counter(name for person in by_person for name in collection.purposes(person))
    most = f"; the most active gave {max(by_person.values()) / len(items):.0%}" if items else ""
    composition = [
        "| what | how many |", "|---|---|",
        *(f"| {kind} | {count} |" for kind, count in by_kind.most_common()),
        *(f"| rows, {split} | {count} |" for split, count in sorted(counts.items())),
        f"| prompts that they answer, of all | {len({item.prompt for item in items})} of {len(collection.prompts)} |",
        f"| persons | {len(by_person)}{most} |",
    ]  # fmt: skip
    return {
        "composition": composition,
        "consent": ["| agreed to | persons |", "|---|---|", *(f"| {name} | {purposes[name]} |" for name in purposes)],
        "review": [
            f"Of {status['items']} items {status['accepted']} were accepted, {status['rejected']} rejected, {status['open']} not settled."
        ],
        "withdrawn": [f"Withdrawn so far: {status['withdrawn']}."],
    }


def _block(name: str, lines: Sequence[str]) -> str:
    """Lines between marks by which they are found again."""
    return "\n".join([BEGIN.format(name), *lines, END])


def _with_block(text: str, name: str, lines: Sequence[str]) -> str:
    """A card with other lines between the marks of a name; as it is where somebody took one of them out."""
    before, begin, rest = text.partition(BEGIN.format(name))
    inside, end, after = rest.partition(END)
    is_whole = begin and end and BEGIN.partition("{")[0] not in inside
    return before + _block(name, lines) + after if is_whole else text
