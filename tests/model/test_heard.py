"""What a reader heard, in words: its features are spelled, and the words stand beside them, as the table has them."""

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import Columns

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.features import FeatureReader
from plait.data.letters import CLASSES, spelled
from plait.data.pack import collate
from plait.data.row import Ids, lay_out_clean
from plait.data.sequence import Encoder
from plait.data.vocabulary import Vocabulary
from plait.heads.speller import ROUNDED, SLOTS, Speller
from plait.infer.engine import Engine
from plait.infer.likelihood import pair_log_likelihoods
from plait.infer.request import Request
from plait.modalities.image import readers
from plait.model import heard
from plait.model.heard import AVERAGED, beside_words, letter_slots, transcripts
from plait.model.init import initialise
from plait.model.lexicon import Lexicon
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.model.weights import Base
from plait.train import checkpoint

WIDTH, LETTERS = 12, 4


@pytest.fixture
def speller():
    model = torch.nn.ModuleDict({"speller": Speller(WIDTH, LETTERS, CLASSES)})
    initialise(model, 0)
    return model["speller"]


def test_a_sound_is_spelled_alike_alone_and_beside_longer_ones(speller):
    sounds = [torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(n)) for n in (3, 9, 1)]
    together = speller(torch.cat(sounds), torch.tensor([3, 9, 1]))
    assert together.shape == (3, 2 * ROUNDED * SLOTS, CLASSES), "18 steps, rounded up"
    for sound, logits in zip(sounds, together, strict=True):
        alone = speller(sound, torch.tensor([len(sound)]))[0]
        slots = LETTERS * len(sound)
        torch.testing.assert_close(logits[:slots], alone[:slots], rtol=1e-4, atol=1e-5)


def test_a_letter_is_heard_from_its_neighbours_in_both_directions(speller):
    sound = torch.randn(20, WIDTH, requires_grad=True)
    middle = speller(sound, torch.tensor([20]))[0, 10 * LETTERS]
    (gradient,) = torch.autograd.grad(middle.sum(), sound)
    reached = gradient.abs().sum(dim=1) > 0
    assert reached[9]
    assert reached[11]
    assert reached[10]


def test_transcripts_read_the_slots_of_each_sound_alone(speller, monkeypatch):
    logits = torch.full((2, 2 * LETTERS, CLASSES), -1.0)
    for row, text in enumerate(("abcd", "efghijkl")):
        for slot, letter in enumerate(spelled(text)):
            logits[row, slot, letter] = 1.0
    logits[0, LETTERS:, spelled("z")[0]] = 1.0  # past the first sound's end
    monkeypatch.setattr(type(speller), "forward", lambda self, features, counts: logits)
    assert transcripts(speller, torch.zeros(3, WIDTH), torch.tensor([1, 2])) == ["abcd", "efghijkl"]


