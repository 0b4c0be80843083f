"""Packs everything that a training needs into parts with a manifest of hashes."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

from plait import registry
from plait.bundle.run_bundle import INIT, MANIFEST, MIB, WEIGHTS
from plait.contract import WORDS, Modality
from plait.data import store
from plait.data.copies import media_name, renamed
from plait.data.media import Member
from plait.data.rows import dump_row, parts_of
from plait.data.splits import TRAIN
from plait.errors import ConfigError, DataError
from plait.recipes.recipe import Recipe
from plait.runtime.files import MANIFEST as DATA_MANIFEST
from plait.runtime.files import manifest_of, sha256_of
from plait.runtime.packages import places
from plait.train import archive, bases, checkpoint, standing

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WHEELS = (  # beside torch, numpy, safetensors, tokenizers, Pillow and transformers, which are assumed to be there
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "soundfile", "cffi",
    "pycparser", "soxr", "rich", "markdown-it-py", "mdurl", "pygments", "jaxtyping", "wadler-lindig", "tensorboard",
    "gguf", "absl-py", "grpcio", "markdown", "protobuf", "tensorboard-data-server", "werkzeug", "markupsafe",
)  # fmt: skip


class Parts:
    """A stream that is written to files of at most `size` bytes each."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.files: list[Path] = []
        self.stream: IO[bytes] | None = None
        self.room = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        view = memoryview(data)
        while len(view):
            if not self.room:
                self.close()
                self.files.append(self.folder / f"part-{len(self.files):02d}")
                self.stream, self.room = self.files[-1].open("wb"), self.size
            assert self.stream is not None
            count = min(self.room, len(view))
            self.stream.write(view[:count])
            self.room -= count
            view = view[count:]
        return len(data)

    def close(self) -> None:
        """Finish the last file."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None


def chosen_rows(
    data: Path, modalities: Mapping[str, Modality], budget: float
) -> tuple[list[str], dict[str, str | Member]]:
    """Lines of training rows, and the media that they name by their new names, as many as `budget` bytes of media allow.

    Rows come from train.jsonl or from shards. They are taken in the order of a hash, so that what is left out is left out of
    all tasks alike; a row comes along when all its media do. Raises DataError where there are no rows.
    """
    if store.file_of(data, TRAIN) is None:
        raise DataError(f"{data} has neither {TRAIN}.jsonl nor shards; expected a folder of training rows")
    rows = store.open_rows(data, TRAIN, modalities)
    samples = list(itertools.chain.from_iterable(rows.values()) if isinstance(rows, Mapping) else rows)
    samples.sort(key=lambda sample: hashlib.sha256(f"{sample.task} {sample.id}".encode()).digest())
    media: dict[str, str | Member] = {}
    lines, total, full = [], 0.0, False
    for sample in samples:
        values = [part.value for part in parts_of(sample) if part.type != WORDS]
        new = {name: value for value in values if (name := media_name(value)) not in media}
        size = sum(size_of(value) + 1024 for value in new.values())
        if new and (full or total + size > budget):
            full = True
            continue
        media |= new
        total += size
        lines.append(dump_row(renamed(sample)))
    return lines, media


def size_of(value: str | Member) -> int:
    """Bytes of a medium."""
    return value.size if isinstance(value, Member) else Path(value).stat().st_size


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def package_files() -> Iterator[tuple[str, Path]]:
    """The package's own files, but for the weights that are shipped with it: what a training starts from comes along by itself."""
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".safetensors":
            yield f"plait/{path.relative_to(root).as_posix()}", path


def _pinned(name: str) -> str:
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def reader_files(recipe: Recipe, sources: Path) -> dict[str, bytes]:
    """Weights of the encoders that a recipe reads with, and what its modalities fit to beside rows, as they lie in the folder of
    `sources`, fetched where they are not."""
    files: dict[str, bytes] = {}
    for name, settings in recipe.modalities.items():
        files |= registry.needed_files(registry.build(name, settings), sources)
    return files


