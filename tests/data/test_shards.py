"""Rows in shards: what is packed is what is drawn, in any order, from any place, and damage is said."""

import contextlib
import io
import itertools
import json
import shutil
import tarfile
import time

import numpy as np
import pytest
from PIL import Image
from worlds import World, text

from plait.contract import Message, Part, Sample
from plait.data import store
from plait.data.loader import Loader, PackConfig
from plait.data.media import CachedReader, Member, read, size_of, to_blob
from plait.data.rows import dump_row, read_rows
from plait.data.sequence import Encoder, FlowConfig
from plait.data.shards import ShardRows, ShardWriter, index, index_of, shards_of
from plait.data.validate import check_file
from plait.errors import DataError, RowError

WORLD = World()
KNOWN = WORLD.modalities


def picture(seed):
    return KNOWN["image"].example(seed)


def sound(seed):
    """In steps of 16 bits, as FLAC keeps it."""
    samples, rate = KNOWN["audio"].example(seed).value
    return Part("audio", (np.round(samples * 2**15) / np.float32(2**15), rate))


def group(number):
    """Rows about one picture, and about a sound and another picture."""
    drawn, heard = picture(number), sound(number)
    name = text(f"thing {number}")
    return [
        Sample((Message("user", (drawn, text("what?"))), Message("assistant", (name,))), "name", {"number": number}),
        Sample((Message("user", (name,)), Message("assistant", (drawn,))), "draw"),
        Sample((Message("user", (heard, drawn)), Message("assistant", (name,))), "both"),
    ]


@pytest.fixture
def packed(tmp_path):
    with ShardWriter(tmp_path, "train", KNOWN, shard_bytes=40_000) as writer:
        for number in range(30):
            writer.add(group(number))
    return tmp_path


def tokens(sample):
    return [
        block.tokens.tolist()
        for m in sample.messages
        for p in m.parts
        for block in read(KNOWN[p.type], p).blocks
        if p.type != "text"
    ]


def test_what_is_packed_comes_back(packed):
    rows = ShardRows(packed, "train", KNOWN)
    assert len(shards_of(packed, "train")) > 2
    assert sorted(rows) == ["both", "draw", "name"]
    assert {task: len(rows[task]) for task in rows} == {"name": 30, "draw": 30, "both": 30}
    for number in (0, 17, 29):
        for place, task in enumerate(("name", "draw", "both")):
            found, meant = rows[task][number], group(number)[place]
            assert found.meta == meant.meta
            assert [m.role for m in found.messages] == [m.role for m in meant.messages]
            assert tokens(found) == tokens(meant)
            assert found.where.endswith(f":{3 * number + place + 1}")


def test_a_medium_that_many_rows_name_is_stored_once(packed):
    with tarfile.open(shards_of(packed, "train")[0]) as tar:
        names = [name for name in tar.getnames() if name.startswith("00000000.")]
    assert len(names) == 3, names  # the rows, a picture, a sound
    first, second = (ShardRows(packed, "train", KNOWN)[task][0] for task in ("name", "draw"))
    assert first.messages[0].parts[0].value == second.messages[1].parts[0].value


def test_an_unpacked_shard_is_the_row_format(packed, tmp_path):
    folder = tmp_path / "unpacked"
    with tarfile.open(shards_of(packed, "train")[0]) as tar:
        tar.extractall(folder, filter="data")
    rows = list(read_rows(folder / "00000001.jsonl", KNOWN))
    assert [tokens(row) for row in rows] == [tokens(row) for row in group(1)]


def test_groups_are_samples_for_webdataset(packed):
    """Its readers group members by what stands before the first dot, and want a group's members in succession."""
    with tarfile.open(shards_of(packed, "train")[0]) as tar:
        keys = [name.split(".")[0] for name in tar.getnames()]
    assert sum(a != b for a, b in itertools.pairwise(keys)) == len(set(keys)) - 1


def loader(rows):
    encoder = Encoder(WORLD.vocabulary, FlowConfig(), CachedReader(KNOWN, capacity=10_000))
    return Loader(rows, {"name": 2.0}, encoder, PackConfig(length=160, sequences=3), 5)


def batches(one, count):
    return [
        (batch.ids.tolist(), *(part.inputs.tolist() for part in batch.noised.values()))
        for _ in range(count)
        for batch in one.next_step()
    ]


def test_shards_train_as_lists_do(packed):
    rows = ShardRows(packed, "train", KNOWN)
    listed = [rows.row(number) for number in range(len(rows.rows))]
    assert batches(loader(rows), 4) == batches(loader(listed), 4)


def test_training_resumes_in_the_middle_of_a_shard(packed):
    walked = loader(ShardRows(packed, "train", KNOWN))
    batches(walked, 3)
    state = json.loads(json.dumps(walked.state()))
    resumed = loader(ShardRows(packed, "train", KNOWN))
    resumed.load_state(state)
    assert batches(resumed, 3) == batches(walked, 3)


