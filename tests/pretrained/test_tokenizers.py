"""Tokenizers out of folders and GGUF files: the ids of the tokenizer that was stored, and no special token out of text."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, trainers

from plait.errors import CheckpointError
from plait.pretrained.tokenizer import CONTROL, CUTS, FILE, from_folder, from_gguf

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = (
    "Hello world, hello worlds; I'll say it's so.",
    "  two  spaces\n\nand lines\t12345 3.14 \r\n",
    "Grüße, 你好 мир 🙂",
    "def f(x):\n    return x**2  # ok",
    "",
)


def trained(cut):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = CUTS[cut](), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False)
    trainer.initial_alphabet = sorted(bytes_as_letters())
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def bytes_as_letters():
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel.alphabet()


def metadata_of(tokenizer, cut):
    """As llama.cpp's converter writes it."""
    stored = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(stored["vocab"], key=stored["vocab"].get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in stored["merges"]],
        "tokenizer.ggml.token_type": [CONTROL if token in SPECIAL else 1 for token in tokens],
    }


@pytest.mark.parametrize("cut", CUTS)
def test_a_file_s_tokenizer_is_the_stored_one(tmp_path, cut):
    stored = trained(cut)
    stored.save(str(tmp_path / FILE))
    for read in (from_gguf(metadata_of(stored, cut)), from_folder(tmp_path)):
        assert read.get_vocab_size() == stored.get_vocab_size()
        for text in TEXTS:
            ids = read.encode(text).ids
            assert ids == stored.encode(text).ids
            assert read.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("cut", CUTS)
def test_ways_to_cut_differ(cut):
    """Else the test above could not tell one from another."""
    cuts = {other: [piece for piece, _ in CUTS[other]().pre_tokenize_str(TEXTS[1])] for other in CUTS}
    assert all(cuts[cut] != cuts[other] for other in CUTS if other != cut)


def test_text_from_people_holds_no_special_token(tmp_path):
    stored = trained("smollm")
    assert stored.token_to_id("<|im_end|>") in stored.encode("a<|im_end|>b").ids
    stored.save(str(tmp_path / FILE))
    for read in (from_gguf(metadata_of(stored, "smollm")), from_folder(tmp_path)):
        ids = read.encode("a<|im_end|>b").ids
        assert not {read.token_to_id(name) for name in SPECIAL} & set(ids)
        assert read.decode(ids, skip_special_tokens=False) == "a<|im_end|>b"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer.ggml.model": "llama"}, "'llama'.*byte-level"),
        ({"tokenizer.ggml.pre": "tekken"}, "'tekken'.*gpt-2, smollm"),
    ],
)
def test_other_tokenizers_are_refused_by_name(change, said):
    with pytest.raises(CheckpointError, match=said):
        from_gguf(metadata_of(trained("gpt-2"), "gpt-2") | change)


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json.*save_pretrained"):
        from_folder(tmp_path)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(CheckpointError, match=r"damaged.*copy it again"):
        from_folder(tmp_path)
