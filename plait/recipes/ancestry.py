"""The checkpoint that a fine-tuning starts from, those that it was trained from itself, and the rows that each learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plait.contract import Modality
from plait.data import store
from plait.data.splits import TRAIN
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError, DataError
from plait.eval.suites import Suite
from plait.eval.user_data import SEEN
from plait.recipes import measuring
from plait.recipes.recipe import Recipe, of_language_model
from plait.train import archive, bases, checkpoint, shipped

HELD_OUT = "held-out"  # in a checkpoint's folder: rows to guard it with, where it was shipped with some


@dataclass(frozen=True)
class Start:
    """The checkpoint that a fine-tuning starts from."""

    init: str
    folder: Path
    config: Mapping[str, Any]
    modalities: Mapping[str, Modality]
    vocabulary: Vocabulary = field(repr=False)

    @property
    def place(self) -> str:
        """Where it is found from any folder: its name, or its place."""
        return self.init if self.init in bases.BASES else checkpoint.name_of(self.folder)

    @property
    def recipe(self) -> Recipe:
        """That it was trained by; of a language model that others trained, what is usual for one."""
        stored = self.config["recipe"]
        return Recipe(**{**of_language_model(stored.get("name", self.init)).model_dump(), **stored})

    @property
    def run(self) -> Path:
        """The run folder that it belongs to."""
        return checkpoint.run_of(self.folder)


def start_of(init: str) -> Start:
    """Open the checkpoint to start from. Raises CheckpointError for anything that is none, or that is packed in a file."""
    if archive.is_archive(Path(init)):
        raise CheckpointError(
            f"{init} is an archive; expected a folder, since what is trained stands on it: plait export {init} FOLDER"
        )
    with bases.opened(init) as folder:
        config = checkpoint.read_config(folder)
        modalities = checkpoint.load_modalities(folder, config)
        vocabulary = Vocabulary(modalities, checkpoint.load_template(folder, config))
    return Start(init, folder, config, modalities, vocabulary)


def stands_on(folder: Path) -> Path | None:
    """The checkpoint that the one in `folder` was trained from, which may be a base; None where it was trained from none that is
    here. Raises CheckpointError for one that it cannot do without and that is not here."""
    config = checkpoint.read_config(folder)
    if config["parent"] is not None:
        return checkpoint.parent_of(folder, config["parent"])
    init = config["recipe"].get("init", "")  # of one in which everything moved
    if init in bases.BASES:
        return bases.folder_of(bases.BASES[init])
    is_here = config["recipe"].get("stands") and (init in shipped.checkpoints() or Path(init).is_dir())
    return checkpoint.locate(Path(init)) if is_here else None


def lineage(start: Start) -> list[Start]:
    """The checkpoint, and those that it was trained from, the first last."""
    checkpoints = [start]
    while (below := stands_on(checkpoints[-1].folder)) is not None:
        checkpoints.append(start_of(str(below)))
    return checkpoints


def earlier_rows(start: Start, given: Path | None) -> Path | None:
    """The folder of the rows that a checkpoint learned from. None where it is not here. Raises DataError for a `given` folder
    without rows."""
    data = given or (Path(start.recipe.data) if start.recipe.data else None)
    if data is not None and store.file_of(data, TRAIN) is not None:
        return data
    if given is not None:
        raise DataError(f"{given} holds no training rows; expected the folder that {start.init} was trained on")
    return None


def suite_on(start: Start, data: Path) -> tuple[Suite, frozenset[str], Recipe]:
    """What a checkpoint is measured on of rows in `data`, the ids of the training rows that it left out, and its recipe there."""
    there = start.recipe.model_copy(update={"data": str(data)})
    return (*measuring.suite_of(there, start.run, start.modalities), there)


def held_out_rows(start: Start, given: Path | None) -> Suite | None:
    """What a checkpoint is measured on, of rows that it never learned from: those that its data hold out, or those that it is shipped
    with. None where there are none. Raises DataError for a `given` folder of other rows."""
    if (data := earlier_rows(start, given)) is not None:
        suite, skip, there = suite_on(start, data)
        try:
            measuring.check_rows(start.folder, there, skip)
        except DataError:  # the rows of another build
            if given is not None:
                raise
        else:
            held_out = [task for task in suite.tasks if SEEN not in task.splits]
            return replace(suite, tasks=held_out) if held_out else None
    shipped_rows = start.folder / HELD_OUT
    return suite_on(start, shipped_rows)[0] if shipped_rows.is_dir() else None
