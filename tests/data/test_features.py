"""Features are computed once for a content, a variant and a version, and lie on the disk whole."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from plait.contract import Message, Part, Sample
from plait.data.features import FeatureReader, Store, content_hash, given_parts
from plait.errors import DataError
from plait.train.trainer import compute_features


class Means:
    """A reader of the mean colour, in a row for each of its two rows of pixels."""

    name, version, width = "means", "1", 3
    tokens = words = letters = 0

    def __init__(self):
        self.read = 0

    def prepare(self, modality, part):
        return np.asarray(Image.open(part.value) if not isinstance(part.value, Image.Image) else part.value, np.float32)

    def vary(self, prepared, rng):
        return prepared + rng.random()

    def load(self, device):
        def encode(prepared):
            self.read += len(prepared)
            return [pixels.mean(axis=1).astype(np.float16) for pixels in prepared]

        return encode


@pytest.fixture
def picture(tmp_path):
    def make(name, colour):
        path = tmp_path / name
        Image.new("RGB", (4, 2), colour).save(path)
        return Part("image", str(path))

    return make


def reader_of(reader, folder=None, variants=0):
    return FeatureReader({"image": None}, {"image": reader}, torch.device("cpu"), folder, variants)


def test_a_content_is_read_once_whatever_its_name(tmp_path, picture):
    reader = Means()
    features = reader_of(reader, tmp_path / "features")
    first, second = picture("a.png", "red"), picture("b.png", "red")
    assert np.array_equal(features(first), features(second))
    assert (reader.read, features.hits, features.misses) == (1, 1, 1)
    assert np.array_equal(features(first), np.array([[255, 0, 0]] * 2, np.float16))


def test_a_file_that_is_written_anew_is_read_anew(picture):
    reader = Means()
    features = reader_of(reader)
    red, blue = features(picture("a.png", "red")), features(picture("a.png", "blue"))
    assert reader.read == 2
    assert not np.array_equal(red, blue)


def test_what_one_process_read_the_next_one_has(tmp_path, picture):
    reader_of(Means(), tmp_path)(picture("a.png", "red"))
    again = Means()
    reader_of(again, tmp_path)(picture("a.png", "red"))
    assert again.read == 0


def test_two_that_read_at_once_do_not_write_over_each_other(tmp_path, picture):
    first, second = reader_of(Means(), tmp_path), reader_of(Means(), tmp_path)
    first(picture("a.png", "red"))
    second(picture("b.png", "blue"))
    first(picture("c.png", "lime"))
    third = Means()
    features = reader_of(third, tmp_path)
    for name, colour, expected in (
        ("a.png", "red", [255, 0, 0]),
        ("b.png", "blue", [0, 0, 255]),
        ("c.png", "lime", [0, 255, 0]),
    ):
        assert features(picture(name, colour)).tolist() == [expected] * 2
    assert third.read == 0


def test_another_version_is_read_anew(tmp_path, picture):
    reader_of(Means(), tmp_path)(picture("a.png", "red"))
    newer = Means()
    newer.version = "2"
    reader_of(newer, tmp_path)(picture("a.png", "red"))
    assert newer.read == 1


def test_what_a_kill_cut_short_is_read_anew(tmp_path, picture):
    reader_of(Means(), tmp_path)(picture("a.png", "red"))
    reader_of(Means(), tmp_path)(picture("b.png", "blue"))
    data = next(tmp_path.glob("*.f16"))
    data.write_bytes(data.read_bytes()[:-2])
    index = next(tmp_path.glob("*.jsonl"))
    index.write_text(index.read_text() + '["half a li')
    reader = Means()
    features = reader_of(reader, tmp_path)
    features(picture("a.png", "red"))
    assert np.array_equal(features(picture("b.png", "blue")), np.array([[0, 0, 255]] * 2, np.float16))
    assert reader.read == 1


def test_variants_are_computed_ahead_and_drawn(tmp_path, picture):
    reader = Means()
    features = reader_of(reader, tmp_path, variants=2)
    part = picture("a.png", "black")
    with ThreadPoolExecutor(2) as pool:
        assert features.compute([part, part], pool) == 3
    assert reader.read == 3
    rng = np.random.default_rng(0)
    drawn = {features(part, rng).tobytes() for _ in range(60)}
    assert len(drawn) == 3
    assert np.array_equal(features(part), np.zeros((2, 3), np.float16))
    assert reader.read == 3
    assert features.stores["image"].bytes == 3 * 2 * 3 * 2


def test_a_training_says_how_many_features_were_there(tmp_path, picture):
    first, second = (Sample((Message("user", (picture(f"{colour}.png", colour),)),)) for colour in ("red", "blue"))
    told = []
    compute_features(reader_of(Means(), tmp_path / "features"), [first], told.append)
    compute_features(reader_of(Means(), tmp_path / "features"), [first, second], told.append)
    assert "0% of the 1 wanted" in told[1]
    assert "50% of the 2 wanted" in told[-1]


def test_without_a_folder_nothing_is_computed_ahead(picture):
    with pytest.raises(DataError, match="into a folder"):
        reader_of(Means()).compute([picture("a.png", "red")])


def test_values_in_memory_have_a_content_too():
    red, blue = Part("image", Image.new("RGB", (2, 2), "red")), Part("image", Image.new("RGB", (2, 2), "blue"))
    assert content_hash(red) == content_hash(Part("image", Image.new("RGB", (2, 2), "red"))) != content_hash(blue)
    clip = np.zeros(4, np.float32)
    assert content_hash(Part("audio", (clip, 8000))) != content_hash(Part("audio", (clip, 16000)))


def test_only_what_is_given_is_read():
    said = Message("assistant", (Part("image", "written.png"),))
    sample = Sample((Message("user", (Part("image", "given.png"), Part("text", "what?"))), said))
    assert [part.value for part in given_parts([sample])] == ["given.png", "what?"]


def test_a_store_refuses_no_width(tmp_path):
    store = Store(tmp_path, Means())
    store.add([(("a", 0), np.ones((2, 3))), (("b", 1), np.zeros((1, 3)))])
    assert ("a", 0) in store
    assert ("a", 1) not in store
    assert store.get(("b", 1)).shape == (1, 3)
