"""The digits data: what is held out is held out, and what is said is said."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from plait import registry
from plait.contract import Sample
from plait.data.rows import read_rows
from plait.errors import DataError
from plait.recipes import digits as recipe
from plait.tasks import digits
from plait.tasks.digits import (
    HELD_OUT_SUMS,
    HELD_OUT_TRIPLES,
    LANGUAGES,
    TASKS,
    held_out_combinations,
    word,
)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (7, ["seven", "siete", "sept", "sieben", "七"]),
        (21, ["twenty-one", "veintiuno", "vingt et un", "einundzwanzig", "二十一"]),
        (10, ["ten", "diez", "dix", "zehn", "十"]),
        (80, ["eighty", "ochenta", "quatre-vingts", "achtzig", "八十"]),
    ],
)
def test_number_words(number, said):
    assert [word(number, language) for language in LANGUAGES] == said


def rows(folder, name):
    return list(read_rows(folder / f"{name}.jsonl", registry.build_all(["text", "image", "audio"])))


def media(samples):
    return {p.value for s in samples for m in s.messages for p in m.parts if p.type != "text"}


def contents(samples):
    """Hashes of the media's bytes: two splits may not hold the same picture or sound under two names."""
    return {hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in media(samples)}


def test_every_cell_of_the_grid_has_a_task():
    kinds = ("text", "image", "audio")
    assert {f"{a}->{b}" for a in kinds for b in kinds} <= {task.cell for task in TASKS}
    assert len({task.name for task in TASKS}) == len(TASKS)


def test_media_of_the_splits_are_disjoint(small_digits):
    train = contents(rows(small_digits, "train"))
    tests = set().union(*(contents(rows(small_digits, f"{t.name}.{s}")) for t in TASKS for s in t.splits))
    judge = contents(rows(small_digits, "labelled-judge"))
    labelled_train = contents(rows(small_digits, "labelled-train"))
    assert train
    assert tests
    assert not train & tests
    assert not judge & (train | tests | labelled_train), "a judge shares an item with the model"


def test_distorted_pictures_are_shown_and_never_to_be_drawn(small_digits):
    train = rows(small_digits, "train")
    asked = media([Sample(s.messages[:-1]) for s in train])
    drawn = media([Sample(s.messages[-1:]) for s in train])
    labelled = media(rows(small_digits, "labelled-train"))
    distorted = {path for path in asked if path.endswith(".png") and path not in labelled}
    assert distorted, "none is shown"
    assert drawn <= labelled, "a distorted picture is a target"
    assert {re.sub(r"-\d\.png$", ".png", path) for path in distorted} <= labelled, "a copy of a held-out picture"


def test_dev_rows_share_nothing_with_what_is_reported(small_digits):
    dev = [sample for task in TASKS for sample in rows(small_digits, f"{task.name}.dev")]
    reported = [
        sample for task in TASKS for split in task.splits for sample in rows(small_digits, f"{task.name}.{split}")
    ]
    assert dev
    assert not contents(dev) & contents(reported)
    assert not contents(dev) & contents(rows(small_digits, "train"))
    assert not contents(dev) & contents(rows(small_digits, "labelled-judge"))
    unseen = [
        s
        for task in TASKS
        for split in task.splits
        if split != "seen"
        for s in rows(small_digits, f"{task.name}.{split}")
    ]
    asked = [{texts(s) for s in samples if s.task in ("translate", "sum")} for samples in (dev, unseen)]
    assert all(asked)
    assert not asked[0] & asked[1], "a held-out triple or pair is asked in dev"


def test_speech_settings_are_disjoint(small_digits):
    settings = json.loads((small_digits / "manifest.json").read_text())["settings"]
    by_voice: dict[str, list] = {}
    for name, setting in settings.items():
        by_voice.setdefault(name.split("/")[1], []).append(tuple(setting))
    assert all(len(set(found)) == len(found) for found in by_voice.values())


def texts(sample):
    return "".join(p.value if p.type == "text" else "{" + p.type + "}" for p in sample.messages[0].parts)


def test_the_last_phrasing_is_never_trained(small_digits):
    train = rows(small_digits, "train")
    for task in TASKS:
        held_out = {s.meta["phrasing"] for s in rows(small_digits, f"{task.name}.phrasing")}
        trained = {s.meta["phrasing"] for s in train if s.task == task.name}
        assert held_out == {task.held_out_phrasing}
        assert not trained & held_out


def test_held_out_triples_pairs_and_combinations(small_digits):
    train = rows(small_digits, "train")
    translate = next(task for task in TASKS if task.name == "translate")
    patterns = [
        re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(phrasing)) + "$")
        for phrasing in translate.phrasings
    ]
    held_words = {(word(n, s), LANGUAGES[s], LANGUAGES[t]) for n, s, t in HELD_OUT_TRIPLES}

    def asked_for(sample):
        return next(tuple(m.group("word", "source", "target")) for p in patterns if (m := p.match(texts(sample))))

    trained = {asked_for(s) for s in train if s.task == "translate"}
    assert trained
    assert not trained & held_words
    assert {asked_for(s) for s in rows(small_digits, "translate.test")} <= held_words
    held = {f"{word(a, 'en')} {op} {word(b, 'en')}" for a, op, b in HELD_OUT_SUMS}
    assert not any(any(h in texts(s) for h in held) for s in train if s.task == "sum")
    assert all(any(h in texts(s) for h in held) for s in rows(small_digits, "sum.test"))
    assert not any(any(h in texts(s) for h in held) for s in rows(small_digits, "sum.seen"))
    pair = re.compile(r"(plus|minus) (\w+)")
    for name in ("step", "name-step"):  # what is held out in words is held out with a picture too
        held_by = {(word(a, "en"), op, word(b, "en")) for a, op, b in HELD_OUT_SUMS}
        asked = set()
        for s in (s for s in train if s.task == name):
            (picture,) = (p.value for p in s.messages[0].parts if p.type == "image")
            op, by = pair.search(texts(s)).groups()
            asked.add((word(int(re.search(r"picture-(\d)", str(picture)).group(1)), "en"), op, by))
        assert asked
        assert not asked & held_by
    assert not any(pair[1:] == ("plus", 1) for pair in HELD_OUT_SUMS), "that is what the next digit is"
    made = {
        (s.meta["expect"]["language"], s.meta["expect"]["digit"], s.meta["expect"]["speaker"])
        for s in train
        if s.messages[-1].parts[0].type == "audio"
    }
    assert len(held_out_combinations()) == 2 * len(LANGUAGES)
    assert not made & held_out_combinations()


def test_building_never_touches_what_it_did_not_write(tmp_path):
    (tmp_path / "mine.jsonl").write_text("keep")
    with pytest.raises(DataError, match="not of this recipe"):
        recipe.build(tmp_path, say=str)
    assert (tmp_path / "mine.jsonl").read_text() == "keep"


def test_held_out_shares():
    assert len(HELD_OUT_TRIPLES) == 0.2 * len(digits.TRIPLES)
    assert len(HELD_OUT_SUMS) == round(0.2 * (len(digits.SUMS) - 10))  # ten pairs are "plus one"
