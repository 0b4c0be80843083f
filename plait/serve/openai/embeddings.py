"""`/v1/embeddings`: words, pictures and sound in one space, where the model's report says how well they are found in it."""

from __future__ import annotations

import base64
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import Field

from plait.contract import WORDS, Block, Part, Segment
from plait.infer.embedding import Embedder
from plait.serve.errors import ApiError, unsupported
from plait.serve.openai.content import ContentPart, as_part, readable
from plait.serve.openai.models import report_of
from plait.serve.openai.shapes import Body
from plait.serve.state import Served, State

TOGETHER = 64  # texts that the engine's thread embeds at once
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


async def _as_part(item: Any, param: str, state: State, served: Served) -> Part:
    if isinstance(item, str):
        return Part(WORDS, item)
    if isinstance(item, list):
        size = served.model.network.vocabulary.tables[WORDS]
        if max(item) >= size:
            raise ApiError(
                f"{param}: got the id {max(item)}; expected ids of the model's own tokenizer, below {size}", param=param
            )
        words = served.model.network.vocabulary.modalities[WORDS]
        return words.write(Segment(WORDS, (Block((), np.array(item, np.int64)),)))
    return await as_part(item, param, state, served.reads)


def _embedder(served: Served) -> Embedder:
    if served.embedder is None:
        served.embedder = Embedder(served.model.network, served.model.engine.encoder)
    return served.embedder


async def _vectors(served: Served, parts: list[Part]) -> np.ndarray:
    """[n, width] vectors; other requests move on between a few of them."""
    embedder = await served.worker.call(partial(_embedder, served))
    together = TOGETHER if all(part.type == WORDS for part in parts) else 1
    batches = [parts[first : first + together] for first in range(0, len(parts), together)]
    return np.concatenate([await served.worker.call(partial(embedder, batch)) for batch in batches])


def _words_in(part: Part, served: Served) -> int:
    """Tokens of a text; media have none."""
    if part.type != WORDS:
        return 0
    return len(served.model.network.vocabulary.modalities[WORDS].read(part).blocks[0].tokens)


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
        readable(state, sum(len(item) for item in items if isinstance(item, str | list)), "input")
        if sum(not isinstance(item, str | list) for item in items) > state.limits.media:
            raise ApiError(
                f"input: got more than {state.limits.media} media; expected at most that many", param="input"
            )
        figures = measured(served)
        parts = [await _as_part(item, f"input[{number}]", state, served) for number, item in enumerate(items)]
        for part in parts:
            if part.type not in figures:
                raise unsupported(
                    "model",
                    f"{served.name}'s report measures no retrieval by {part.type}; expected one of: {', '.join(figures) or 'none'}",
                )
        vectors = await _vectors(served, parts)
        if body.dimensions not in (None, vectors.shape[1]):
            raise unsupported("dimensions", f"got {body.dimensions}; expected it to be left out, or {vectors.shape[1]}")
        tokens = sum(_words_in(part, served) for part in parts)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        return {
            "object": "list", "data": data, "model": served.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    return routes
