"""The structure is tested: names, layers, budgets, imports, and a fourth modality that touches one folder."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plait"
CORE = ("model", "heads", "train", "infer", "data")
FILES = sorted(PACKAGE.rglob("*.py"))
MODALITIES = {path.name for path in (PACKAGE / "modalities").iterdir() if (path / "__init__.py").is_file()}

# exemptions may only shrink
LONG_FUNCTIONS: dict[str, int] = {}
MANY_PARAMETERS = {"cli.py:generate": 11, "cli.py:train": 9}  # one a command-line option


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
            given = [
                a
                for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
            assert len(given) <= MANY_PARAMETERS.get(key, 8), f"{key} takes {len(given)} parameters"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if name_of(p).split("/")[0] in CORE and not {"sources", "importers"} & set(p.parts)],
    ids=name_of,
)
def test_the_core_compares_no_modality_name(path):
    for node in ast.walk(tree(path)):
        compared = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        found = {
            leaf.value for side in compared for leaf in ast.walk(side) if isinstance(leaf, ast.Constant)
        } & MODALITIES
        assert not found, f"{name_of(path)}:{node.lineno} compares {found}"


# arrows: what a layer may import, besides its own and the shared contract, registry and errors
LAYERS = {
    "contract.py": set(),
    "errors.py": set(),
    "registry.py": {"modalities"},
    "layers.py": set(),
    "modalities": {"heads"},
    "heads": set(),
    "data": set(),
    "model": {"data", "heads"},
    "train": {"data", "model", "recipe.py"},
    "infer": {"data", "model", "heads"},
    "tasks": {"data"},
}
SHARED = {
    "__init__.py", "contract.py", "device.py", "errors.py", "files.py", "layers.py", "memory.py", "registry.py",
    "threads.py",
}  # fmt: skip


def layer(module):
    first = module.split(".")[1] if "." in module else "__init__"
    return first if (PACKAGE / first).is_dir() else f"{first}.py"


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).split("/")[0] in LAYERS], ids=name_of)
def test_arrows_point_one_way(path):
    own = name_of(path).split("/")[0]
    for node in ast.walk(tree(path)):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "plait":
            one = node.module == "plait"
            modules = [f"plait.{alias.name}" for alias in node.names] if one else [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names if alias.name.startswith("plait.")]
        for module in modules:
            assert layer(module) in LAYERS[own] | SHARED | {own}, f"{name_of(path)} imports {module}"


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


def test_public_names():
    import plait

    assert all(getattr(plait, name) is not None for name in plait.__all__)
    with pytest.raises(AttributeError, match="offers"):
        plait.nonsense  # noqa: B018


def test_a_fourth_modality_is_one_folder(tmp_path):
    """Copy the package, drop a folder in, run conformance, a training step and a generation; nothing else changes."""
    shutil.copytree(PACKAGE, tmp_path / "plait", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests/fixtures/strokes", tmp_path / "plait/modalities/strokes")
    shutil.copytree(ROOT / "tests/conformance", tmp_path / "tests/conformance")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    out = run_python("-m", "pytest", "-q", "-k", "strokes", "tests/conformance", cwd=tmp_path)
    assert "passed" in out
    assert "failed" not in out
    shutil.copy(ROOT / "tests/architecture/one_of_each.py", tmp_path)
    assert run_python("one_of_each.py", "strokes", cwd=tmp_path).startswith("ok")


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
    found = [shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")]
    interpreter = next((str(path) for path in reversed(found) if path), None)
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
