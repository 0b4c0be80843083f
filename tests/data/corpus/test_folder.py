"""A built data folder, row by row."""

from collections import Counter

from plait.data.corpus.folder import Reservoir, open_folder
from plait.recipes import dictionary


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
