"""MedQuAD: questions about diseases, drugs and tests, answered by the National Institutes of Health and the CDC.

Two layouts are read. The authors' own (https://github.com/abachaa/MedQuAD) is folders of XML, a `Document` with `Focus` and
`QAPairs/QAPair/Question, Answer`; three collections lack their answers for copyright. The other is `medquad.jsonl.gz`, an
answered question a line, with `focus`, `type`, `question`, `answer`, `source` (an address) and `collection`.
"""

from __future__ import annotations

import gzip
import json
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package("git", "https://github.com/abachaa/MedQuAD", "")
LINES = "medquad.jsonl.gz"

SOURCE = Source(
    name="medquad",
    what="medical questions and answers",
    packages=(PACKAGE,),
    licence="CC BY 4.0",
    attribution=(
        "MedQuAD, Asma Ben Abacha and Dina Demner-Fushman, A Question-Entailment Approach to Question Answering, "
        "BMC Bioinformatics 20:511 (2019), from sites of the National Institutes of Health and the CDC"
    ),
    public="https://github.com/abachaa/MedQuAD",
    size=60,
)

FIELDS = ("focus", "type", "question", "answer", "source", "collection")
# What is left out, and why.
UNANSWERED = "no answer"
ABOUT_NOTHING = "no focus to say what it is about"
TITLE = "an answer of one word, or that repeats the question"
AGAIN = "asked and answered before"

_COLLECTION = re.compile(r"^\d+_|_QA(?:_XML)?$")
_MARKS = re.compile(r"[\s?]*\?$")


def _from_lines(path: Path) -> Iterator[dict[str, str]]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                number += 1
                raw = json.loads(line)
                yield {name: clean(raw[name]) for name in FIELDS}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: at line {number} it is damaged ({error!r}); expected JSON with {', '.join(FIELDS)} a line"
        ) from error


def _from_documents(paths: list[Path]) -> Iterator[dict[str, str]]:
    for path in paths:
        try:
            document = ET.parse(path).getroot()
        except ET.ParseError as error:
            raise DataError(f"{path} is no XML ({error}); expected a Document of MedQuAD: fetch it again") from error
        for pair in document.iterfind("QAPairs/QAPair"):
            asked = pair.find("Question")
            yield {
                "focus": clean(document.findtext("Focus") or ""),
                "type": asked.get("qtype", "") if asked is not None else "",
                "question": clean(asked.text or "") if asked is not None else "",
                "answer": clean(pair.findtext("Answer") or ""),
                "source": document.get("url", ""),
                "collection": path.parent.name,
            }


def _reason(row: dict[str, str]) -> str:
    """The reason to leave a row out; empty for a good one."""
    if not row["answer"]:
        return UNANSWERED
    if not row["focus"]:
        return ABOUT_NOTHING
    answer = row["answer"].casefold().rstrip(" ?.")
    return TITLE if " " not in answer or answer in row["question"].casefold() else ""


def entries(folder: Path) -> Iterator[Entry]:
    """An entry an answered question, from either layout. Raises DataError for damaged files, or without any."""
    repository = folder / PACKAGE.folder
    documents = sorted(repository.glob("*/*.xml"))
    if not ((repository / LINES).is_file() or documents):
        raise DataError(
            f"{repository} has neither {LINES} nor COLLECTION/*.xml; expected MedQuAD, as {SOURCE.public} has it"
        )
    seen = set()
    for row in _from_lines(repository / LINES) if (repository / LINES).is_file() else _from_documents(documents):
        question = _MARKS.sub("?", row["question"])
        reason = _reason(row) or (AGAIN if (question, row["answer"]) in seen else "")
        if reason:
            yield left_out(reason, f"{row['collection']}: {question[:60]}")
            continue
        seen.add((question, row["answer"]))
        facts = {
            "question": question,
            "answer": row["answer"],
            "focus": row["focus"],
            "question_type": row["type"],
            "source": _COLLECTION.sub("", row["collection"]).replace("_", " "),
            "source_url": row["source"],
        }
        yield Entry("medical", row["focus"].casefold(), facts=facts)
