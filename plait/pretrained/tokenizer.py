"""A model's own tokenizer, as the `tokenizers` library has it: out of tokenizer.json, or built from a GGUF file's metadata.

Text from people never becomes a special token: special names in it are read letter by letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from plait.errors import CheckpointError

FILE = "tokenizer.json"
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens that text is never merged into


def _byte_level(*before: Any, regex: bool) -> Any:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)])


# what GGUF calls a way to cut text before merging -> that way
CUTS = {
    "gpt-2": lambda: _byte_level(regex=True),
    "smollm": lambda: _byte_level(pre_tokenizers.Digits(individual_digits=True), regex=True),
    "llama-bpe": lambda: _byte_level(pre_tokenizers.Split(Regex(LLAMA_3), "isolated"), regex=False),
    "qwen2": lambda: _byte_level(pre_tokenizers.Split(Regex(QWEN_2), "isolated"), regex=False),
}


def from_folder(folder: Path) -> Tokenizer:
    """The tokenizer of a folder of Hugging Face. Raises CheckpointError for a file that is missing or damaged."""
    file = folder / FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no {FILE}; expected the fast tokenizer beside the weights. Where the folder has vocab.json and "
            "merges.txt, or tokenizer.model: transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no other class
        raise CheckpointError(f"{file} is damaged ({error}); copy it again") from error
    return _as_people_write(tokenizer)


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The byte-level tokenizer in a GGUF file's metadata. Raises CheckpointError for another kind, or another way to cut."""
    kind, cut = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or cut not in CUTS:
        raise CheckpointError(
            f"the file's tokenizer is of the kind {kind!r}, cut as {cut!r}; expected 'gpt2' (byte-level merges), cut as one of "
            f"{', '.join(CUTS)}. Import the model's folder of Hugging Face instead"
        )
    tokens = list(metadata["tokenizer.ggml.tokens"])
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = CUTS[cut]()
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, of_kind in zip(tokens, kinds, strict=True)
            if of_kind in (CONTROL, USER_DEFINED)
        ]
    )
    return _as_people_write(tokenizer)


def _as_people_write(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
