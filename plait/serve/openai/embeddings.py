"""`/v1/embeddings`: words, pictures and sound in one space, where the model's report says how well they are found in it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import Field

from plait.contract import WORDS, Part
from plait.infer.embedding import Embedder
from plait.serve.errors import ApiError, unsupported
from plait.serve.openai.content import ContentPart, TextPart, as_part, readable, size_of
from plait.serve.openai.models import report_of
from plait.serve.openai.shapes import Body
from plait.serve.state import Served, State

TOGETHER = 8_192  # characters that the engine's thread embeds at once
MEASURED = "by embeddings"  # in the names of the report's figures

Text = Annotated[str, Field(min_length=1)]
Id = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Id], Field(min_length=1, max_length=8192)]
Item = Text | Tokens | ContentPart


class EmbeddingRequest(Body):
    """What to embed: a text, the ids of one, or up to 2,048 of these; Plait's own are content parts such as `image_url`."""

    input: Text | Tokens | Annotated[list[Item], Field(min_length=1, max_length=2048)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


def measured(served: Served) -> dict[str, list[dict[str, Any]]]:
    """The figures of retrieval in a model's report, by the modality that was asked with."""
    figures: dict[str, list[dict[str, Any]]] = {}
    for cell in report_of(served)["cells"]:
        if MEASURED in cell["metric"]:
            figures.setdefault(cell["cell"].partition("->")[0], []).append(cell)
    return figures


def _items(body: EmbeddingRequest) -> list[Any]:
    """Each thing to embed: a text, a list of ids or a content part."""
    if isinstance(body.input, str):
        return [body.input]
    if all(isinstance(each, int) for each in body.input):
        return [body.input]
    return list(body.input)


@dataclass(frozen=True)
class Entry:
    """What is embedded: a part, or ids of words; its modality, and the characters or ids that it is."""

    content: Part | list[int]
    kind: str = WORDS
    size: int = TOGETHER  # media go alone


async def _read(item: Any, param: str, state: State, served: Served) -> Entry:
    """An item as it is embedded: ids as they are. Raises ApiError."""
    if isinstance(item, str):
        return Entry(Part(WORDS, item), size=len(item))
    if not isinstance(item, list):
        part = await as_part(item, param, state, served.reads)
        return Entry(part, size=len(part.value)) if part.type == WORDS else Entry(part, part.type)
    size = served.model.network.vocabulary.tables[WORDS]
    if max(item) >= size:
        raise ApiError(
            f"{param}: got the id {max(item)}; expected ids of the model's own tokenizer, below {size}", param=param
        )
    return Entry(item, size=len(item))


def _characters(item: Any) -> int:
    """Of a text, or about as many as its ids write; media have none."""
    if isinstance(item, TextPart):
        return len(item.text)
    return len(item) if isinstance(item, str | list) else 0


def _embedder(served: Served) -> Embedder:
    if served.embedder is None:
        served.embedder = Embedder(served.model.network, served.model.engine.encoder)
    return served.embedder


def _batches(entries: Sequence[Entry]) -> Iterator[list[Part | list[int]]]:
    """What is embedded between two steps of the engine: words of up to TOGETHER characters, or one medium."""
    batch: list[Part | list[int]] = []
    size = 0
    for entry in entries:
        if batch and size + entry.size > TOGETHER:
            yield batch
            batch, size = [], 0
        batch.append(entry.content)
        size += entry.size
    yield batch


async def _vectors(served: Served, entries: Sequence[Entry]) -> np.ndarray:
    """[n, width] vectors; other requests move on between a few of them."""
    embedder = await served.worker.call(partial(_embedder, served))
    return np.concatenate([await served.worker.call(partial(embedder, batch)) for batch in _batches(entries)])


def _tokens(entry: Entry, served: Served) -> int:
    """Tokens of words; media have none."""
    if entry.kind != WORDS:
        return 0
    if isinstance(entry.content, list):
        return len(entry.content)
    return len(served.model.network.vocabulary.modalities[WORDS].read(entry.content).blocks[0].tokens)


def _encoded(vector: np.ndarray, format: str) -> str | list[float]:
    if format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["embeddings"])

    @routes.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> dict[str, Any]:
        """Unit vectors: the product of two tells how alike they are, across modalities too. Only of what the model's report measures
        the retrieval."""
        served = state.find(body.model)
        items = _items(body)
        readable(state, sum(map(_characters, items)), "input")
        if sum(not isinstance(item, str | list | TextPart) for item in items) > state.limits.media:
            raise ApiError(
                f"input: got more than {state.limits.media} media; expected at most that many", param="input"
            )
        figures = measured(served)
        entries: list[Entry] = []
        decoded = 0
        for number, item in enumerate(items):
            entries.append(await _read(item, f"input[{number}]", state, served))
            content = entries[-1].content
            decoded += size_of(content.value) if isinstance(content, Part) else 0
            if decoded > state.limits.decoded:
                raise ApiError(
                    f"input: got more than {state.limits.decoded >> 20} MiB of media when they are decoded; expected less",
                    param="input",
                )
        for kind in {entry.kind: None for entry in entries}:
            if kind not in figures:
                raise unsupported(
                    "model",
                    f"{served.name}'s report measures no retrieval by {kind}; expected one of: {', '.join(figures) or 'none'}",
                )
        vectors = await _vectors(served, entries)
        if body.dimensions not in (None, vectors.shape[1]):
            raise unsupported("dimensions", f"got {body.dimensions}; expected it to be left out, or {vectors.shape[1]}")
        tokens = sum(_tokens(entry, served) for entry in entries)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        return {
            "object": "list", "data": data, "model": served.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    return routes