def test_steps_prepared_ahead_are_the_same_and_resume(packed):
    rows = ShardRows(packed, "train", KNOWN)
    plain, ahead = loader(rows), loader(rows)

    def after(one):
        return [(batch.ids.tolist(), *(part.inputs.tolist() for part in batch.noised.values())) for batch in one]

    with ahead.steps() as steps:
        for _ in range(3):
            assert after(next(steps)) == after(plain.next_step())
            assert ahead.state() == plain.state(), "what is prepared already is not yet taken"
    assert ahead.state() == plain.state()
    assert batches(ahead, 2) == batches(plain, 2)


def test_an_error_in_a_step_prepared_ahead_comes_in_its_turn(packed):
    rows = ShardRows(packed, "train", KNOWN)
    one, encode = loader(rows), Encoder.row
    draws = []

    def third_time(encoder, sample, *rng_and_hides):
        draws.append(sample)
        if len(draws) > at:
            raise RowError("a bad row")
        return encode(encoder, sample, *rng_and_hides)

    plain = loader(rows)
    plain.next_step()
    at = plain.mix.draws  # of the first step; the next row is of the second
    one.encoder.row = third_time.__get__(one.encoder)
    with contextlib.suppress(RowError), one.steps() as steps:
        assert next(steps)[0].used
        assert one.state() == plain.state()
        next(steps)
        pytest.fail("the second step has a bad row")
    del one.encoder.row
    assert one.state() == plain.state(), "what failed is not taken"
    assert batches(one, 2) == batches(plain, 2)


def test_a_step_is_prepared_while_the_one_before_is_computed(packed):
    one = loader(ShardRows(packed, "train", KNOWN))
    with one.steps() as steps:
        next(steps)
        taken = one.state()
        for _ in range(1000):
            if one._current_state() != taken:
                break
            time.sleep(0.01)
        assert one._current_state() != taken
        assert one.state() == taken


def test_an_index_is_made_where_it_is_missing(packed):
    before = [np.load(path) for path in sorted(index_of(packed, "train").glob("*.npy"))]
    digest = store.digest(packed, "train")
    shutil.rmtree(index_of(packed, "train"))
    rows = ShardRows(packed, "train", KNOWN)
    after = [np.load(path) for path in sorted(index_of(packed, "train").glob("*.npy"))]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert len(rows["draw"]) == 30
    assert store.digest(packed, "train") == digest


def test_rows_can_be_left_out(packed):
    everything = ShardRows(packed, "train", KNOWN)
    left_out = {everything.row(0).id, everything.row(4).id}  # the first row's name, the second picture's drawing
    assert left_out == {everything.id_of(0), everything.id_of(4)}
    rows = ShardRows(packed, "train", KNOWN, skip=left_out)
    assert {task: len(rows[task]) for task in rows} == {"name": 29, "draw": 29, "both": 30}
    assert rows["name"][0].meta == {"number": 1}


def test_shards_of_another_size_are_refused(packed):
    with shards_of(packed, "train")[0].open("ab") as file:
        file.write(b"\0" * 512)
    with pytest.raises(DataError, match=r"train-00000\.tar has .* bytes.*index was made of"):
        ShardRows(packed, "train", KNOWN)


def test_a_broken_off_writer_leaves_no_shard(tmp_path):
    def write():
        with ShardWriter(tmp_path, "train", KNOWN) as writer:
            writer.add(group(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"no train-\*\.tar"):
        index(tmp_path, "train")


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_bad_rows_of_shards_are_named(tmp_path):
    """As in a .jsonl: a medium that is not there, one that is damaged, one outside; the others are good."""
    whole = to_blob(Image.new("RGB", (8, 8), "red")).data
    lines = [
        dump_row(Sample((Message("user", (text("draw"),)), Message("assistant", (Part("image", name),))), "draw"))
        for name in ("0.a.png", "0.b.png", "0.c.png", "../outside.png")
    ]
    tar_of(
        tmp_path / "train-00000.tar",
        {"0.jsonl": "\n".join(lines).encode(), "0.a.png": whole, "0.b.png": whole[:40]},
    )
    bad = []
    found = check_file(tmp_path / "train.jsonl", KNOWN, bad.append)
    assert (found.rows, found.good) == (4, 1)
    assert [entry.line for entry in bad] == [2, 3, 4]
    assert "0.b.png: image part" in bad[0].problem
    assert "holds no 0.c.png" in bad[1].problem
    assert "leaves the data folder" in bad[2].problem
    with pytest.raises(RowError, match="holds no"):
        ShardRows(tmp_path, "train", KNOWN).row(2)


def test_a_tar_cut_short_is_said(tmp_path):
    (tmp_path / "train-00000.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="no whole tar"):
        index(tmp_path, "train")


def test_memory_of_read_parts_is_bounded(packed):
    rows = ShardRows(packed, "train", KNOWN)
    reader = CachedReader(KNOWN, capacity=3000)
    for sample in rows["name"]:
        reader(sample.messages[0].parts[0])
        assert reader.num_bytes <= 3000 or len(reader.segments) == 1
    assert reader.num_bytes == sum(map(size_of, reader.segments.values()))
    assert len(reader.segments) > 1
    assert all(isinstance(value, Member) for _, value in reader.segments)
