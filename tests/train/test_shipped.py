"""What comes with the package: small, whole, and with the attributions that its data ask for."""

import json
from pathlib import Path

import pytest

from plait.data import sources
from plait.eval.card import NAME
from plait.recipes import smol
from plait.recipes.ancestry import HELD_OUT
from plait.runtime.files import sha256_of
from plait.train import bases, checkpoint, shipped

SHIPPED = sorted(shipped.checkpoints())


def test_the_model_that_chat_opens_is_shipped():
    assert "smol" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small(name):
    files = [path for path in shipped.checkpoints()[name].rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert sum(file.stat().st_size for file in weights) <= 60e6
    assert sum(file.stat().st_size for file in files) <= 65e6
    assert max(file.stat().st_size for file in files) <= 15e6
    assert {file.suffix for file in files if file.stat().st_size > 5e6} == {".safetensors"}


@pytest.mark.parametrize("name", SHIPPED)
def test_its_files_are_those_that_its_configuration_names(name):
    folder = shipped.checkpoints()[name]
    config = checkpoint.read_config(folder)
    for file, expected in config["sha256"].items():
        assert sha256_of(folder / file) == expected, file
    assert bases.find(config["base"]).name == smol.RECIPE.init
    assert '"/' not in json.dumps(config["recipe"]), "a path of the machine that trained it"


@pytest.mark.parametrize("name", SHIPPED)
def test_it_has_rows_of_every_task_that_guard_a_fine_tuning(name):
    folder = shipped.checkpoints()[name] / HELD_OUT
    config = checkpoint.read_config(folder.parent)
    known = checkpoint.load_modalities(folder.parent, config)
    suite = smol.suite(folder, known)
    rows = {task.name: suite.rows.rows(task, "test") for task in suite.tasks}
    assert set(rows) >= {"name", "colour", "count", "transcribe", "say", "draw", "talk"}
    assert all(len(of_task) >= 5 for of_task in rows.values())
    for row in (row for of_task in rows.values() for row in of_task):
        for part in (part for message in row.messages for part in message.parts):
            known[part.type].read(part)


def test_the_report_beside_smol_is_the_one_in_docs():
    """The pages show the first, people read the second."""
    docs = Path(__file__).parents[2] / "docs/smol/report.json"
    assert (shipped.checkpoints()["smol"] / "report.json").read_bytes() == docs.read_bytes()


def test_the_card_of_smol_names_who_is_to_be_named():
    card = (shipped.checkpoints()["smol"] / NAME).read_text(encoding="utf-8")
    for name in (*smol.SOURCES, smol.PROMPTS):
        source = sources.module(name).SOURCE
        assert source.attribution in card, name
        assert source.licence in card, name
    for licence in smol.SHARE_ALIKE:
        assert licence in card


def test_its_conversation_has_its_files():
    for script in shipped.conversations().values():
        for line in script.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words and words[0] in ("/image", "/audio"):
                assert (script.parent / words[1]).is_file(), line
