"""The files for containers are what their tools accept, and speak of what is there."""

import re
import subprocess
import sys
from pathlib import Path

import yaml
from typer.testing import CliRunner

from plait.cli import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def test_the_dockerfile_has_no_faults():
    linted = subprocess.run([BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_the_manifest_fits_its_schemas():
    checked = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_container_says_what_the_command_line_knows():
    text = (DEPLOY / "Dockerfile").read_text()
    _, verb, *options = re.findall(r'"([^"]+)"', re.search(r"ENTRYPOINT (.*)", text)[1])
    known = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in known for option in options if option.startswith("--"))
    for copied in re.search(r"COPY (.*) \./\n", text)[1].split():
        assert (ROOT / copied).exists(), copied


def test_the_manifest_asks_what_the_server_answers():
    deployment, service, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/readyz", "/healthz"}
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}" in (DEPLOY / "Dockerfile").read_text()
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    keys = next(mount for mount in container["volumeMounts"] if mount["name"] == "keys")
    assert f"{keys['mountPath']}/keys.txt" in (DEPLOY / "Dockerfile").read_text()
