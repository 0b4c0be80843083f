"""The structure is tested: names, layers, budgets, imports, and a fourth modality that touches one folder."""

import ast
import base64
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plait"
FILES = sorted(PACKAGE.rglob("*.py"))
MODALITIES = {path.name for path in (PACKAGE / "modalities").iterdir() if (path / "__init__.py").is_file()}
ROOT_FILES = {"__init__.py", "__main__.py", "contract.py", "registry.py", "errors.py"}
# where formats and tasks have to know which modality they speak of (DESIGN, "Where things live")
MAY_NAME_MODALITIES = (
    "modalities/", "tasks/", "recipes/", "studies/", "data/sources/", "data/importers/", "serve/openai/", "export/", "eval/external/",
    "annotate/formats/",
)  # fmt: skip

# exemptions may only shrink
LONG_FUNCTIONS: dict[str, int] = {}
MANY_PARAMETERS = {
    "cli/train.py:train": 9,
    "cli/finetune.py:finetune": 17,
    "cli/reward.py:reward": 14,
}  # one a command-line option


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def test_the_contract_stays_small():
    assert len((PACKAGE / "contract.py").read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_budgets(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 500
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            key = f"{name_of(path)}:{node.name}"
            assert node.end_lineno - node.lineno + 1 <= LONG_FUNCTIONS.get(key, 60), f"{key} is too long"
            parameters = [
                a
                for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
            assert len(parameters) <= MANY_PARAMETERS.get(key, 8), f"{key} takes {len(parameters)} parameters"


def test_the_root_holds_what_everything_stands_on():
    assert {path.name for path in PACKAGE.glob("*.py")} == ROOT_FILES


def documentation(module):
    """Constants that are docstrings."""
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


@pytest.mark.parametrize("path", [p for p in FILES if not name_of(p).startswith(MAY_NAME_MODALITIES)], ids=name_of)
def test_the_core_names_no_modality(path):
    """Not in a comparison, a look-up, a default or a table: one constant in the contract says what a bare string is."""
    module = tree(path)
    docs = set(map(id, documentation(module)))
    named = [
        f"{name_of(path)}:{node.lineno} names {node.value!r}"
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and node.value in MODALITIES and id(node) not in docs
    ]
    allowed = 1 if name_of(path) == "contract.py" else 0
    assert len(named) == allowed, named


def test_the_gate_sees_look_ups_and_tables(tmp_path):
    """The gate above, tried on what it is there to find."""
    for line in (
        'if kind == "image": pass',
        'known["audio"]',
        'AXES = ("text",)',
        'f(kind="image")',
        'match k:\n  case "text": pass',
    ):
        module = ast.parse(line)
        assert any(isinstance(node, ast.Constant) and node.value in MODALITIES for node in ast.walk(module)), line


# Arrows: what a part of the package may import beside itself. The longest prefix of a file's path decides; every file
# has one, and none may be imported by what stands below it.
SHARED = ("contract", "errors")
LAYERS = {
    "contract": (),
    "errors": (),
    "runtime/": (),
    "modalities/__init__": (),
    "registry": ("modalities/__init__",),
    "model/__init__": (),
    "model/layers": ("runtime/",),
    "heads/": ("model/layers", "runtime/"),
    "modalities/": ("modalities/__init__", "heads/", "runtime/"),
    "data/": ("registry", "runtime/", "modalities/__init__"),
    "data/importers/": ("data/", "registry", "runtime/", "modalities/"),
    "data/sources/": ("data/", "data/importers/", "runtime/"),
    "model/": ("data/", "heads/", "model/layers", "registry", "runtime/"),
    "pretrained/": ("model/", "data/", "registry", "runtime/"),
    "train/": ("pretrained/", "data/", "model/", "model/layers", "registry", "runtime/"),
    "infer/": ("data/", "model/", "model/layers", "heads/", "registry", "runtime/"),
    "tasks/": ("data/", "data/sources/", "modalities/", "runtime/"),
    "data/corpus/": ("data/", "data/sources/", "tasks/", "train/", "modalities/", "modalities/__init__", "registry", "runtime/"),
    "eval/": (
        "data/", "data/sources/", "tasks/", "train/", "infer/", "model/", "modalities/", "modalities/__init__", "registry",
        "runtime/",
    ),
    "recipes/": (
        "eval/", "data/", "data/sources/", "data/importers/", "data/corpus/", "tasks/", "train/", "infer/", "model/",
        "modalities/", "registry", "runtime/",
    ),
    "portable/": (
        "pretrained/", "train/", "infer/", "data/", "model/", "model/layers", "heads/", "registry", "runtime/",
    ),
    "bundle/": ("recipes/", "train/", "pretrained/", "data/", "registry", "runtime/"),
    "explain/": ("infer/", "train/", "data/", "model/", "model/layers", "registry", "runtime/", "modalities/__init__"),
    "annotate/": ("infer/", "data/", "data/importers/", "registry", "runtime/", "modalities/__init__"),
    "collect/": ("data/", "data/importers/", "registry", "runtime/", "modalities/__init__"),
    "api/": (
        "annotate/", "collect/", "explain/", "bundle/", "portable/", "pretrained/", "recipes/", "eval/", "data/", "data/sources/", "data/corpus/", "train/", "infer/", "model/", "registry", "runtime/",
    ),
    "studies/": ("api/", "recipes/", "eval/", "train/", "infer/", "tasks/", "data/", "registry", "runtime/"),
    "serve/": ("api/", "annotate/", "collect/", "data/", "infer/", "registry", "runtime/", "modalities/__init__", "__init__"),
    "cli/": ("api/", "annotate/", "collect/", "serve/", "studies/", "recipes/", "eval/", "data/", "data/sources/", "data/importers/", "data/corpus/", "registry", "runtime/"),
    "__init__": ("api/",),
    "__main__": ("cli/",),
}  # fmt: skip


def unit_of(relative):
    """The part that a module path, such as data/sources/emoji, belongs to."""
    fitting = [unit for unit in LAYERS if relative == unit or (unit.endswith("/") and relative.startswith(unit))]
    assert fitting, f"{relative} belongs to no layer"
    return max(fitting, key=len)


def module_path(dotted):
    """`plait.data.rows` as data/rows; a package as its __init__."""
    relative = "/".join(dotted.split(".")[1:])
    return f"{relative}/__init__".lstrip("/") if (PACKAGE / relative).is_dir() else relative


def imported(path):
    """Modules of the package that a file imports, wherever in it: at the top, in a function, for types."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "plait":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                relative = PACKAGE / "/".join(inner.split(".")[1:])
                is_module = relative.is_dir() or relative.with_suffix(".py").is_file()
                yield module_path(inner if is_module else node.module)
        elif isinstance(node, ast.Import):
            yield from (module_path(alias.name) for alias in node.names if alias.name.split(".")[0] == "plait")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_one_way(path):
    own = unit_of(name_of(path).removesuffix(".py"))
    for module in imported(path):
        unit = unit_of(module)
        assert unit in (own, *SHARED, *LAYERS[own]), f"{name_of(path)} ({own}) imports {module} ({unit})"


def test_the_layers_have_no_cycle():
    below = {unit: {*allowed, *SHARED} - {unit} for unit, allowed in LAYERS.items()}
    done = set()
    while ready := [unit for unit in below if unit not in done and below[unit] <= done | set(SHARED)]:
        done |= set(ready)
    assert done == set(LAYERS), f"in a cycle: {sorted(set(LAYERS) - done)}"


def run_python(*arguments, cwd=ROOT):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["generate", "--help"], ["data", "--help"]])
def test_help_imports_no_torch(arguments):
    code = (
        "import sys; from typer.testing import CliRunner; from plait.cli import app; "
        f"result = CliRunner().invoke(app, {arguments!r}); assert result.exit_code == 0, result.output; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'sklearn', 'tokenizers'}))"
    )
    assert run_python("-c", code).strip() == "[]"


HEAVY = {"sklearn", "jinja2", "tensorboard", "scipy", "transformers", "datasets", "jiwer"}


def test_importing_the_package_imports_next_to_nothing():
    code = "import sys; import plait; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'pydantic'}))"
    assert run_python("-c", code).strip() == "[]"


def test_loading_a_model_imports_nothing_that_only_evaluation_needs():
    code = (
        "import sys, plait; plait.load('tests/fixtures/format-4'); "
        f"print(sorted({{m.split('.')[0] for m in sys.modules}} & {HEAVY!r}))"
    )
    assert run_python("-c", code).strip() == "[]"


def test_public_names():
    import plait

    assert all(getattr(plait, name) is not None for name in plait.__all__)
    with pytest.raises(AttributeError, match="offers"):
        plait.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def four_modalities(tmp_path_factory):
    """A copy of the package with a fourth folder under modalities, and nothing else that is new."""
    folder = tmp_path_factory.mktemp("four")
    shutil.copytree(PACKAGE, folder / "plait", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "tests/fixtures/strokes",
        folder / "plait/modalities/strokes",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "tests/architecture/one_of_each.py", folder)
    return folder


def test_a_fourth_modality_is_one_folder(four_modalities):
    """Conformance, one training step and one generation with it."""
    shutil.copytree(ROOT / "tests/conformance", four_modalities / "tests/conformance")
    (four_modalities / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    out = run_python("-m", "pytest", "-q", "-k", "strokes", "tests/conformance", cwd=four_modalities)
    assert "passed" in out
    assert "failed" not in out
    assert run_python("one_of_each.py", "strokes", cwd=four_modalities).startswith("ok")


def lines_of(folder):
    """(cell, metric) of the report in a folder -> the cell's entry."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {(cell["cell"], cell["metric"]): cell for cell in report["cells"]}


@pytest.fixture(scope="module")
def trained_on_strokes(four_modalities):
    """The same folder with rows of strokes, a run of one step, and its report."""
    run_python("one_of_each.py", "strokes", "train", cwd=four_modalities)
    return four_modalities


def test_a_fourth_modality_generates_and_is_reported(trained_on_strokes):
    """An answer in a file on the command line; its line and its rendering in the report."""
    folder = trained_on_strokes
    settings = ("steps=2", "max_tokens=12", "--out", "answers")
    (path,) = run_python(
        "-m", "plait", "generate", "run", "--text", "Draw 3.", "--to", "strokes", *settings, cwd=folder
    ).split()
    assert path == "answers/answer-0.strokes", "the folder's own rendering writes the file"
    points = json.loads((folder / path).read_text())
    assert points
    assert all(len(point) == 2 for point in points)
    run_python("-m", "plait", "generate", "run", "--strokes", path, "--to", "text", *settings, cwd=folder)
    cells = lines_of(folder)
    written = cells["text->strokes", "ends"]
    assert written["value"] > 0, "the distance of the folder's own measure"
    assert written["n"] == 24
    assert ("strokes->text", "exact match") in cells
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('<svg class="strokes"') >= 12, "questions, answers and references"


def test_a_fourth_modality_is_asked_over_http(trained_on_strokes):
    """The server takes strokes and gives strokes, and was not touched."""
    command = (sys.executable, "-m", "plait", "serve", "toy=run", "--port", "0")
    server = subprocess.Popen(command, cwd=trained_on_strokes, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+", server.stdout.readline()).group()
        drawn = {"type": "strokes", "strokes": {"data": base64.b64encode(b"[[0, 0], [0.5, 1]]").decode()}}
        body = {
            "messages": [{"role": "user", "content": [drawn, {"type": "text", "text": "draw"}]}],
            "modalities": ["strokes"],
        }
        answer = httpx.post(f"{url}/v1/chat/completions", json=body | {"steps": 2, "max_tokens": 12}, timeout=60).json()
        (part,) = answer["choices"][0]["message"]["content"]
        assert len(json.loads(base64.b64decode(part["strokes"]["data"]))[0]) == 2
        assert answer["usage"]["prompt_tokens_details"]["strokes_tokens"] == 2
        (told,) = [m for m in httpx.get(f"{url}/modalities").json()["modalities"] if m["name"] == "strokes"]
        assert told["verb"] == "sketch"
        drawn["strokes"]["data"] = base64.b64encode(b"no json").decode()
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages[0].content[0].strokes.data")
    finally:
        server.terminate()
        assert server.wait(60) in (0, -signal.SIGTERM)
        server.stdout.close()


@pytest.mark.parametrize("lost", [("render.py",), ("measure.py",), ("render.py", "measure.py")], ids=" and ".join)
def test_a_modality_that_only_encodes_has_a_line_in_the_report(trained_on_strokes, tmp_path, lost):
    """Without a rendering its plain value is shown; without a measure the share of questions that it answers."""
    shutil.copytree(trained_on_strokes, tmp_path / "fewer", ignore=shutil.ignore_patterns("__pycache__"))
    for name in lost:
        (tmp_path / "fewer/plait/modalities/strokes" / name).unlink()
    run_python("one_of_each.py", "strokes", "eval", cwd=tmp_path / "fewer")
    cells = lines_of(tmp_path / "fewer")
    (written,) = [cell for (cell_name, _), cell in cells.items() if cell_name == "text->strokes"]
    assert written["metric"] == ("answered: rate" if "measure.py" in lost else "ends")
    assert written["n"] == 24
    assert 0 <= written["ci95"][0] <= written["ci95"][1]
    read = cells["strokes->text", "exact match"]
    assert (read["blank_input"] is None) == ("measure.py" in lost), "what cannot be emptied is not asked about empty"
    page = (tmp_path / "fewer/report.html").read_text(encoding="utf-8")
    assert ('<svg class="strokes"' in page) == ("render.py" not in lost)
    assert "text-&gt;strokes" in page


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_the_syntax_is_that_of_every_supported_python(minor):
    """Parsed by this interpreter's parser, told to accept no newer syntax; running is tested on the installed one alone."""
    for path in (*FILES, *ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")):
        assert ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, minor)).body, path
    if minor == 10:
        with pytest.raises(SyntaxError):
            ast.parse("try: pass\nexcept* ValueError: pass", feature_version=(3, minor))


@pytest.mark.parametrize("minor", [10, 12, 13])
def test_other_pythons_compile_every_file(minor):
    """Where an interpreter of that version is installed; running is tested on this one alone."""
    candidates = [
        shutil.which(f"python3.{minor}"),
        *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"),
    ]
    interpreter = next((str(path) for path in reversed(candidates) if path), None)
    if interpreter is None:
        pytest.skip(f"no python3.{minor} here")
    files = [str(path) for path in (*FILES, *ROOT.glob("benchmarks/*.py"))]
    code = (
        "import sys\nfor name in sys.argv[1:]: compile(open(name, encoding='utf-8').read(), name, 'exec')\nprint('ok')"
    )
    done = subprocess.run([interpreter, "-c", code, *files], capture_output=True, text=True, check=False)
    if "pyenv" in done.stderr:
        pytest.skip(f"python3.{minor} is a shim of an interpreter that is not installed")
    assert done.stdout.strip() == "ok", done.stderr[-2000:]
