"""A folder as a frozen encoder: what reads with it is the modalities' to say."""

from __future__ import annotations

from pathlib import Path

from plait import registry
from plait.contract import WORDS
from plait.errors import CheckpointError, ConfigError
from plait.pretrained import hub


def taken(source: Path, dest: Path | None, as_reader: bool) -> tuple[str, str, Path] | None:
    """The modality that the encoder in a folder reads, the reader's name, and its folder among the sources; None for what is no encoder, or
    writes, too, unless it is taken `as_reader`.

    Raises ConfigError for a `dest` beside one that is taken so, CheckpointError for what cannot be taken, or is of a family that nothing
    reads with.
    """
    if not source.is_dir() and not as_reader:
        return None
    if as_reader and dest is not None:
        raise ConfigError(f"got {dest} beside --reader; expected none: a reader lies in the folder of sources")
    if as_reader and not source.is_dir():
        raise CheckpointError(
            f"got {source} to read with; expected a model's folder of Hugging Face. SmolLM2 needs no import: "
            f"modalities.{WORDS}.reader=smollm2_135m_instruct"
        )
    config = hub.read_config(source)
    taken_encoder = registry.take_encoder(source, config, as_reader)
    if taken_encoder is None and as_reader:
        raise CheckpointError(
            f"{source} is of the family {config.get('model_type')!r}, which nothing reads with; expected one such as gpt2, llama or bert"
        )
    return None if taken_encoder is None else (taken_encoder[0], taken_encoder[1].name, taken_encoder[1])
