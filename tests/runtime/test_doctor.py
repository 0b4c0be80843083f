"""What `plait doctor` looks for is what the package declares."""

import importlib.util
import re
from pathlib import Path

import pytest

from plait import api
from plait.runtime import doctor
from plait.train import bases

PYPROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


def declared(name):
    """Requirements in the list `name` of pyproject.toml, without their versions. (tomllib needs Python 3.11.)"""
    (inside,) = re.findall(rf"^{name} = \[(.*?)\]$", PYPROJECT, re.DOTALL | re.MULTILINE)
    return [re.match(r"[\w.-]+(\[[\w,]+\])?", requirement)[0] for requirement in re.findall(r'"([^"]+)"', inside)]


def optional():
    """Names of the extras in pyproject.toml."""
    (section,) = re.findall(r"^\[project\.optional-dependencies\]\n(.*?)\n\n", PYPROJECT, re.DOTALL | re.MULTILINE)
    return [line.split(" = ")[0] for line in section.splitlines()]


def test_every_requirement_is_looked_for():
    assert list(doctor.REQUIRED) == declared("dependencies")
    assert all(importlib.util.find_spec(module) for module in doctor.REQUIRED.values())


def test_every_extra_is_known():
    assert list(doctor.EXTRAS) == optional()


@pytest.mark.parametrize("name", optional())
def test_an_extra_has_the_packages_that_are_declared(name):
    extra = doctor.EXTRAS[name]
    included = [f"plait[{','.join(extra.includes)}]"] if extra.includes else []
    plain = [each if each.startswith("plait[") else each.split("[")[0] for each in declared(name)]
    assert sorted(plain) == sorted([*included, *extra.packages])
    assert extra.purpose


def test_an_extra_with_a_missing_package_says_how_to_get_it(monkeypatch):
    gone = {"sacrebleu", "onnxruntime"}
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package not in gone)
    lines = {finding.what: finding for finding in doctor.findings()}
    assert lines["extra recorded"] == doctor.Finding("extra recorded", doctor.GOOD, doctor.EXTRAS["recorded"].purpose)
    for name, missing in (
        ("scores", "sacrebleu"),
        ("judges", "sacrebleu, onnxruntime"),
        ("dev", "sacrebleu, onnxruntime"),
    ):
        assert lines[f"extra {name}"].state == doctor.NOTE, "nobody needs an extra"
        assert lines[f"extra {name}"].advice.endswith(f"; missing {missing}: python -m pip install 'plait[{name}]'")


def test_a_distribution_is_found_by_its_own_name():
    assert doctor._is_installed("pytest")
    assert doctor._is_installed("PyYAML") == doctor._is_installed("pyyaml")
    assert not doctor._is_installed("no-such-package-anywhere")


def test_a_missing_requirement_fails(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(doctor.REQUIRED, "unobtainium", "unobtainium")
    assert doctor.report() == 1
    printed = capsys.readouterr().out
    assert "unobtainium: python -m pip install plait" in printed
    assert "plait[judges]" in printed or doctor._is_installed("gguf"), "a name in brackets is no markup"
    monkeypatch.undo()
    assert next(doctor._packages()).state == doctor.GOOD


def test_a_base_is_said_to_be_here_or_what_it_takes(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    (lacking,) = api.bases()
    assert (lacking.what, lacking.state) == ("base smollm2-135m-instruct", doctor.NOTE)
    assert "93 MB" in lacking.advice
    assert "plait import smollm2-135m-instruct" in lacking.advice
    bases.imported(bases.BASES["smollm2-135m-instruct"]).mkdir(parents=True)
    assert [finding.state for finding in api.bases()] == [doctor.GOOD]


def test_what_smol_takes_is_compared_with_what_is_here(monkeypatch):
    monkeypatch.setattr(doctor, "SMOL_DISK", 0)  # the machine that tests may itself be short of disk
    monkeypatch.setattr(doctor, "SMOL_MEMORY", 10**6)
    (finding,) = doctor._smol()
    assert finding.state == doctor.NOTE
    assert "short of memory" in finding.advice
    monkeypatch.setattr(doctor, "SMOL_MEMORY", 0)
    (finding,) = doctor._smol()
    assert finding.state == doctor.GOOD