def test_words_follow_the_means_of_a_sound_s_features():
    vectors = torch.arange(16.0).view(8, 2)
    words = [torch.full((9, 2), 50.0), torch.tensor([[70.0, 71.0]])]
    shown = beside_words(vectors, [2, 6], words)
    assert shown[:2].tolist() == [[1.0, 2.0], [50.0, 50.0]], "as many words as there is room for"
    assert shown[2:4].tolist() == [[6.0, 7.0], [12.0, 13.0]]
    assert shown[4:].tolist() == [[70.0, 71.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], "then zeros"
    assert AVERAGED == 3


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setitem(readers.READERS, Columns.name, Columns())
    modalities = registry.build_all({"text": {}, "image": {"patch": 2, "max_patches": 32, "reader": Columns.name}})
    return MultimodalTransformer(TrunkConfig(dim=16, num_layers=1, num_heads=2), Vocabulary(modalities))


def batch_of(model, *numbers):
    pictures = [Part("image", Image.effect_noise((columns, 2), 90).convert("RGB")) for columns in numbers]
    sample = Sample((Message("user", tuple(pictures)), Message("assistant", (Part("text", "red"),))), "name")
    features = FeatureReader(model.vocabulary.modalities, model.vocabulary.readers, torch.device("cpu"))
    row = Encoder(model.vocabulary, features=features).row(sample, np.random.default_rng(0))
    return collate([[row]], 128, model.vocabulary)


def test_the_trunk_reads_what_was_said_in_each_of_two_media(model, monkeypatch):
    batch = batch_of(model, 6, 12)
    said = {6: "ab", 12: "cd e"}

    def what_was_said(speller, features, counts, *_):
        assert len(features) == 18
        return [said[count] for count in counts.tolist()]

    monkeypatch.setattr("plait.model.multimodal.transcripts", what_was_said)
    places = batch.clean[Columns.name].index
    shown = model.embed(batch)[0][places]
    read, table = model.vocabulary.modalities["text"].read, model.tables["text"].weight
    for first, text in ((2, "ab"), (6 + 4, "cd e")):
        words = table[torch.as_tensor(read(Part("text", text)).blocks[0].tokens)]
        torch.testing.assert_close(shown[first : first + len(words)], words)
    assert not shown[4:6].any()


def test_a_speller_that_never_learned_says_nothing(model, monkeypatch):
    monkeypatch.setattr("plait.model.multimodal.transcripts", lambda *_: ["noise"])
    batch = batch_of(model, 9)
    places = batch.clean[Columns.name].index
    assert model.embed(batch)[0][places][3:].any()
    model.unlearned = {f"spellers.{Columns.name}"}
    assert not model.embed(batch)[0][places][3:].any()


def test_requests_that_are_answered_together_hear_what_each_hears_alone(model, monkeypatch):
    heard_counts = []

    def what_was_said(speller, features, counts, *_):
        heard_counts.append(counts.tolist())
        return ["ab" if count == 6 else "cd e" for count in counts.tolist()]

    monkeypatch.setattr("plait.model.multimodal.transcripts", what_was_said)
    pictures = [Part("image", Image.effect_noise((columns, 2), 90).convert("RGB")) for columns in (6, 12)]
    requests = [Request((Message("user", (picture,)),), to="text", max_tokens=3) for picture in pictures]
    engine = Engine(model)
    alone = [engine.generate([request])[0].message for request in requests]
    heard_counts.clear()
    model._transcripts.clear()
    together = [answer.message for answer in engine.generate(requests)]
    assert heard_counts == [[6, 12]]
    assert together == alone


def test_words_are_of_the_lexicon_where_they_fit(speller, monkeypatch):
    logits = torch.full((1, LETTERS, CLASSES), -20.0)
    for slot, letter in enumerate(spelled("cut")):
        logits[0, slot, letter] = 5.0
    logits[0, 1, spelled("a")[0]] = 4.5
    logits[0, 3, 0] = 5.0
    monkeypatch.setattr(type(speller), "forward", lambda self, features, counts: logits)
    words = Lexicon()
    words.learn({"cat": 1})
    assert transcripts(speller, torch.zeros(1, WIDTH), torch.tensor([1])) == ["cut"]
    assert transcripts(speller, torch.zeros(1, WIDTH), torch.tensor([1]), words) == ["cat"]


def doubtful():
    """Slots in which "cat" and "cut" are equally likely."""
    logits = torch.full((1, LETTERS, CLASSES), -20.0)
    for slot, letters in enumerate(("c", "au", "t")):
        logits[0, slot, [int(spelled(letter)[0]) for letter in letters]] = 5.0
    logits[0, 3, 0] = 5.0
    return logits


@pytest.mark.parametrize("preferred", ["cat", "cut"])
def test_the_trunk_has_a_say_in_what_was_said(speller, monkeypatch, preferred):
    monkeypatch.setattr(type(speller), "forward", lambda self, features, counts: doubtful())
    words = Lexicon()
    words.learn({"cat": 1, "cut": 1})
    asked = []

    def weigh(texts):
        asked.extend(texts)
        return [[0.0 if text == preferred else -3.0 for text in together] for together in texts]

    assert transcripts(speller, torch.zeros(1, WIDTH), torch.tensor([1]), words, weigh) == [preferred]
    assert {"cat", "cut"} <= set(asked[0])


def test_log_likelihoods_are_sums_over_the_tokens_of_each_line_alone(model):
    texts = [["abc", "b"], ["", "de"]]
    scores = model.log_likelihoods(texts)
    table = model.vocabulary.offsets["text"]
    for own, together in zip(scores, texts, strict=True):
        for score, text in zip(own, together, strict=True):
            ids = [model.vocabulary.end, *(byte + table for byte in text_ids(model, f"\n{text}\n"))]
            row = lay_out_clean([Ids(ids, False)])
            with torch.no_grad():
                logits = model.logits(model.hidden(collate([[row]], len(ids), model.vocabulary))).log_softmax(-1)
            expected = sum(float(logits[place, token]) for place, token in enumerate(ids[2:], 1))
            assert score == pytest.approx(expected, abs=1e-4)


def text_ids(model, text):
    return model.vocabulary.modalities["text"].read(Part("text", text)).blocks[0].tokens.tolist()


def test_the_trunk_is_asked_when_it_is_pretrained_and_not_in_training(model, monkeypatch):
    judges = []

    def what_was_said(speller, features, counts, lexicon, weigh=None):
        judges.append(weigh)
        return [""]

    monkeypatch.setattr("plait.model.multimodal.transcripts", what_was_said)
    batch = batch_of(model, 9)
    model.eval().embed(batch)
    model.base = Base("a language model", "ab" * 32, frozenset())
    model._transcripts.clear()
    model.embed(batch)
    model.train().embed(batch)
    assert judges == [None, model.log_likelihoods, None]


def test_a_sound_is_weighed_once_while_its_speller_stays(model, monkeypatch):
    weighed = []

    def what_was_said(speller, features, counts, *_):
        weighed.append(counts.tolist())
        return ["ab"] * len(counts)

    monkeypatch.setattr("plait.model.multimodal.transcripts", what_was_said)
    batch, more = batch_of(model, 6, 9), batch_of(model, 6, 12)
    model.eval()
    for one in (batch, batch, more):
        model.embed(one)
    assert weighed[0] == [6, 9]
    assert len(weighed) == 2, "nothing new in the second batch"
    with torch.no_grad():
        next(model.spellers[Columns.name].parameters()).add_(1.0)
    model.embed(batch)
    model.expect({"cat": 1})
    model.embed(batch)
    assert weighed[2:] == [[6, 9], [6, 9]]


def test_a_checkpoint_keeps_the_words_that_it_expects(model, tmp_path):
    assert (
        checkpoint.load(checkpoint.save(tmp_path / "none", model, model.state_dict(), {}), torch.float32)[0].lexicon
        is None
    )
    model.expect({"cat": 2, "dog": 1})
    folder = checkpoint.save(tmp_path / "saved", model, model.state_dict(), {})
    loaded, _ = checkpoint.load(folder, torch.float32)
    assert loaded.lexicon.counts == {"cat": 2, "dog": 1}
    loaded.expect({"cat": 2})
    assert loaded.lexicon.counts == {"cat": 2, "dog": 1}, "what is learned again counts once"


def test_a_checkpoint_keeps_its_speller(model, tmp_path):
    folder = checkpoint.save(tmp_path / "saved", model, model.state_dict(), {})
    loaded, _ = checkpoint.load(folder, torch.float32)
    batch = batch_of(loaded, 9)
    torch.testing.assert_close(loaded.embed(batch), model.embed(batch))
    assert heard.transcripts(loaded.spellers[Columns.name], torch.ones(3, 4), torch.tensor([3])) == heard.transcripts(
        model.spellers[Columns.name], torch.ones(3, 4), torch.tensor([3])
    )


@pytest.fixture
def standing(model, monkeypatch):
    """The model on a base, whose sounds say how long they are."""
    monkeypatch.setattr(
        "plait.model.multimodal.transcripts", lambda speller, features, counts, *_: [f"{n} long" for n in counts]
    )
    model.base = Base("smollm2-135m-instruct", "0" * 64, frozenset())
    return model


def picture_of(columns):
    return Part("image", Image.effect_noise((columns, 2), 90).convert("RGB"))


def test_a_sound_without_words_is_asked_in_those_it_says(standing):
    """Answers, lengths and likelihoods are those of the same words in writing."""
    engine = Engine(standing)
    sound = (
        Message("user", (picture_of(6),)),
        Message("assistant", (Part("text", "yes"),)),
        Message("user", (picture_of(9),)),
    )
    words = (Message("user", (Part("text", "6 long"),)), *sound[1:2], Message("user", (Part("text", "9 long"),)))
    heard, written = engine.generate([Request(messages, to="text", max_tokens=4) for messages in (sound, words)])
    assert heard.asked == words
    assert written.asked == words
    assert heard.message == written.message
    assert engine.prompt_length(Request(sound)) == engine.prompt_length(Request(words))
    answer = Part("text", "no")
    assert np.array_equal(
        pair_log_likelihoods(engine, [(sound, answer)]), pair_log_likelihoods(engine, [(words, answer)])
    )


@pytest.mark.parametrize("why", ["words beside it", "trained on", "no base", "says nothing", "an answer"])
def test_a_sound_stays_where_it_is_more_than_its_words(standing, monkeypatch, why):
    parts = (picture_of(6), Part("text", "who?")) if why == "words beside it" else (picture_of(6),)
    if why == "trained on":
        standing.shown_wordless = {Columns.name}
    if why == "no base":
        standing.base = None
    if why == "says nothing":
        monkeypatch.setattr("plait.model.multimodal.transcripts", lambda *_: [""])
    messages = (Message("assistant" if why == "an answer" else "user", parts),)
    assert Engine(standing).in_words(messages) == messages


def test_a_checkpoint_keeps_what_was_shown_wordless(model, tmp_path):
    model.shown_wordless = {Columns.name}
    again, _ = checkpoint.load(checkpoint.save(tmp_path / "c", model, model.state_dict(), {}))
    assert again.shown_wordless == {Columns.name}


def test_words_lie_where_their_letters_are_heard(speller, monkeypatch):
    logits = torch.full((1, 3 * LETTERS, CLASSES), -20.0)
    logits[0, :, 0] = 5.0
    for slot, letter in {1: "a", 2: "b", 4: " ", 6: "c"}.items():
        logits[0, slot, 0], logits[0, slot, int(spelled(f"x{letter}x")[1])] = -20.0, 5.0
    monkeypatch.setattr(type(speller), "forward", lambda self, features, counts: logits)
    words, slots, heard = letter_slots(speller, torch.zeros(3, WIDTH), "Ab, - c!")
    assert (words, slots) == (["Ab", "c"], [[1, 2], [6]])
    assert heard == pytest.approx(0.0, abs=0.01)
    assert letter_slots(speller, torch.zeros(3, WIDTH), "Zz")[2] < -10
    with pytest.raises(ValueError, match="got 0 letters"):
        letter_slots(speller, torch.zeros(3, WIDTH), "?!")
