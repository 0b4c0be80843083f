"""Messages of a request as the model reads them, and the parts of an answer as a client reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from plait.contract import WORDS, Message, Part
from plait.serve.errors import ApiError
from plait.serve.media import as_base64, as_url, from_base64, from_url
from plait.serve.openai import tools
from plait.serve.openai.shapes import Shape
from plait.serve.openai.tools import ToolCall
from plait.serve.state import State

IMAGE, AUDIO = "image", "audio"
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}


class TextPart(Shape):
    """Words. `input_text` and `output_text` are what the Responses API calls them."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class ImageAddress(Shape):
    """A data: URL of a picture. `detail` has no effect: the model has one resolution."""

    url: str
    detail: str | None = None


class ImagePart(Shape):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


class InputImage(Shape):
    """A picture as the Responses API gives it."""

    type: Literal["input_image"]
    image_url: str
    detail: str | None = None


class Sound(Shape):
    """Sound in base64. The file says itself what format it has."""

    data: str
    format: str | None = None


class AudioPart(Shape):
    """A clip."""

    type: Literal["input_audio"]
    input_audio: Sound


class OtherPart(BaseModel):
    """A part of any other modality, by its name: `{"type": NAME, NAME: {"data": BASE64}}`."""

    model_config = ConfigDict(extra="allow")
    type: str


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    words = dict.fromkeys(("text", "input_text", "output_text"), "=words")
    known = {**words, "image_url": "=image", "input_image": "=input", "input_audio": "=sound"}
    return known.get(kind if isinstance(kind, str) else "", "=other")


ContentPart = Annotated[
    Annotated[TextPart, Tag("=words")]
    | Annotated[ImagePart, Tag("=image")]
    | Annotated[InputImage, Tag("=input")]
    | Annotated[AudioPart, Tag("=sound")]
    | Annotated[OtherPart, Tag("=other")],
    Discriminator(_tag),
]


class ChatMessage(Shape):
    """A message. `name` has no effect."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Field(max_length=1000)] | None = None
    name: str | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: None = None
    annotations: list[Any] | None = None
    images: list[Any] | None = None


async def as_messages(messages: list[ChatMessage], state: State, kinds: list[str]) -> tuple[Message, ...]:
    """The conversation as the model reads it. Raises ApiError for parts that it cannot read, or for too many."""
    if not messages:
        raise ApiError("messages: got none; expected at least one", param="messages", code="invalid_value")
    if len(messages) > state.limits.messages:
        raise ApiError(f"messages: got {len(messages)}; expected at most {state.limits.messages}", param="messages")
    media = sum(_is_medium(part) for m in messages if isinstance(m.content, list) for part in m.content)
    if media > state.limits.media:
        raise ApiError(f"messages: got {media} media; expected at most {state.limits.media}", param="messages")
    readable(state, sum(_characters(message.content) for message in messages), "messages")
    asked: list[Message] = []
    called: dict[str, str] = {}
    decoded = 0
    for number, message in enumerate(messages):
        called |= {call.id: call.function.name for call in message.tool_calls or ()}
        parts = await _parts(message, f"messages[{number}]", state, kinds)
        if message.role == "tool":
            parts = (Part(WORDS, _result(message, f"messages[{number}]", called, parts)),)
        elif message.tool_calls:
            parts = (*parts, Part(WORDS, tools.said(message.tool_calls)))
        decoded += sum(size_of(part.value) for part in parts if part.type != WORDS)
        if decoded > state.limits.decoded:
            raise ApiError(
                f"messages: got media of more than {state.limits.decoded >> 20} MiB when they are decoded; expected fewer or "
                "smaller ones", param="messages",
            )  # fmt: skip
        if parts:
            asked.append(Message(ROLES[message.role], parts))  # type: ignore[arg-type]
    if not asked or asked[-1].role == "assistant":
        raise ApiError("messages: the last one says nothing to answer; expected a question", param="messages")
    return tuple(asked)


def readable(state: State, characters: int, param: str) -> None:
    """Raise ApiError for more text than the server looks at: tokenising it takes the time of others."""
    if characters > state.limits.characters:
        raise ApiError(
            f"{param}: got {characters:,} characters; expected at most {state.limits.characters:,}",
            param=param,
            code="invalid_value",
        )


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(part.text) for part in content or () if isinstance(part, TextPart))


def _is_medium(part: Any) -> bool:
    return not isinstance(part, TextPart)


def size_of(value: Any) -> int:
    """Memory of a decoded value's arrays."""
    if isinstance(value, tuple | list):
        return sum(map(size_of, value))
    return int(getattr(value, "nbytes", 0))


