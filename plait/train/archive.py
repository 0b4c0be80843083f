"""A checkpoint as one file that describes itself: a zip of the checkpoint folder without what only resuming needs.

    README.md           what it is: the model card, or what is known without an evaluation
    config.json         shape, modalities, recipe, checksums
    model.safetensors   weights (or model-00001.safetensors and so on)
    *.json              tokenizer and other files of the modalities

Members are stored as they are (weights do not compress) with fixed dates, so equal checkpoints make equal archives.
"""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from plait.errors import CheckpointError, ConfigError
from plait.train import checkpoint
from plait.train.precision import Precision

CARD = "README.md"
LARGEST = 64 * 2**30  # bytes unpacked
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _card(config: dict[str, object]) -> str:
    recipe = config["recipe"]
    assert isinstance(recipe, dict)
    modalities = ", ".join(sorted(config["modalities"]))  # type: ignore[call-overload]
    return (
        f"# A Plait checkpoint: {recipe.get('name')}\n\n"
        f"One transformer that reads and writes {modalities}; checkpoint format {config['format']}. It has not been "
        "evaluated: `plait eval` writes its card.\n\n"
        '`plait generate THIS_FILE --text ...`, `plait chat THIS_FILE`; in Python `plait.load("THIS_FILE")`.\n'
        "`plait export THIS_FILE FOLDER` unpacks it: config.json, weights in safetensors, a tokenizer.\n"
    )


def pack(folder: Path, target: Path, precision: Precision | None = None) -> Path:
    """Write the checkpoint `folder` to the file `target`, its weights as they are or in another precision.

    Raises ConfigError where `target` exists, CheckpointError for a damaged checkpoint.
    """
    if target.exists():
        raise ConfigError(f"{target} exists; expected a new file: choose another name")
    if precision is not None:
        with TemporaryDirectory(prefix="plait-") as place:
            return pack(checkpoint.lean(folder, Path(place) / "lean", precision), target)
    config = checkpoint.read_stored_config(folder)
    sums = {name: sha for name, sha in config["sha256"].items() if not name.startswith("train_state")}
    card = folder / CARD
    members = {
        CARD: card.read_bytes() if card.is_file() else _card(config).encode(),
        checkpoint.CONFIG: checkpoint.as_json(checkpoint.sealed({**config, "sha256": sums})).encode(),
    }
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(partial, members, folder, sorted(sums))
        os.replace(partial, target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(f"{target} cannot be written: {error.strerror}; expected a place with room for it") from error
    return target


def _write(partial: Path, members: Mapping[str, bytes], folder: Path, files: Sequence[str]) -> None:
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, FIRST_DATE), data)
        for name in files:
            with (folder / name).open("rb") as source, archive.open(zipfile.ZipInfo(name, FIRST_DATE), "w") as place:
                shutil.copyfileobj(source, place, 2**20)


def unpack(archive: Path, folder: Path) -> Path:
    """Write the checkpoint in `archive` to the new `folder`, whole and checked. Raises ConfigError, CheckpointError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is a file or not empty; expected a new folder for the checkpoint")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; expected a place that can be written") from error
    try:
        _extract(archive, partial)
        checkpoint.read_config(partial)
    except (CheckpointError, ConfigError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return folder


def _extract(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as source:
            members = source.infolist()
            for member in members:
                if PurePosixPath(member.filename).name != member.filename or "\\" in member.filename:
                    raise CheckpointError(f"{archive} has a member {member.filename!r}; expected plain file names")
                if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                    raise CheckpointError(
                        f"{archive}: {member.filename} is compressed; expected members stored as they are, as plait export "
                        "writes them: a small file could unpack to any size"
                    )
            if sum(member.file_size for member in members) > LARGEST:
                raise CheckpointError(f"{archive} unpacks to more than {LARGEST} bytes; expected a checkpoint")
            source.extractall(folder)
    except (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # zipfile's
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise ConfigError(
                f"{folder} cannot be written: {error.strerror}; expected a place with room for it"
            ) from error
        raise CheckpointError(
            f"{archive} cannot be unpacked: {error}; expected a whole archive of plait export"
        ) from error


def is_archive(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The checkpoint folder of a run, a checkpoint or an archive, which is unpacked for as long as the context lasts."""
    if path.is_file():
        if not is_archive(path):
            raise CheckpointError(f"{path} is a file, but no archive of plait export; expected one, or a run folder")
        with TemporaryDirectory(prefix="plait-") as place:
            yield unpack(path, Path(place) / "checkpoint")
    else:
        yield checkpoint.locate(path)
