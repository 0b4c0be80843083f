"""The READMEs' numbers are those of the stored reports, and their file trees name what is there."""

import json
import re
import runpy
from pathlib import Path

import pytest

from plait.recipes import digits
from plait.recipes.digits import RECIPE

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "readme_numbers.py"))
PAGES = list(SCRIPT["PAGES"])


@pytest.mark.parametrize("page", PAGES)
def test_the_table_is_of_the_stored_reports(page):
    reports = [json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "demo").glob("seed-*.json"))]
    assert [report["seed"] for report in reports] == [0, 1, 2], "seeds of the training"
    same = {(report["train"]["steps"], report["data"]["files"]["train.jsonl"]["sha256"]) for report in reports}
    assert same == {(RECIPE.steps, reports[0]["data"]["files"]["train.jsonl"]["sha256"])}, "one recipe, one data set"
    text = (ROOT / page).read_text()
    assert SCRIPT["with_table"](text, SCRIPT["table"](reports, page)) == text
    assert not re.search(r"@[A-Z]+@", text), "a place is left to be filled"


def test_the_recipe_s_promise_names_its_steps():
    assert f"{RECIPE.steps:,} steps" in digits.__doc__


@pytest.mark.parametrize("page", PAGES)
def test_the_tree_names_what_is_there(page):
    """Every folder and top module of the package stands in the tree, and nothing that is gone."""
    tree = re.search(r"    plait/\n(.*?)\n    tests/", (ROOT / page).read_text(), re.DOTALL).group(1)
    first_columns = (re.split(r"\s{2,}", line.strip())[0] for line in tree.splitlines())
    named = {name for column in first_columns for name in re.findall(r"\w+(?:/|\.py)", column)}
    there = {f"{path.name}/" for path in (ROOT / "plait").iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in (ROOT / "plait").glob("*.py") if not path.name.startswith("__")}
    assert named == there


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target
