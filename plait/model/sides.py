"""Sides of a model: what reads a modality (`image-in`), what writes one (`image-out`), the words, and what serves them all.

A parameter that both sides of a modality need, such as the embedder of patches that are seen and drawn, belongs to both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from plait.data.vocabulary import MARKS, SHARED, Vocabulary
from plait.errors import ConfigError
from plait.model.lora import expert_of
from plait.model.multimodal import MultimodalTransformer

IN, OUT, TRUNK = "in", "out", "trunk"
KINDS = {"given": IN, "written": OUT}  # of experts


def sides_of(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Names of all sides: both of each continuous modality, each categorical one, the marks and the trunk."""
    both = [
        f"{name}-{side}"
        for name, modality in vocabulary.modalities.items()
        if modality.head == "flow"
        for side in (IN, OUT)
    ]
    return (*both, *vocabulary.offsets, MARKS, TRUNK)


def experts_of(side: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The experts whose tokens a side computes."""
    if side in vocabulary.offsets:
        return (SHARED,)
    return tuple(name for name in vocabulary.experts if _side_of_expert(name, vocabulary) == side)


def _side_of_expert(expert: str, vocabulary: Vocabulary) -> str:
    if expert == SHARED:
        return next(iter(vocabulary.offsets))
    modality, _, kind = expert.rpartition("_")
    return f"{modality}-{KINDS[kind]}"


def _of_embedder(name: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The sides of what embeds a modality's own tokens: those that are written, and those that are given where they are read as
    they are."""
    modality = vocabulary.modalities[name]
    is_read = name not in vocabulary.readers or getattr(modality, "raw", True)
    return frozenset({f"{name}-{OUT}", *([f"{name}-{IN}"] if is_read else [])})


def sides_of_parameter(name: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The sides that a parameter serves, by its name."""
    owner, key, *rest = name.split(".")
    if owner == TRUNK:
        if "adapters" in rest:
            return frozenset({_side_of_expert(expert_of(rest[-1]), vocabulary)})
        return frozenset({_side_of_expert(rest[0], vocabulary) if key == "experts" else TRUNK})
    if owner in ("tables", "categorical"):
        return frozenset({key})
    read_by = (vocabulary.readers, vocabulary.finders)
    reads = {each.name: modality for known in read_by for modality, each in known.items()}
    reader = key.partition("/")[0]  # an asker's name has its question behind
    if reader in reads:
        modality = reads[reader]
        return frozenset({modality if modality in vocabulary.offsets else f"{modality}-{IN}"})
    return _of_embedder(key, vocabulary) if owner == "embedders" else frozenset({f"{key}-{OUT}"})


def counts(model: MultimodalTransformer) -> dict[str, tuple[int, int]]:
    """How many parameters move and how many there are, by the sides that they serve (`image-in`, `image-in and image-out`)."""
    by_side: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        key = " and ".join(sorted(sides_of_parameter(name, model.vocabulary)))
        moves, total = by_side.get(key, (0, 0))
        by_side[key] = moves + parameter.numel() * parameter.requires_grad, total + parameter.numel()
    return dict(sorted(by_side.items()))


def chosen(words: Sequence[str], vocabulary: Vocabulary) -> tuple[frozenset[str], tuple[str, ...]]:
    """Sides and patterns of parameters that some words name: a side; a modality, which is both of its sides; `readers`, which is
    what projects the features of every reader; one reader by its name. Raises ConfigError for another word."""
    sides, patterns = set[str](), list[str]()
    projectors = {reader.name: f"embedders.{reader.name}.*" for reader in vocabulary.readers.values()}
    known = sides_of(vocabulary)
    for word in words:
        of_modality = {f"{word}-{side}" for side in (IN, OUT)} & {*known}
        if word in known:
            sides.add(word)
        elif of_modality:
            sides |= of_modality
        elif word == "readers" and projectors:
            patterns += projectors.values()
        elif word in projectors:
            patterns.append(projectors[word])
        else:
            expected = [*known, *(["readers", *projectors] if projectors else [])]
            raise ConfigError(f"got {word!r} to train or to freeze; expected some of {', '.join(expected)}")
    return frozenset(sides), tuple(patterns)


def patterns_of(
    sides: Collection[str], names: Collection[str], vocabulary: Vocabulary, sets: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Patterns that fit the parameters among `names` which serve these sides alone, but for what only an alignment moves.

    With `sets`, new sets of adapters, the trunk's older ones stay as they are."""
    return tuple(dict.fromkeys(_pattern(name) for name in names if _moves(name, sides, vocabulary, sets)))


def _moves(name: str, sides: Collection[str], vocabulary: Vocabulary, sets: Mapping[str, int] | None) -> bool:
    if name.startswith(("askers.", "spellers.", "finders.", "codecs.")):  # objectives of their own move these
        return False
    if sets is not None and ".adapters." in name and name.rpartition(".")[2] not in sets:
        return False
    return sides_of_parameter(name, vocabulary) <= set(sides)


def _pattern(name: str) -> str:
    """A parameter's name, without what tells the layers of a stack apart."""
    return ".".join("*" if part.isdigit() else part for part in _shortened(name))


def _shortened(name: str) -> Iterator[str]:
    parts = name.split(".")
    if "adapters" in parts:
        yield from (TRUNK, "*", "adapters", "*", parts[-1])
    elif parts[:2] == [TRUNK, "experts"]:
        yield from (*parts[:3], "*")
    elif parts[0] == TRUNK:
        yield from parts
    else:
        yield from (*parts[:2], "*")
