"""Functions that the model may call, and answers within a schema, asked by OpenAI's own client."""

import json

import openai
import pytest

from plait.serve.openai import tools as tools_of_server

pytest.importorskip("llguidance")

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"enum": ["Rome", "Oslo"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["place", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASK = [{"role": "user", "content": "what is this?"}]


def chat(client, messages=ASK, **options):
    more = {"temperature": 1.2, "seed": 1, "max_tokens": 150} | options
    return client.chat.completions.create(model="tiny", messages=messages, **more)


def arguments_fit(call):
    assert call.type == "function"
    told = json.loads(call.function.arguments)
    if call.function.name == "weather":
        assert told["place"] in ("Rome", "Oslo")
        assert 1 <= told["days"] <= 7
    else:
        assert (call.function.name, told) == ("clock", {})


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_function_is_called_with_arguments_that_fit(client, choice):
    names = set()
    for seed in range(8):
        (answer,) = chat(client, tools=[WEATHER, CLOCK], tool_choice=choice, seed=seed).choices
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
        (call,) = answer.message.tool_calls
        arguments_fit(call)
        names.add(call.function.name)
    assert names == ({"weather", "clock"} if choice == "required" else {"weather"})


def test_a_stream_tells_a_call_with_its_index(client):
    chunks = list(chat(client, tools=[WEATHER], tool_choice="required", stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    (call,) = calls
    assert call.index == 0
    arguments_fit(call)
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_where_it_may_choose_the_model_says_words_or_calls(client):
    for seed in range(6):
        answer = chat(client, tools=[WEATHER], seed=seed, max_tokens=40).choices[0]
        whole = chat(client, tools=[WEATHER], seed=seed, max_tokens=40, stream=True)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in whole)
        assert said == (answer.message.content or "")
        if answer.finish_reason == "tool_calls":
            arguments_fit(answer.message.tool_calls[0])
    plain = chat(client, max_tokens=40).choices[0].message.content
    assert chat(client, tools=[WEATHER], tool_choice="none", max_tokens=40).choices[0].message.content == plain


def test_a_call_and_its_result_are_read_again(client):
    call = chat(client, tools=[WEATHER], tool_choice="required").choices[0].message
    messages = [
        *ASK,
        call.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sun"},
    ]
    answer = chat(client, messages, tools=[WEATHER], tool_choice="none")
    alone = chat(client, tool_choice="none", tools=[WEATHER])
    assert answer.usage.prompt_tokens > alone.usage.prompt_tokens + 10


def test_definitions_of_parameters_are_found(client):
    """As pydantic writes schemas of models within models."""
    parameters = {
        "type": "object", "$defs": {"P": {"enum": ["Rome"]}}, "properties": {"to": {"$ref": "#/$defs/P"}}, "required": ["to"],
        "additionalProperties": False,
    }  # fmt: skip
    tools = [{"type": "function", "function": {"name": "go", "parameters": parameters}}]
    (call,) = chat(client, tools=tools, tool_choice="required").choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"to": "Rome"}


def test_a_chain_of_references_does_not_end_the_server(client):
    """llguidance follows them on the stack, until there is none."""
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(5000)} | {"a5000": {"type": "string"}}
    schema = {"$ref": "#/$defs/a0", "$defs": chain}
    with pytest.raises(openai.BadRequestError, match="expected at most"):
        chat(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    with pytest.raises(openai.BadRequestError, match="expected at most"):
        chat(client, tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert chat(client).choices


def test_two_functions_of_one_name_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="differ"):
        chat(client, tools=[CLOCK, CLOCK])


def test_braces_within_words_are_no_call():
    assert tools_of_server.call_of('{"a": 1}') is None
    assert tools_of_server.call_of("[" * 5000) is None
    assert tools_of_server.call_of("{" + '"a":[' * 5000) is None
    assert tools_of_server.call_of('{"name": "f", "arguments": {}}')["function"] == {"name": "f", "arguments": "{}"}


def test_a_schema_that_is_long_is_not_ended_because_it_goes_round(client):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 30, "maxItems": 30}},
        "required": ["a"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = chat(client, response_format=format, temperature=0.0, extra_body={"repeats": 2}).choices[0]
    assert len(json.loads(answer.message.content)["a"]) == 30


@pytest.mark.parametrize("schema", [{"anyOf": [{"type": "string"}] * 600}, {"enum": ["x" * 100] * 900}])
def test_a_huge_schema_is_refused(client, schema):
    with pytest.raises(openai.BadRequestError, match="expected at most"):
        chat(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def test_a_choice_without_functions_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        chat(client, tool_choice="required")


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function", "function": {"name": "bad name"}}],
        [{"type": "function", "function": {"name": "f", "parameters": {"type": "nonsense"}}}],
    ],
)
def test_a_bad_function_is_refused(client, tools):
    with pytest.raises(openai.BadRequestError, match=r"tools\[0\]"):
        chat(client, tools=tools)


def test_an_unknown_function_cannot_be_chosen(client):
    with pytest.raises(openai.BadRequestError, match="expected one of weather"):
        chat(client, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "clock"}})


def test_an_answer_fits_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    told = json.loads(chat(client, response_format=format).choices[0].message.content)
    assert set(told) == {"n"}
    some = chat(client, response_format={"type": "json_object"}).choices[0].message.content
    assert some.startswith("{")
    response = client.responses.create(
        model="tiny",
        input="what is this?",
        text={"format": {"type": "json_schema", "name": "number", "schema": schema}},
    )
    assert set(json.loads(response.output_text)) == {"n"}
