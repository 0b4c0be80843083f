"""What a client of `/v1/realtime` sends: the session's settings, and its events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from plait.serve.openai.content import InputImage
from plait.serve.openai.shapes import Body, Shape

RATE = 24_000  # Hz of 16-bit samples, in both directions


class Format(Shape):
    """Of samples: 16 bits at 24 kHz, and nothing else."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24_000] = 24_000


class Transcription(Shape):
    """That what is heard is written down, by the session's own model."""

    model: str | None = None
    language: Literal["en"] | None = None


class ServerVad(Shape):
    """How turns are found: plait.serve.turns. `prefix_padding_ms`: kept of the sound before speech."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(300, ge=0, le=5000)
    silence_duration_ms: int = Field(500, ge=100, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True


class Input(Shape):
    """What comes in. Without `turn_detection` the client says when a turn ends."""

    format: Format = Format()
    transcription: Transcription | None = None
    turn_detection: ServerVad | None = ServerVad()


class Output(Shape):
    """What goes out."""

    format: Format = Format()
    voice: str | None = None


class Audio(Shape):
    """Sound in both directions."""

    input: Input = Input()
    output: Output = Output()


class Settings(Body):
    """A session. Kind `transcription` writes down what it hears and answers nothing."""

    type: Literal["realtime", "transcription"] = "realtime"
    model: str | None = None
    instructions: Annotated[str, Field(max_length=20_000)] = ""
    output_modalities: list[Literal["text", "audio"]] = Field(default=["text"], min_length=1, max_length=1)
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] = "inf"
    audio: Audio = Audio()
    tools: list[Any] = Field(default=[], max_length=0)
    tool_choice: Literal["auto", "none"] = "auto"
    tracing: None = None


class WordsPart(Shape):
    """Words of either side."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class SoundPart(Shape):
    """Samples, in base64."""

    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


class PicturePart(InputImage):
    """A picture, as a data: URL."""


class Item(Shape):
    """A message of the conversation."""

    id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    type: Literal["message"] = "message"
    object: Literal["realtime.item"] | None = None
    status: str | None = None
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[WordsPart | SoundPart | PicturePart], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _is_of_its_role(self) -> Item:
        if self.role != "user" and not all(isinstance(part, WordsPart) for part in self.content):
            raise ValueError(f"content of {self.role}: expected words")
        return self


class ClientEvent(Body):
    """What all events of a client have."""

    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(ClientEvent):
    """Settings that are to change; the others stay."""

    type: Literal["session.update"]
    session: dict[str, Any]


class Append(ClientEvent):
    """More samples."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(ClientEvent):
    """The samples so far are a turn."""

    type: Literal["input_audio_buffer.commit"]


class Clear(ClientEvent):
    """The samples so far are nothing."""

    type: Literal["input_audio_buffer.clear"]


class ItemCreate(ClientEvent):
    """A message, after another one or at the end."""

    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: str | None = None


class Delete(ClientEvent):
    """Take a message out."""

    type: Literal["conversation.item.delete"]
    item_id: str


class Retrieve(ClientEvent):
    """Show a message."""

    type: Literal["conversation.item.retrieve"]
    item_id: str


class Truncate(ClientEvent):
    """Of an answer in sound no more than this was played."""

    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Literal[0] = 0
    audio_end_ms: int = Field(ge=0)


class Answered(Shape):
    """How one answer differs from the session's others."""

    instructions: Annotated[str, Field(max_length=20_000)] | None = None
    output_modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    metadata: dict[str, str] | None = None


class Respond(ClientEvent):
    """Answer now."""

    type: Literal["response.create"]
    response: Answered = Answered()


class Cancel(ClientEvent):
    """Answer no further."""

    type: Literal["response.cancel"]
    response_id: str | None = None


Event = SessionUpdate | Append | Commit | Clear | ItemCreate | Delete | Retrieve | Truncate | Respond | Cancel
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def merged(settings: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Settings with an update: objects are merged, anything else is replaced."""
    result = dict(settings)
    for key, value in update.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result
