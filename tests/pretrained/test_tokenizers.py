"""Tokenizers out of folders and GGUF files: the ids of the tokenizer that was stored, and no special token out of text."""

import json
import pickle

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from plait.errors import CheckpointError
from plait.pretrained.tokenizer import CONTROL, CUTS, FILE, USER_DEFINED, from_folder, from_gguf

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = (
    "Hello world, hello worlds; I'll say it's so.",
    "  two  spaces\n\nand lines\t12345 3.14 \r\n",
    "Grüße, 你好 мир 🙂",
    "def f(x):\n    return x**2  # ok",
    "",
)


def trained(cut):
    """A tokenizer as its makers would store it: with a beginning put before every text."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=cut == "llama-bpe"))
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer, tokenizer.decoder = CUTS[cut](), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False)
    trainer.initial_alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_tokens(["<think>"])
    first = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[first])
    return tokenizer


def metadata_of(tokenizer, cut):
    """As llama.cpp's converter writes it."""
    stored, vocabulary = json.loads(tokenizer.to_str())["model"], tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in stored["merges"]],
        "tokenizer.ggml.token_type": [
            CONTROL if token in SPECIAL else USER_DEFINED if token == "<think>" else 1 for token in tokens
        ],
    }


@pytest.mark.parametrize("cut", CUTS)
def test_a_file_s_tokenizer_is_the_stored_one(tmp_path, cut):
    stored = trained(cut)
    stored.save(str(tmp_path / FILE))
    for read in (from_gguf(metadata_of(stored, cut)), from_folder(tmp_path)):
        assert read.tokenizer.get_vocab() == stored.get_vocab()
        assert read.specials == {name: stored.token_to_id(name) for name in SPECIAL}
        for text in (*TEXTS, "a<think>b"):
            ids = read.tokenizer.encode(text).ids
            assert ids == stored.encode(text, add_special_tokens=False).ids
            assert read.tokenizer.decode(ids, skip_special_tokens=False) == text


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
        written = Tokenizer.from_str(read.tokenizer.to_str())
        for tokenizer in (read.tokenizer, written, pickle.loads(pickle.dumps(read.tokenizer))):
            ids = tokenizer.encode("a<|im_end|>b").ids
            assert not set(read.specials.values()) & set(ids)
            assert tokenizer.decode(ids, skip_special_tokens=False) == "a<|im_end|>b"
            assert tokenizer.decode([read.specials["<|im_end|>"]], skip_special_tokens=False) == "<|im_end|>"


def test_what_a_family_does_to_text_is_kept():
    """Composed letters for Qwen2; whole words of the vocabulary before merges for Llama 3."""
    read = {cut: from_gguf(metadata_of(trained(cut), cut)).tokenizer for cut in ("qwen2", "gpt-2")}
    apart, composed = "u\u0308", "ü"
    assert read["qwen2"].encode(apart).ids == read["qwen2"].encode(composed).ids
    assert read["gpt-2"].encode(apart).ids != read["gpt-2"].encode(composed).ids
    for cut, pieces in (("llama-bpe", ["a", "Ġzebra"]), ("gpt-2", ["a", "Ġ", "z", "e", "b", "r", "a"])):
        metadata = metadata_of(trained(cut), cut)
        metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], "Ġzebra"]
        metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1]
        assert from_gguf(metadata).tokenizer.encode("a zebra").tokens == pieces


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer.ggml.model": "t5"}, "'t5'.*byte-level"),
        ({"tokenizer.ggml.pre": "tekken"}, "'tekken'.*gpt-2, smollm"),
    ],
)
def test_other_tokenizers_are_refused_by_name(change, said):
    with pytest.raises(CheckpointError, match=said):
        from_gguf(metadata_of(trained("gpt-2"), "gpt-2") | change)


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """SentencePiece's own processor, trained on the texts, and its metadata as llama.cpp's converter writes it."""
    library = pytest.importorskip("sentencepiece")
    place = tmp_path_factory.mktemp("spm")
    lines = [line for text in TEXTS for line in text.splitlines() if line.strip()] * 30
    (place / "text").write_text("\n".join(lines), encoding="utf-8")
    library.SentencePieceTrainer.train(
        input=str(place / "text"), model_prefix=str(place / "m"), model_type="bpe", vocab_size=340, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0,
        user_defined_symbols=["<think>"], control_symbols=["<turn>"], minloglevel=2,
    )  # fmt: skip
    theirs = library.SentencePieceProcessor(model_file=str(place / "m.model"))
    count = theirs.get_piece_size()
    kinds = [
        2 if theirs.is_unknown(n) else 6 if theirs.is_byte(n) else CONTROL if theirs.is_control(n)
        else USER_DEFINED if theirs.id_to_piece(n) == "<think>" else 1
        for n in range(count)
    ]  # fmt: skip
    return theirs, {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(n) for n in range(count)],
        "tokenizer.ggml.scores": [theirs.get_score(n) for n in range(count)],
        "tokenizer.ggml.token_type": kinds,
    }


def test_a_file_s_sentencepiece_is_sentencepiece_s_own(sentencepiece):
    theirs, metadata = sentencepiece
    read = from_gguf(metadata)
    assert set(read.specials) == {"<s>", "</s>", "<turn>"}
    for text in (*TEXTS, "hello  hello", "an unseen word: Ωmega", " begins with a blank"):
        ids = read.tokenizer.encode(text).ids
        assert ids == theirs.encode(text), text
        assert read.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert not set(read.specials.values()) & set(read.tokenizer.encode("a<turn>b</s>").ids)


@pytest.mark.parametrize(("ab", "bc", "tokens"), [(-1.0, -2.0, ["ab", "c"]), (-2.0, -1.0, ["a", "bc"])])
def test_sentencepiece_s_scores_order_the_merges(ab, bc, tokens):
    pieces = {"<unk>": 0.0, "a": -9.0, "b": -9.0, "c": -9.0, "ab": ab, "bc": bc, "\u2581": -9.0}
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(pieces),
        "tokenizer.ggml.scores": list(pieces.values()),
        "tokenizer.ggml.token_type": [2, *[1] * 6],
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert from_gguf(metadata).tokenizer.encode("abc").tokens == tokens


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json.*save_pretrained"):
        from_folder(tmp_path)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(CheckpointError, match=r"damaged.*copy it again"):
        from_folder(tmp_path)
