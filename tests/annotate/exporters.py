"""Writes, with the code of Argilla and of Datumaro (CVAT's own format library), what people are supposed to have said there.

python exporters.py FOLDER    (a.png and images/b.png in it; argilla.json and cvat/default.xml come beside them)
"""

import os
import sys
import uuid

import argilla
import datumaro
from argilla.records._io._json import JsonIO  # what Dataset.records.to_json calls
from datumaro.components.annotation import AnnotationType, Bbox, Label, LabelCategories
from PIL import Image

ANN, BEN = uuid.UUID(int=1), uuid.UUID(int=2)


def of_argilla(folder):
    """Records with pictures as the server keeps them: a file's bytes, and a picture written anew."""
    from argilla._helpers._media import cast_image

    answers = {"a.png": [("cat", ANN), ("dog", BEN)], "images/b.png": [("dog", ANN)]}
    first, second = answers
    pictures = {first: cast_image(os.path.join(folder, first))}
    with Image.open(os.path.join(folder, second)) as picture:
        pictures[second] = cast_image(picture)
    records = [
        argilla.Record(
            fields={"photo": pictures[name], "note": name},
            responses=[argilla.Response("kind", label, user_id=person) for label, person in said],
            suggestions=[argilla.Suggestion("kind", "dog", score=0.5, agent="smol")],
        )
        for name, said in answers.items()
    ]
    JsonIO.to_json(records, os.path.join(folder, "argilla.json"))


def of_cvat(folder):
    """A box and a tag on the first picture."""
    notes = {"a": [Bbox(10, 5, 50, 25, label=0), Label(1)], "images/b": []}
    items = []
    for number, (name, annotations) in enumerate(notes.items()):
        media = datumaro.components.media.Image.from_file(os.path.join(folder, f"{name}.png"))
        items.append(datumaro.DatasetItem(name, media=media, annotations=annotations, attributes={"frame": number}))
    categories = {AnnotationType.label: LabelCategories.from_iterable(["cat", "dog"])}
    exported = datumaro.Dataset.from_iterable(items, categories=categories)
    exported.export(os.path.join(folder, "cvat"), "cvat", save_media=False)


if __name__ == "__main__":
    of_argilla(sys.argv[1])
    of_cvat(sys.argv[1])