def _result(message: ChatMessage, param: str, called: dict[str, str], parts: tuple[Part, ...]) -> str:
    """The words that tell what a call gave. Raises ApiError."""
    if message.tool_call_id not in called:
        raise ApiError(
            f"{param}.tool_call_id: got {message.tool_call_id!r}; expected the id of a call in an earlier message",
            param=f"{param}.tool_call_id", code="invalid_value",
        )  # fmt: skip
    if any(part.type != WORDS for part in parts):
        raise ApiError(f"{param}.content: a result is words", param=f"{param}.content", code="unsupported_content")
    words = "".join(str(part.value) for part in parts)
    return tools.TOLD.format(name=called[message.tool_call_id], content=words)


async def _parts(message: ChatMessage, param: str, state: State, kinds: list[str]) -> tuple[Part, ...]:
    if message.content is None and message.role != "assistant":
        raise ApiError(f"{param}.content: got null; expected words or parts", param=f"{param}.content")
    if message.audio is not None and message.content is None:
        raise ApiError(
            f"{param}.audio: this server keeps no answers; expected content with the transcript, or the sound itself",
            param=f"{param}.audio", code="unsupported_parameter",
        )  # fmt: skip
    if isinstance(message.content, str) or message.content is None:
        return (Part(WORDS, message.content),) if message.content else ()
    parts = [
        await as_part(part, f"{param}.content[{number}]", state, kinds) for number, part in enumerate(message.content)
    ]
    return tuple(part for part in parts if part.type != WORDS or part.value)


async def as_part(part: Any, param: str, state: State, kinds: list[str]) -> Part:
    """A content part as the model reads it, its medium decoded. Raises ApiError."""
    if isinstance(part, TextPart):
        return Part(WORDS, part.text)
    if isinstance(part, ImagePart | InputImage):
        kind, inner = IMAGE, f"{param}.image_url"
        data = from_url(part.image_url if isinstance(part, InputImage) else part.image_url.url, inner)
    elif isinstance(part, AudioPart):
        kind, inner = AUDIO, f"{param}.input_audio.data"
        data = from_base64(part.input_audio.data, inner)
    else:
        kind, inner = part.type, f"{param}.{part.type}.data"
        value = (part.model_extra or {}).get(kind)
        if kind not in kinds or not isinstance(value, dict) or not isinstance(value.get("data"), str):
            others = [name for name in kinds if name not in (WORDS, IMAGE, AUDIO)]
            known = ("text", *(("image_url",) if IMAGE in kinds else ()), *(("input_audio",) if AUDIO in kinds else ()))
            more = "".join(f', {{"type": "{name}", "{name}": {{"data": BASE64}}}}' for name in others)
            raise ApiError(
                f"{param}: got a part of type {kind!r}; expected one of {', '.join(known)}{more}",
                param=f"{param}.type", code="unsupported_content",
            )  # fmt: skip
        data = from_base64(value["data"], inner)
    if kind not in kinds:
        raise ApiError(
            f"{param}: this model reads {', '.join(kinds)}; got {kind}", param=param, code="unsupported_content"
        )
    return await state.media.decode(kind, data, inner)


def as_content(part: Part) -> dict[str, Any]:
    """A part of an answer, as the same shape that a request would send it in."""
    if part.type == WORDS:
        return {"type": "text", "text": part.value}
    if part.type == IMAGE:
        return {"type": "image_url", "image_url": {"url": as_url(part)}}
    if part.type == AUDIO:
        return {"type": "input_audio", "input_audio": as_base64(part)}
    return {"type": part.type, part.type: as_base64(part)}
