"""A built data folder, row by row."""

from collections import Counter

import pytest

from plait.data.corpus.folder import Reservoir, open_folder
from plait.errors import DataError
from plait.recipes import dictionary, fashion


def test_every_thing_is_as_likely_to_be_kept():
    counts = Counter()
    for draw in range(600):
        reservoir = Reservoir(2, draw)
        for thing in range(6):
            reservoir.add(thing)
        counts.update(reservoir.sample)
    assert set(counts) == set(range(6))
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_held_out_rows_of_several_splits_differ(packed):
    rows = open_folder(dictionary.RECIPE, packed).some_held_out(3)["name"]
    assert [split for split, _ in rows] == ["test", "phrasing", "dev"]


def test_rows_of_shards_and_of_files_are_read_alike(packed, listed):
    for folder in (open_folder(dictionary.RECIPE, packed), open_folder(fashion.RECIPE, listed)):
        rows = list(folder.train())
        some = folder.some(2)
        assert {sample.task for sample in rows} == set(some)
        assert all(len(samples) <= 2 for samples in some.values())
        known = {str(sample.messages) for sample in rows}
        assert all(str(sample.messages) in known for samples in some.values() for sample in samples)
        assert folder.some(2) == some, "always the same"


def test_held_out_files_by_split_the_test_first_and_dev_last(packed, listed):
    assert list(open_folder(dictionary.RECIPE, packed).held_out()) == ["test", "phrasing", "dev"]
    held = open_folder(fashion.RECIPE, listed)
    assert {split: [path.name for path in paths] for split, paths in held.held_out().items()} == {
        "test": ["test.jsonl"]
    }
    assert len(list(held.held_out_rows("test"))) == 2


def test_a_folder_that_nobody_built_says_how_to_build_it(tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": []}')
    with pytest.raises(DataError, match=r"holds no built data; build it with: plait data build fashion --folder"):
        open_folder(fashion.RECIPE, tmp_path)


def test_few_things_are_all_kept():
    reservoir = Reservoir(5)
    for number in range(3):
        reservoir.add(number)
    assert (reservoir.sample, reservoir.seen) == ([0, 1, 2], 3)
    empty = Reservoir(0)
    empty.add("a thing")
    assert (empty.sample, empty.seen) == ([], 1)
