"""Answers within a grammar or a schema."""

import json
import sys

import pytest
from worlds import World, templated, text

from plait.contract import Message
from plait.errors import ConfigError, MissingError
from plait.infer.engine import Engine
from plait.infer.grammar import Grammar, of_lark, of_schema
from plait.infer.request import Request

pytest.importorskip("llguidance")
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "kinds": {"type": "array", "items": {"enum": ["seven", "zwei", "四"]}, "maxItems": 3},
    },
    "required": ["name", "count", "kinds"],
    "additionalProperties": False,
}


def ask(engine, grammar, seeds=range(6), **options):
    asked = (Message("user", (text("what is this?"),)),)
    more = {"temperature": 1.5, "max_tokens": 200} | options
    return engine.generate([Request(asked, "text", seed=seed, grammar=grammar, **more) for seed in seeds])


def test_every_answer_fits_the_schema():
    engine = Engine(World().model())
    told = [answer.message.parts[0].value for answer in ask(engine, of_schema(SCHEMA))]
    for words in told:
        value = json.loads(words)
        assert set(value) == {"name", "count", "kinds"}
        assert 0 <= value["count"] <= 99
        assert set(value["kinds"]) <= {"seven", "zwei", "四"}
        assert words == json.dumps(value, ensure_ascii=False, separators=(",", ":")), "no blanks to go round in"
    assert len(set(told)) > 1


@pytest.mark.parametrize("lay_out", [lambda world: world, templated], ids=["marks", "template"])
def test_a_grammar_of_ones_own(lay_out):
    engine = Engine(lay_out(World()).model())
    grammar = of_lark('start: /[a-c]{2}/ "-" /[0-9]{3}/')
    for answer in ask(engine, grammar):
        words = answer.message.parts[0].value
        assert words[2] == "-"
        assert set(words[:2]) <= set("abc")
        assert words[3:].isdigit()
        assert answer.reason == "stop"


def test_a_grammar_that_was_not_finished_says_so():
    (answer,) = ask(Engine(World().model()), of_schema(SCHEMA), [0], max_tokens=3)
    assert answer.reason == "length"


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"enum": []}, {"allOf": [{"type": "string"}, {"type": "integer"}]}]
)
def test_a_schema_that_nothing_fits_is_refused(schema):
    with pytest.raises(ConfigError, match="cannot be used"):
        of_schema(schema)


def test_a_bad_grammar_ends_its_request_alone():
    engine = Engine(World().model())
    asked = (Message("user", (text("yes"),)),)
    bad, good = engine.generate([Request(asked, "text", grammar="nonsense("), Request(asked, "text", max_tokens=4)])
    assert isinstance(bad.error, ConfigError)
    assert good.error is None


def test_only_words_have_a_grammar():
    asked = (Message("user", (text("yes"),)),)
    with pytest.raises(ConfigError, match="only words"):
        Request(asked, "image", grammar="x")
    with pytest.raises(ConfigError, match="beside choices"):
        Request(asked, "text", grammar="x", choices=("a",))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    world = World()
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingError, match="pip install llguidance"):
        of_schema({})
    with pytest.raises(MissingError, match="pip install llguidance"):
        Grammar(world.modalities["text"], "", 0, 0)
