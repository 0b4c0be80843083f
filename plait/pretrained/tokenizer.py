"""A model's own tokenizer, as the `tokenizers` library has it: out of tokenizer.json, or built from a GGUF file's metadata.

Text from people never becomes a special token: the tokenizer keeps the ids of special tokens, and forgets that their names
are special, so they are read letter by letter. This is part of its JSON, and survives copies. Added tokens that are not
special, such as `<think>` in some families, are parsed as their makers do. Nothing is put before or after a text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from plait.errors import CheckpointError

FILE = "tokenizer.json"
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # kinds of tokens: special, and added whole, are the last two
BLANK = "\u2581"  # SentencePiece's letter for one


@dataclass(frozen=True)
class Words:
    """A tokenizer that reads what people write, and the ids of its special tokens by name."""

    tokenizer: Tokenizer
    specials: Mapping[str, int]


def _byte_level(*before: Any, regex: bool) -> Any:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)])


# what GGUF calls a way to cut text before merging -> that way
CUTS: dict[str, Callable[[], Any]] = {
    "gpt-2": lambda: _byte_level(regex=True),
    "smollm": lambda: _byte_level(pre_tokenizers.Digits(individual_digits=True), regex=True),
    "llama-bpe": lambda: _byte_level(pre_tokenizers.Split(Regex(LLAMA_3), "isolated"), regex=False),
    "qwen2": lambda: _byte_level(pre_tokenizers.Split(Regex(QWEN_2), "isolated"), regex=False),
}


def from_folder(folder: Path) -> Words:
    """The tokenizer of a folder of Hugging Face. Raises CheckpointError for a file that is missing or damaged."""
    file = folder / FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no {FILE}; expected the fast tokenizer beside the weights. Where the folder has vocab.json and "
            "merges.txt, or tokenizer.model: transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        return _for_people(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises no other class
        raise CheckpointError(f"{file} is damaged ({error}); copy it again") from error


def from_gguf(metadata: Mapping[str, Any]) -> Words:
    """The tokenizer in a GGUF file's metadata: byte-level merges, or SentencePiece's, whose order is that of their scores.

    Raises CheckpointError for another kind, for a way to cut that is not known or not said, and for damaged lists.
    """
    usual = "gpt-2" if metadata.get("general.architecture") == "gpt2" else None
    kind, cut = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", usual)
    if kind not in ("gpt2", "llama") or (kind == "gpt2" and cut not in CUTS):
        raise CheckpointError(
            f"the file's tokenizer is of the kind {kind!r}, cut as {cut!r}; expected 'llama' (SentencePiece), or 'gpt2' "
            f"(byte-level merges), cut as one of {', '.join(CUTS)}. Import the model's folder of Hugging Face instead"
        )
    try:
        return _for_people(_with_added(_built(metadata, cut) if kind == "gpt2" else _by_scores(metadata), metadata))
    except Exception as error:  # the library raises no other class
        raise CheckpointError(f"the file's tokenizer is damaged ({error!r}); copy the file again") from error


def _built(metadata: Mapping[str, Any], cut: str) -> Tokenizer:
    tokens = list(metadata["tokenizer.ggml.tokens"])
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut == "llama-bpe"))
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer, tokenizer.decoder = CUTS[cut](), decoders.ByteLevel()
    return tokenizer


def _by_scores(metadata: Mapping[str, Any]) -> Tokenizer:
    """SentencePiece's merges (Kudo and Richardson, 2018): of the pairs that stand side by side the one whose union has the
    highest score is joined first. A blank is a letter, one stands before every text, and what no piece has is spelled in bytes.
    """
    tokens = list(metadata["tokenizer.ggml.tokens"])
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    kinds = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pieces = {token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL}
    merges = [
        (scores[token], -vocabulary[token], token[:cut], token[cut:])
        for token in pieces
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    merges.sort(key=lambda merge: (-merge[0], -merge[1], vocabulary[merge[2]], vocabulary[merge[3]]))
    unknown = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == UNKNOWN), None)
    joined = [(left, right) for _, _, left, right in merges]
    model = models.BPE(vocab=vocabulary, merges=joined, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    first = [normalizers.Prepend(BLANK)] if metadata.get("tokenizer.ggml.add_space_prefix", True) else []
    tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", BLANK)])
    back = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if first else [])])
    return tokenizer


def _with_added(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer with the tokens that are read whole: special ones, and others that were added."""
    tokens = list(metadata["tokenizer.ggml.tokens"])
    kinds = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    for token, of_kind in zip(tokens, kinds, strict=True):
        if of_kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif of_kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def _for_people(tokenizer: Tokenizer) -> Words:
    """Special tokens as entries of the vocabulary that no merge reaches."""
    stored = json.loads(tokenizer.to_str())
    specials = {added["content"]: added["id"] for added in stored["added_tokens"] if added["special"]}
    vocabulary = stored["model"]["vocab"]
    if not isinstance(vocabulary, dict):
        raise CheckpointError(f"the tokenizer is a {stored['model']['type']} model; expected BPE")
    vocabulary |= specials
    stored["added_tokens"] = [added for added in stored["added_tokens"] if not added["special"]]
    stored["post_processor"] = stored["padding"] = stored["truncation"] = None
    return Words(Tokenizer.from_str(json.dumps(stored)), specials)


def with_specials(stored: Mapping[str, Any], specials: Mapping[str, int]) -> dict[str, Any]:
    """The JSON of a tokenizer for people, as its makers had it: names of `specials` in a text are their ids."""
    others = [added for added in stored["added_tokens"] if added["content"] not in specials]
    named = [
        {"id": index, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for name, index in specials.items()
    ]  # fmt: skip
    return {**stored, "added_tokens": sorted([*others, *named], key=lambda added: int(added["id"]))}
