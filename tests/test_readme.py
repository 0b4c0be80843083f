"""The READMEs and the pages of numbers: figures of the stored reports, commands and files that exist, code that runs."""

import inspect
import itertools
import json
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import typer

import plait
from plait import registry
from plait.cli import app
from plait.cli.generate import parse_arguments, request_options
from plait.recipes import digits
from plait.recipes.digits import RECIPE

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "readme_numbers.py"))
READMES = ("README.md", "README.zh-CN.md")
WITH_COMMANDS = (
    *READMES,
    "docs/results.md",
    "docs/speed.md",
    "docs/your-data.md",
    "docs/fine-tuning.md",
    "docs/dictionary.md",
    "docs/serving.md",
    "docs/annotating.md",
    "docs/collecting.md",
    "docs/explaining.md",
    "docs/preferences.md",
    "docs/elsewhere.md",
    "docs/fusing.md",
)
MOST_LINES = 150
TINY = (
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "steps=2", "pack.sequences=2", "dtype=float32",
    'sampling={"steps":2,"guidance":2.5,"temperature":0.3,"max_tokens":12}',
)  # fmt: skip


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports():
    return [json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "demo").glob("seed-*.json"))]


def test_the_reports_are_of_one_recipe(reports):
    assert [report["seed"] for report in reports] == [0, 1, 2], "seeds of the training"
    same = {(report["train"]["steps"], report["data"]["files"]["train.jsonl"]["sha256"]) for report in reports}
    assert same == {(RECIPE.steps, reports[0]["data"]["files"]["train.jsonl"]["sha256"])}, "one recipe, one data set"


@pytest.mark.parametrize("page", SCRIPT["PAGES"])
def test_the_tables_are_of_the_stored_reports(page, reports):
    text = read(page)
    assert SCRIPT["fill"](text, page, reports) == text
    assert not re.search(r"@[A-Z]+@", text), "a place is left to be filled"


def test_a_page_without_its_marks_is_refused(reports):
    with pytest.raises(ValueError, match="headlines"):
        SCRIPT["fill"]("no table here", "README.md", reports)


def test_the_short_table_has_a_line_for_every_cell_of_the_grid(reports):
    kinds = registry.available()
    chosen = SCRIPT["headline_cells"](reports[0])
    assert sorted(cell["cell"] for cell in chosen) == sorted(f"{a}->{b}" for a, b in itertools.product(kinds, kinds))


@pytest.mark.parametrize("page", READMES)
def test_the_short_table_is_in_the_language_of_its_page(page, reports):
    """A task that has no name in the page's language would show its name in the code."""
    words = SCRIPT["PAGES"][page][1]
    assert all(cell["task"] in words for cell in SCRIPT["headline_cells"](reports[0]))


def test_the_recipe_s_promise_names_its_steps():
    assert f"{RECIPE.steps:,} steps" in digits.__doc__


@pytest.mark.parametrize("page", READMES)
def test_a_reader_in_a_hurry_is_spared(page):
    assert len(read(page).splitlines()) < MOST_LINES


@pytest.mark.parametrize("page", READMES)
def test_the_tree_names_what_is_there(page):
    """Every folder and top module of the package stands in the tree, and nothing that is gone."""
    tree = re.search(r"    plait/\n(.*?)\n    tests/", read(page), re.DOTALL).group(1)
    first_columns = (re.split(r"\s{2,}", line.strip())[0] for line in tree.splitlines())
    named = {name for column in first_columns for name in re.findall(r"\w+(?:/|\.py)", column)}
    there = {f"{path.name}/" for path in (ROOT / "plait").iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in (ROOT / "plait").glob("*.py") if not path.name.startswith("__")}
    assert named == there


def test_both_languages_have_the_same_code_commands_and_figures():
    """The words are translated; code, commands and the numbers of tables are the same."""
    code = [re.findall(r"```python\n(.*?)```", read(page), re.DOTALL) for page in READMES]
    assert code[0] == code[1]
    shown = [commands(page) for page in READMES]
    assert shown[0] == shown[1]
    figures = [re.findall(r"\d+(?:[.,]\d+)*", "\n".join(rows(page))) for page in READMES]
    assert figures[0] == figures[1]


def rows(page):
    """Rows of a page's tables, without code."""
    return [re.sub(r"`[^`]*`", "", line) for line in read(page).splitlines() if line.startswith("|")]


def commands(page):
    """Every command line of plait that a page shows, indented or in a code span, as words."""
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    lines = re.findall(r"^ {4}(plait .*)$", text, re.MULTILINE) + re.findall(r"`(plait [^`]*)`", text)
    parts = (part for line in lines for part in re.split(r"&&", line))
    return [words[1:] for part in parts if (words := shlex.split(part, comments=True))[0] == "plait"]


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_is_one_that_plait_takes(page):
    """Its verb exists, and so do its options; its settings are settings. Nothing is run."""
    lines = [line for line in commands(page) if "..." not in line and line]
    assert lines
    for words in lines:
        command, name = typer.main.get_command(app), "plait"
        arguments = list(words)
        while isinstance(command, click.Group):
            assert arguments, f"{name}: a verb is missing"
            assert arguments[0] in command.commands, f"{name} {arguments[0]}"
            name = arguments.pop(0)
            command = command.commands[name]
        if "--help" in arguments:
            continue
        if not arguments and any(parameter.required for parameter in command.params):
            continue  # the verb alone, named in a sentence
        context = command.make_context(name, arguments)
        if name == "generate":
            asked = parse_arguments(context.params["arguments"], registry.available())
            assert asked.inputs
            request_options(asked.settings, registry.available())
        if name == "train" and context.params["recipe"] and not context.params["recipe"].endswith(".json"):
            plait.api.settings(context.params["recipe"], *context.params["overrides"] or ())


def test_the_code_runs(small_digits, tmp_path, monkeypatch):
    """As a reader would paste it, with a smaller model on fewer rows; measuring is tested elsewhere."""
    measured = []

    def evaluate(*arguments, **options):
        measured.append(inspect.signature(plait.evaluate).bind(*arguments, **options))

    offered = SimpleNamespace(
        build=lambda *arguments: inspect.signature(plait.build).bind(*arguments),
        train=lambda name, **options: plait.train(name, f"data={small_digits}", *TINY, threads=1, **options),
        load=plait.load,
        export=plait.export,
        evaluate=evaluate,
    )
    (code,) = re.findall(r"```python\nimport plait\n(.*?)```", read("README.md"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    session = {"plait": offered}
    exec(compile(code, "README.md", "exec"), session)
    assert session["picture"].size == (28, 28)
    assert session["speech"][1] == 16_000
    assert measured
    assert (tmp_path / "mine.plait").is_file()


@pytest.mark.parametrize("page", [*WITH_COMMANDS, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target
