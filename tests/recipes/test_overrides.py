"""Settings by dotted key, and where recipes come from."""

import json

import pytest

from plait import recipes
from plait.errors import ConfigError
from plait.recipes.overrides import override, parse_value

DIGITS = recipes.load("digits")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("adamw", "adamw"),
        ("data/birds", "data/birds"),
        ("a=b", "a=b"),
        ("", ""),
        ("[1, 2", "[1, 2"),
    ],
)
def test_values_are_json_or_words(text, value):
    assert parse_value(text) == value


def test_a_dotted_key_changes_one_setting_and_nothing_else():
    changed = override(DIGITS, ["optim.lr=0.001", "steps=7", "data=elsewhere"])
    assert (changed.optim.lr, changed.steps, changed.data) == (0.001, 7, "elsewhere")
    kept = changed.model_copy(update={"optim": DIGITS.optim, "steps": DIGITS.steps, "data": DIGITS.data})
    assert kept == DIGITS
    assert DIGITS.steps == recipes.load("digits").steps, "the recipe itself stays"


def test_the_last_of_two_wins_and_a_value_may_hold_an_equals_sign():
    assert override(DIGITS, ["steps=5", "steps=6"]).steps == 6
    assert override(DIGITS, ["data=a=b"]).data == "a=b"


def test_a_whole_group_may_be_given():
    changed = override(DIGITS, ['sampling={"steps": 3}'])
    assert changed.sampling.steps == 3
    assert changed.sampling.guidance == type(changed.sampling)().guidance, "the rest as the class has it"


def test_a_task_may_have_a_weight_that_had_none():
    assert "own" not in DIGITS.weights
    assert override(DIGITS, ["weights.own=0.25"]).weights == DIGITS.weights | {"own": 0.25}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("steps", r"override 'steps'; expected key=value, such as optim.lr=0.001"),
        ("stpes=5", r"stpes: Extra inputs are not permitted \(got 5\).*; did you mean steps\?"),
        ("optim.lrr=5", r"optim\.lrr: .*; did you mean lr\?"),
        ("optm.lr=5", r"there is no 'optm'.*; did you mean optim\?"),
        ("nothing_like_it=5", r"Recipe$"),
        ("steps=many", r"steps: .*integer.*\(got 'many'\)"),
        ("steps=0", r"steps: .*greater than.*\(got 0\)"),
        ("optim.lr=-1", r"optim.lr: .*greater than 0 \(got -1\)"),
        ("optim.name=sgd", r"optim.name: .*'muon' or 'adamw' \(got 'sgd'\)"),
        ("optims.lr=1", r"there is no 'optims'; expected one of .*optim, .*steps"),
        ("steps.lr=1", r"there is no 'steps'"),
        ("optim.lr.peak=1", r"there is no 'lr'; expected one of .*betas, .*warmup"),
        ("trunk.num_heads=3", r"trunk: .*dim=256 does not split into 3 heads"),
    ],
)
def test_what_is_no_setting_is_named(entry, told):
    with pytest.raises(ConfigError, match=told):
        override(DIGITS, [entry])


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_of_the_package_loads_and_is_called_as_its_module(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipes.module(name).__doc__
    assert callable(recipes.module(name).build)


@pytest.mark.parametrize("name", ["digit", "recipe", "overrides", "autoconfig", "", "../digits", "digits.py"])
def test_an_unknown_recipe_is_refused_with_those_that_are_known(name):
    with pytest.raises(ConfigError, match="expected one of dictionary, digits, fashion"):
        recipes.load(name)


def test_a_recipe_goes_into_a_file_and_back(tmp_path):
    changed = override(DIGITS, ["optim.lr=0.001", "augment.read.share=0.5"])
    path = tmp_path / "mine.json"
    path.write_text(changed.model_dump_json(), encoding="utf-8")
    assert recipes.load(str(path)) == changed


@pytest.mark.parametrize(
    "content", [None, "", "[]", "null", '"digits"', "{}", '{"name": 1}', json.dumps({"name": "a", "unknown": 1})]
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.json is no recipe: .*expected a file such as a run's proposal\.json"):
        recipes.load(str(path))


def test_a_setting_of_a_stage_is_changed_by_its_key():
    changed = override(recipes.load("smol"), ["stages.align.steps=7", "stages.align.optim.lr=0.5"])
    assert (changed.stage("align").steps, changed.stage("align").optim.lr) == (7, 0.5)
    assert changed.stage("align").trainable == recipes.load("smol").stage("align").trainable
    with pytest.raises(ConfigError, match="stages"):
        override(recipes.load("smol"), ["stages.align.step=7"])
