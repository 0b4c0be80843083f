"""What the code of Argilla and of CVAT's format library writes is taken in, as the files of test_exchange are."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from test_exchange import BOXES, LABELS, begin, of_item

from plait.annotate import formats

PYTHON = os.environ.get("PLAIT_EXPORTERS")
ANN, BEN = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2))

pytestmark = pytest.mark.skipif(not PYTHON, reason="PLAIT_EXPORTERS names no Python with argilla and datumaro")
__all__ = ["begin"]


def saved_otherwise(folder):
    """Save a picture as Argilla, which writes it anew, does not."""
    with Image.open(folder / "images/b.png") as picture:
        picture.load()
        picture.save(folder / "images/b.png", compress_level=0)


@pytest.fixture
def exported(begin):
    """Opens a project beside whose pictures lie exports about them."""

    def exported(question):
        project, folder = begin(question, more=saved_otherwise)
        subprocess.run([PYTHON, Path(__file__).parent / "exporters.py", folder], check=True)
        return project, folder

    return exported


def test_argilla(exported):
    project, folder = exported(LABELS)
    assert formats.take(project, folder, folder / "argilla.json") == (0, 3, {})
    assert of_item(project, folder, "a.png") == {ANN: "cat", BEN: "dog"}
    assert of_item(project, folder, "b.png") == {ANN: "dog"}


@pytest.mark.parametrize(
    ("question", "answer"), [(BOXES, [{"label": "cat", "box": [100, 100, 600, 600]}]), (LABELS, "dog")]
)
def test_cvat(exported, question, answer):
    project, folder = exported(question)
    assert formats.take(project, folder, folder / "cvat/default.xml") == (0, 1, {})
    assert of_item(project, folder, "a.png") == {"cvat": answer}
    assert of_item(project, folder, "b.png") == {}