def start_files(init: str, place: Path) -> dict[str, bytes]:
    """What a training starts from: a base's own file, as it lies in the folder of sources, or a checkpoint packed with what
    moved in half precision, and the base that it stands on. `place` is a folder to work in."""
    if not init:
        return {}
    if init in bases.BASES:
        return _base_file(bases.BASES[init])
    with bases.opened(init) as folder:
        config = checkpoint.read_config(folder)
        base, stands = config["base"], config["parent"] is not None
        whole = standing.merged(folder, place / "merged") if stands else folder  # the one below stays behind
        packed = archive.pack(whole, place / INIT, "bfloat16")
        if stands:
            shutil.rmtree(whole)
    files = {INIT: packed.read_bytes()}
    packed.unlink()
    return files | (_base_file(bases.find(base)) if base else {})


def _base_file(base: bases.NamedBase) -> dict[str, bytes]:
    return {f"{WEIGHTS}/{base.package.folder}/{base.file}": bases.source_of(base).read_bytes()}


def wheels(folder: Path, python: str, names: Sequence[str] = WHEELS) -> list[Path]:
    """Download wheels for another Python into `folder`, of the versions that are installed here where they are.

    Raises DataError when one cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", python,
               "--implementation", "cp", *platforms, "-d", str(folder), *map(_pinned, names)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"wheels for Python {python} cannot be fetched: {done.stderr.strip()[-300:]}")
    return sorted(folder.glob("*.whl"))


def pack(
    recipe: Recipe, data: Path, to: Path, *, part_mib: float = 60, total_mib: float = 180, python: str = "3.12"
) -> Path:
    """Write the bundle of a recipe to the folder `to`; returns its manifest.

    What it starts from comes along: the source of a base, or a checkpoint, run folder or archive, with what moved in half
    precision. Media are chosen to fit. Raises ConfigError for a folder in use, DataError and CheckpointError as its parts do.
    """
    if to.exists() and any(to.iterdir()):
        raise ConfigError(f"{to} is not empty; expected a new folder for the bundle")
    to.mkdir(parents=True, exist_ok=True)
    fixed = dict(package_files())
    contents = {f"{WEIGHTS}/{path}": content for path, content in reader_files(recipe, places()).items()}
    contents |= start_files(recipe.init, to)
    fixed |= {f"wheels/{path.name}": path for path in wheels(to / "wheels", python)}
    used = sum(path.stat().st_size + 1024 for path in fixed.values()) + sum(map(len, contents.values()))
    lines, media = chosen_rows(data, registry.build_all(recipe.modalities), total_mib * MIB - used)
    if not lines:
        shutil.rmtree(to / "wheels")
        raise ConfigError(
            f"{total_mib:g} MiB leave no room for rows: weights, wheels and code take {used / MIB:.0f}; expected more, such as "
            f"--total-mib {2 * used / MIB:.0f}"
        )
    rows = "".join(f"{line}\n" for line in lines).encode()
    parts = Parts(to, int(part_mib * MIB))
    with tarfile.open(fileobj=parts, mode="w|gz") as tar:  # type: ignore[call-overload]
        for name, path in fixed.items():
            tar.add(path, name, recursive=False)
        for name, value in media.items():
            _add_bytes(tar, f"data/{name}", value.read() if isinstance(value, Member) else Path(value).read_bytes())
        listed = {"train.jsonl": {"rows": len(lines), "sha256": hashlib.sha256(rows).hexdigest()}}
        known = dict.fromkeys(manifest_of(data).get("tasks") or (), 0)  # 0 stays where no row fits
        rows_of_task = known | Counter(json.loads(line)["task"] for line in lines)
        facts = {"format": 1, "sources": [], "notes": [], "files": listed, "tasks": rows_of_task}
        contents |= {"data/train.jsonl": rows, f"data/{DATA_MANIFEST}": json.dumps(facts).encode()}
        for name, content in contents.items():
            _add_bytes(tar, name, content)
    parts.close()
    shutil.rmtree(to / "wheels")
    manifest = {
        "recipe": recipe.model_dump(mode="json"),
        "python": python,
        "parts": [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in parts.files],
        "rows": len(lines),
        "media": len(media),
    }
    (to / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("run_bundle.py"), to / "run_bundle.py")
    return to / MANIFEST
