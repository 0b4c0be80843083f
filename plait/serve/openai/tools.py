"""Functions that a model may call, and answers within a schema.

The functions stand in the system message, as JSON. A call is an answer that is a JSON object with `name` and `arguments`: a grammar lets it
be nothing else, so what is called exists and its arguments fit their schema. Where the model may choose, an answer that begins
with a brace is a call, and any other is words.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal

from pydantic import Field

from plait.infer import grammar
from plait.serve.errors import ApiError, unsupported
from plait.serve.openai.shapes import Shape

ASKED = (
    "You can call these functions:\n{functions}\n"
    'To call one, answer with JSON alone: {{"name": NAME, "arguments": {{...}}}}. Otherwise answer in words.'
)
TOLD = "Result of {name}: {content}"
MOST_NODES, MOST_TEXT = 500, 64_000  # of a schema
DEFINITIONS = ("$defs", "definitions")
NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
NAME = r"^[a-zA-Z0-9_-]{1,64}$"
WORDS_OR_CALL = "start: words | call\nwords: /[^{{](.|\\n)*/\ncall: %json {schema}\n"


class Function(Shape):
    """What a function is called, does and takes."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Shape):
    """A function that may be called."""

    type: Literal["function"]
    function: Function


class Named(Shape):
    """The name of a function."""

    name: str


class NamedTool(Shape):
    """The function that must be called."""

    type: Literal["function"]
    function: Named


class Called(Shape):
    """What was called with which arguments, as JSON."""

    name: str
    arguments: str


class ToolCall(Shape):
    """A call in an earlier answer."""

    id: str
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None


class JsonSchema(Shape):
    """A schema under a name."""

    name: str
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Shape):
    """What the answer's words are: anything, some JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


Choice = Literal["none", "auto", "required"] | NamedTool


def within(format: ResponseFormat | None, param: str) -> str:
    """The grammar of a format; empty for any words. Raises ApiError."""
    if format is None or format.type == "text":
        return ""
    if format.type == "json_schema" and format.json_schema is None:
        raise ApiError(f"{param}.json_schema: is missing; expected a name and a schema", param=f"{param}.json_schema")
    schema = format.json_schema.schema_ if format.json_schema is not None else {"type": "object"}
    return _of_schema(schema, f"{param}.json_schema.schema")


def _of_schema(schema: dict[str, Any], param: str) -> str:
    if (length := len(json.dumps(schema))) > MOST_TEXT:
        raise ApiError(
            f"{param}: got {length} characters; expected at most {MOST_TEXT}", param=param, code="invalid_json_schema"
        )
    if (size := _size(schema)) > MOST_NODES:
        raise ApiError(
            f"{param}: got {size} objects and lists; expected at most {MOST_NODES}",
            param=param,
            code="invalid_json_schema",
        )
    try:
        return grammar.of_schema(schema)
    except ValueError as error:
        raise ApiError(f"{param}: {error}", param=param, code="invalid_json_schema") from error


def _size(value: Any) -> int:
    """Objects and lists in a value: llguidance follows references as deep as they go, on the stack."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + sum(map(_size, inner))


def _schema(tools: list[Tool]) -> dict[str, Any]:
    """What a call of one of some functions looks like. Each one's parameters are a definition of their own, and so are theirs."""
    calls, definitions = [], {}
    for number, tool in enumerate(tools):
        alias = f"tool{number}"
        parameters = dict(tool.function.parameters or NOTHING)
        for place in DEFINITIONS:
            for name, inner in dict(parameters.pop(place, {})).items():
                definitions[f"{alias}.{name}"] = _renamed(inner, alias)
        definitions[alias] = _renamed(parameters, alias)
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, "arguments": {"$ref": f"#/$defs/{alias}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}) | {"$defs": definitions}


def _renamed(value: Any, own: str) -> Any:
    """A schema whose references point to where its function's definitions lie now."""
    if isinstance(value, list):
        return [_renamed(each, own) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {key: _renamed(inner, own) for key, inner in value.items()}
    reference = renamed.get("$ref")
    if reference == "#":
        renamed["$ref"] = f"#/$defs/{own}"
    elif isinstance(reference, str):
        for place in DEFINITIONS:
            if reference.startswith(f"#/{place}/"):
                renamed["$ref"] = f"#/$defs/{own}.{reference.removeprefix(f'#/{place}/')}"
    return renamed


def calling(tools: list[Tool], choice: Choice | None) -> str:
    """The grammar of answers that may, or must, call one of the functions. Raises ApiError."""
    if len({tool.function.name for tool in tools}) < len(tools):
        raise ApiError(
            "tools: got two functions of one name; expected names that differ", param="tools", code="invalid_value"
        )
    for number, tool in enumerate(tools):
        _of_schema(_schema([tool]), f"tools[{number}].function.parameters")
    _of_schema(_schema(tools), "tools")
    if isinstance(choice, NamedTool):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            raise ApiError(
                f"tool_choice: got the function {choice.function.name!r}; expected one of "
                f"{', '.join(tool.function.name for tool in tools)}", param="tool_choice",
            )  # fmt: skip
        return _of_schema(_schema(named), "tools")
    if choice == "required":
        return _of_schema(_schema(tools), "tools")
    compact = {**_schema(tools), "x-guidance": {"whitespace_flexible": False}}
    return grammar.of_lark(WORDS_OR_CALL.format(schema=json.dumps(compact)))


def asked(tools: list[Tool]) -> str:
    """The words that tell a model of its functions."""
    functions = "\n".join(json.dumps(tool.function.model_dump(exclude_none=True, exclude={"strict"})) for tool in tools)
    return ASKED.format(functions=functions)


def said(calls: list[ToolCall]) -> str:
    """An earlier call, as the model wrote it. Raises ApiError for several at once, which it cannot have written."""
    if len(calls) != 1:
        raise unsupported("messages.tool_calls", f"got {len(calls)} calls in one answer; expected one")
    try:
        arguments = json.loads(calls[0].function.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(f"messages.tool_calls: arguments are no JSON: {error}", param="messages") from error
    return json.dumps(
        {"name": calls[0].function.name, "arguments": arguments}, ensure_ascii=False, separators=(",", ":")
    )


def call_of(words: str) -> dict[str, Any] | None:
    """The call that an answer is, as OpenAI's object; None for words, or for a call that was cut off."""
    if not words.startswith("{"):
        return None
    try:
        call = json.loads(words)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not {"name", "arguments"} <= set(call):
        return None
    arguments = json.dumps(call["arguments"], ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
