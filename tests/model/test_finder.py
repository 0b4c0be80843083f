"""What is asked is looked for: what a finder reads and writes, how it learns, and how its words reach the trunk."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import SETTINGS, TINY, PixelReader, World, text

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.asked import WORDS_ASKED, Layout
from plait.data.augment import AugmentConfig, Augmenter
from plait.data.features import FeatureReader
from plait.data.pack import collate
from plait.data.sequence import FIND, MATCH, Encoder, FlowConfig
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.modalities.image import readers
from plait.model.finder import END, Finder, letters_of
from plait.model.multimodal import MultimodalTransformer
from plait.train import trainer
from plait.train.objectives.align import Align


@pytest.fixture(scope="module")
def world():
    world = World()
    settings = SETTINGS | {"image": SETTINGS["image"] | {"finder": True}}
    fitted = world.modalities["text"]
    world.modalities = registry.build_all(settings) | {"text": fitted}
    world.vocabulary = Vocabulary(world.modalities)
    world.encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.0))
    return world


@pytest.fixture
def model(world):
    return world.model()


def squares(count, seed=0):
    """A white picture with `count` black squares in a row, which begins somewhere."""
    levels = np.full((64, 64), 255, np.uint8)
    begin = np.random.default_rng(seed).integers(0, 8)
    for number in range(count):
        levels[20:32, begin + 16 * number : begin + 16 * number + 10] = 0
    return Part("image", Image.fromarray(levels))


def asked(question, part, answer=None, task="count"):
    messages = [Message("user", (part, text(question)))]
    if answer is not None:
        messages.append(Message("assistant", (text(answer),)))
    return Sample(tuple(messages), task)


def finder_of(model) -> Finder:
    (finder,) = model.finders.values()
    return finder


def media_of(world, model, samples):
    rows = [world.encoder.row(sample, np.random.default_rng(0)) for sample in samples]
    batch = collate([rows], sum(map(len, rows)), world.vocabulary)
    return batch, model.media_of(batch.clean["image_finder"], "image_finder")


def test_what_is_joined_comes_apart_again_and_ids_are_exact():
    layout = Layout("x", patches=3, width=5, places=7, features=2, feature_width=3)
    features = np.random.default_rng(1).random((2, 3)).astype(np.float16)
    patches = np.random.default_rng(0).random((3, 5)).astype(np.float16)
    ids = [0, 1, 1023, 1024, 49_151, 1_000_000]
    joined = torch.from_numpy(layout.join(patches, ids, features))
    assert joined.shape == (7, layout.token_width)
    seen, given, words = Finder(layout, 8).apart(joined.flatten()[None])
    assert torch.equal(given[0], torch.from_numpy(features))
    assert torch.equal(seen[0], torch.from_numpy(patches))
    assert words[0, : len(ids)].tolist() == ids
    assert (words[0, len(ids) :] == -1).all()
    _, without, longest = Finder(layout, 8).apart(
        torch.from_numpy(layout.join(patches, list(range(50)))).flatten()[None]
    )
    assert not without.any(), "zeros, where no encoder gives any"
    assert longest[0].tolist() == list(range(50 - WORDS_ASKED, 50)), "the last words of a long question"


def test_it_reads_the_words_of_the_message_whether_they_stand_before_or_after(world, model):
    part = squares(2)
    after = Sample((Message("user", (part, text("draw seven"))),))
    before = Sample((Message("user", (text("draw seven"), part)),))
    other = Sample((Message("user", (part, text("yes"))),))
    ids = [finder_of(model).apart(media_of(world, model, [sample])[1])[2] for sample in (after, before, other)]
    expected = world.modalities["text"].read(text("draw seven")).blocks[0].tokens.tolist()
    assert ids[0][0][ids[0][0] >= 0].tolist() == expected
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])


def test_letters_one_by_one_are_those_of_the_whole(world, model):
    samples = [
        asked(question, squares(n)) for n, question in enumerate(("draw seven", "yes", "what is this? say it"), 1)
    ]
    _, media = media_of(world, model, samples)
    finder, table = finder_of(model), model.unit_words()
    with torch.no_grad():
        finder.out.bias[END] = -2.0  # let it write a while
        fast = finder.find(media, table, torch.float32)
        for number, written in enumerate(fast):
            letters: list[int] = []
            while len(letters) < 12 and END not in letters:
                scores = finder.logits(media[number][None], table, torch.tensor([[*letters, END]]), torch.float32)
                letters.append(int(scores[0, -1].argmax()))
            slow = bytes(c - 1 for c in letters if c != END).decode("utf-8", errors="ignore")
            assert written.startswith(slow) if len(letters) == 12 else written == slow


def test_an_answer_is_the_same_alone_and_beside_others(world, model):
    samples = [asked(question, squares(n)) for n, question in enumerate(("draw seven", "yes"), 1)]
    _, media = media_of(world, model, samples)
    together = finder_of(model).find(media, model.unit_words(), torch.float32)
    alone = [finder_of(model).find(one[None], model.unit_words(), torch.float32)[0] for one in media]
    assert together == alone


def test_letters_end_and_what_is_behind_counts_nothing():
    letters = letters_of([b"2", b"", b"[1, 2]"], torch.device("cpu"))
    assert letters[0].tolist() == [ord("2") + 1, END, -1, -1, -1, -1, -1]
    assert letters[1].tolist() == [END, -1, -1, -1, -1, -1, -1]


def learned(world, model, samples, alignment, steps=150):
    encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.0), alignment=alignment)
    rows = [encoder.row(sample, np.random.default_rng(0)) for sample in samples]
    batch = collate([rows], sum(map(len, rows)), world.vocabulary)
    objective = Align(True, alignment)
    parameters = list(finder_of(model).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for _ in range(steps):
        sums, counts = objective.sums(model, batch), objective.counts(batch)
        optimizer.zero_grad()
        (sums[FIND] / counts[FIND]).backward()
        optimizer.step()
    model.unlearned.discard("finders.image_finder")
    return batch


def test_it_learns_to_count_what_is_asked_and_to_be_silent_otherwise(world, model):
    samples = [asked("draw seven", squares(n, seed), str(n)) for n in (1, 2, 3) for seed in range(6)]
    samples += [asked("what is this?", squares(n), "yes", "name") for n in (1, 2, 3)]
    learned(world, model, samples, {"count": FIND, "name": MATCH})
    unseen = [asked("draw seven", squares(n, 7)) for n in (1, 2, 3)] + [asked("what is this?", squares(2, 7))]
    _, media = media_of(world, model, unseen)
    assert model.found("image_finder", media) == ["1", "2", "3", ""]


def test_nothing_but_the_finder_learns_from_what_is_to_be_found(world, model):
    encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.0), alignment={"count": FIND})
    row = encoder.row(asked("draw seven", squares(2), "2"), np.random.default_rng(0))
    batch = collate([[row]], len(row), world.vocabulary)
    Align(True, {"count": FIND}).sums(model, batch)[FIND].backward()
    for name, parameter in model.named_parameters():
        moves = parameter.grad is not None and bool(parameter.grad.any())
        assert not moves or name.startswith("finders."), name


def test_its_words_stand_in_the_places_and_the_rest_is_nothing(world, model):
    batch, media = media_of(world, model, [asked("draw seven", squares(2))])
    tokens = batch.clean["image_finder"]
    model.unlearned.add("finders.image_finder")
    assert not model._found(tokens, "image_finder").any(), "what it would say before a training is noise"
    model.unlearned.discard("finders.image_finder")
    model.found = lambda name, media: ["yes"] * len(media)
    vectors = model._found(tokens, "image_finder").view(len(media), -1, TINY.dim)[0]
    ids = world.modalities["text"].read(text("yes")).blocks[0].tokens
    expected = model.unit_words()[torch.from_numpy(ids)]
    assert torch.allclose(vectors[: len(ids)], expected)
    assert not vectors[len(ids) :].any()


def test_what_it_found_changes_the_answer_and_words_alone_stay_what_they_were(world, model):
    engine = Engine(model)
    question = asked("draw seven", squares(2)).messages
    words = (Message("user", (text("draw seven"),)),)
    requests = [Request(question, to="text", max_tokens=8), Request(words, to="text", max_tokens=8)]
    model.unlearned.discard("finders.image_finder")
    answers = []
    for found in ("", "zwei zwei zwei"):
        model.found = lambda name, media, found=found: [found] * len(media)
        together = [answer.message.parts for answer in engine.generate(requests)]
        assert [engine.generate([request])[0].message.parts for request in requests] == together
        answers.append(together)
    assert answers[0][0] != answers[1][0]
    assert answers[0][1] == answers[1][1]


def test_a_modality_without_anything_to_look_at_says_so():
    with pytest.raises(ConfigError, match="finder"):
        Vocabulary({"audio": _Sounds(registry.build("audio"))})


class _Sounds:
    finder = True

    def __init__(self, modality):
        self.modality = modality

    def __getattr__(self, name):
        return getattr(self.modality, name)


def test_its_loss_is_the_same_in_one_batch_and_in_several(world, model):
    alignment = {"count": FIND, "name": MATCH}
    encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.0), alignment=alignment)
    samples = [asked("draw seven", squares(2), "2"), asked("what is this?", squares(1), "yes", "name")]
    rows = [encoder.row(sample, np.random.default_rng(0)) for sample in samples]
    objective = Align(True, alignment)

    def summed(*batches):
        made = [collate([list(own)], sum(map(len, own)), world.vocabulary) for own in batches]
        sums = sum(float(objective.sums(model, batch)[FIND].detach()) for batch in made)
        return sums, sum(objective.counts(batch)[FIND] for batch in made)

    together, apart = summed(rows), summed(rows[:1], rows[1:])
    assert together[0] == pytest.approx(apart[0], rel=1e-5)
    assert together[1] == apart[1] == 3, "a letter and its end, and an end"


def test_an_answer_that_has_no_room_teaches_nothing(world):
    encoder = Encoder(world.vocabulary, alignment={"count": FIND})
    assert encoder.alignment_of(asked("yes", squares(1), "1 " * 100)) is None
    assert encoder.alignment_of(asked("yes", squares(1), "1")) is not None


def test_only_what_learns_to_find_makes_a_finder_speak(world, model):
    assert not trainer._trained(SimpleNamespace(objective="align", alignment={"name": MATCH}), model) & {
        "finders.image_finder"
    }
    assert "finders.image_finder" in trainer._trained(
        SimpleNamespace(objective="align", alignment={"name": FIND}), model
    )


def test_what_was_found_is_remembered_while_words_stay_as_they_are(world, model):
    _, media = media_of(world, model, [asked("draw seven", squares(2))])
    model.unlearned.discard("finders.image_finder")
    calls = []
    finder = finder_of(model)
    find = finder.find
    finder.find = lambda *given: calls.append(len(given[0])) or find(*given)
    model.found("image_finder", media)
    model.found("image_finder", media)
    assert calls == [1]
    with torch.no_grad():
        model.tables["text"].weight.mul_(1.0)
    model.found("image_finder", media)
    assert calls == [1, 1]


class Corners(PixelReader):
    """Two features of a picture: the mean colour of its left half, and of its right."""

    name, tokens, width = "corners", 2, 3

    def features(self, pixels):
        """As `PixelReader.features`."""
        half = pixels.shape[1] // 2
        return np.stack([pixels[:, :half].mean(axis=(0, 1)), pixels[:, half:].mean(axis=(0, 1))])


def test_what_an_encoder_sees_is_read_too_and_stays_out_of_the_row_that_learns_to_find(world, monkeypatch):
    monkeypatch.setitem(readers.READERS, Corners.name, Corners())
    settings = SETTINGS | {"image": {"patch": 16, "channels": 3, "finder": True, "reader": Corners.name}}
    modalities = registry.build_all(settings) | {"text": world.modalities["text"]}
    vocabulary = Vocabulary(modalities)
    layout = vocabulary.finders["image"]
    assert (layout.features, layout.feature_width) == (2, 3)
    levels = np.zeros((64, 64, 3), np.uint8)
    levels[:, 32:] = 255
    sample = asked("draw seven", Part("image", Image.fromarray(levels)), "2")
    expected = [[0, 0, 0], [1, 1, 1]]
    features = FeatureReader(modalities, vocabulary.readers, torch.device("cpu"))
    for objective, shown in (("align", False), ("pretrain", True)):
        encoder = Encoder(vocabulary, features=features, alignment={"count": FIND}, objective=objective)
        row = encoder.row(sample, np.random.default_rng(0))
        assert (Corners.name in row.clean) == shown
        media = torch.from_numpy(row.clean["image_finder"].inputs).flatten()[None]
        _, given, _ = Finder(layout, 8).apart(media)
        assert given[0].tolist() == expected
    model = MultimodalTransformer(TINY, vocabulary, seed=0)
    finder, other = finder_of(model), media.clone()
    for layer in finder.trunk.layers:
        torch.nn.init.normal_(layer.attention.out.weight, std=0.2)  # branches begin at zero
    other[0, layout.sizes[0]] += 1.0
    letters, table = torch.tensor([[1, END]]), model.unit_words()
    with torch.no_grad():
        scores = [finder.logits(each, table, letters, torch.float32) for each in (media, other)]
    assert not torch.allclose(*scores)


@pytest.mark.parametrize("how", [FIND, MATCH])
def test_what_is_aligned_is_the_answer_of_the_row_as_it_was_transformed(world, how):
    def turned(sample, rng):
        return Sample((sample.messages[0], Message("assistant", (text("bottom left"),))), sample.task)

    augmenter = Augmenter({"count": AugmentConfig(share=1.0)}, world.modalities)
    augmenter.transforms["count"] = turned
    encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.0), augmenter=augmenter, alignment={"count": how})
    row = encoder.row(asked("where?", squares(1), "top right"), np.random.default_rng(0))
    if how == FIND:
        assert row.alignment.answer.tobytes() == b"bottom left"
    else:
        words = world.modalities["text"].read(text("bottom left")).blocks[0].tokens
        assert row.alignment.answer.tolist() == words.tolist()
