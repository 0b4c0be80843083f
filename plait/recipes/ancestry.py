"""The checkpoint that a fine-tuning starts from, those that it was trained from itself, and the rows that each learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from plait.train import archive, bases, checkpoint

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


def stands_on(folder: Path) -> Path:
    """The checkpoint that the one in `folder` was trained from, which may be a base. Raises CheckpointError where there is none."""
    config = checkpoint.read_config(folder)
    if config["parent"] is not None:
        return checkpoint.parent_of(folder, config["parent"])
    init = config["recipe"].get("init")  # of one in which everything moved
    if init in bases.BASES:
        return bases.folder_of(bases.BASES[init])
    if not (init and config["recipe"].get("stands")):
        raise CheckpointError(f"{folder} was trained from no other checkpoint; expected what plait finetune wrote")
    return checkpoint.locate(Path(init))


def lineage(start: Start) -> list[Start]:
    """The checkpoint, and those that it was trained from, the first last."""
    found = [start]
    while True:
        try:
            found.append(start_of(str(stands_on(found[-1].folder))))
        except CheckpointError:
            return found


def earlier_rows(start: Start, given: Path | None) -> Path | None:
    """The folder of the rows that a checkpoint learned from. None where it is not here. Raises DataError for a `given` folder
    without rows."""
    place = given or Path(start.recipe.data)
    if (start.recipe.data or given) and store.file_of(place, TRAIN) is not None:
        return place
    if given is not None:
        raise DataError(f"{given} holds no training rows; expected the folder that {start.init} was trained on")
    return None


def held_out_rows(start: Start, given: Path | None) -> Suite | None:
    """What a checkpoint is measured on, of rows that it never learned from: those that its data hold out, or those that it is shipped
    with. None where there are none. Raises DataError for a `given` folder of other rows."""
    place = earlier_rows(start, given)
    if place is not None:
        there = start.recipe.model_copy(update={"data": str(place)})
        suite, skip = measuring.suite_of(there, start.run, start.modalities)
        try:
            measuring.check_rows(start.folder, there, skip)
        except DataError:
            if given is not None:
                raise
        else:
            return (
                suite
                if any(suite.rows.rows(task, task.splits[0]) for task in suite.tasks if SEEN not in task.splits)
                else None
            )
    shipped = start.folder / HELD_OUT
    there = start.recipe.model_copy(update={"data": str(shipped)})
    return measuring.suite_of(there, start.run, start.modalities)[0] if shipped.is_dir() else None
