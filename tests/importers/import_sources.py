"""Small sources of each format, and imports of them whose rows and messages tests look at."""

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from worlds import World

from plait.data.importers import run
from plait.data.rows import read_rows

WORLD = World()
RNG = np.random.default_rng(0)


def picture(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, RNG.normal(0, 0.1, 2000), 16_000)
    return path


def captions_csv(root):
    for n in range(30):
        picture(root / f"{n}.png")
    (root / "captions.csv").write_text(
        "file_name,caption\n" + "".join(f'{n}.png,"a thing, number {n}"\n' for n in range(30))
    )


def captions_semicolons(root):
    """As spreadsheets of many countries write them."""
    for n in range(30):
        picture(root / f"{n}.png")
    (root / "captions.csv").write_text("Image;Caption\n" + "".join(f"{n}.png;a, b, number {n}\n" for n in range(30)))


def captions_jsonl(root):
    for n in range(30):
        picture(root / "images" / f"{n}.jpg")
    lines = (json.dumps({"image": f"{n}.jpg", "text": [f"one {n}", f"uno {n}"]}) for n in range(30))
    (root / "list.jsonl").write_text("\n".join(lines))


def captions_txt(root):
    for n in range(30):
        picture(root / f"{n}.png").with_suffix(".txt").write_text(f"a thing {n}")


def folders(root):
    for split in ("train", "val", "test"):
        for label in ("red_apple", "pear"):
            for n in range(4):
                picture(root / split / label / f"{split}{n}.png")


def sound_folders(root):
    for label in ("bell", "horn"):
        for n in range(20):
            clip(root / label / f"{n}.wav")


def ljspeech(root):
    for n in range(30):
        clip(root / "wavs" / f"LJ-{n}.wav")
    (root / "metadata.csv").write_text("".join(f"LJ-{n}|Dr. {n}|doctor {n}\n" for n in range(30)))


def common_voice(root):
    for split in ("train", "dev", "test"):
        rows = [f's{n}\t{clip(root / "clips" / f"{split}{n}.mp3").name}\tsay "{n}' for n in range(4)]
        (root / f"{split}.tsv").write_text("client_id\tpath\tsentence\n" + "\n".join(rows) + "\n")


def coco(root):
    images = [
        {"id": n, "file_name": picture(root / "images" / f"{n}.png", (20, 10)).name, "width": 20, "height": 10}
        for n in range(30)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 7, "bbox": [5, 0, 10, 5]} for n in range(30)]
    raw = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cat"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text(json.dumps(raw))


def voc(root):
    for n in range(30):
        picture(root / "JPEGImages" / f"{n}.png", (20, 10))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{n}.xml").write_text(
            f"<annotation><filename>{n}.png</filename><size><width>20</width><height>10</height></size><object><name>cat</name>"
            "<bndbox><xmin>5</xmin><ymin>0</ymin><xmax>15</xmax><ymax>5</ymax></bndbox></object></annotation>"
        )


def yolo(root):
    """As training programs want it: images/ and labels/ a split, names in data.yaml."""
    for split, count in (("train", 20), ("val", 4)):
        for n in range(count):
            picture(root / "images" / split / f"{n}.png", (20, 10))
            write(root / "labels" / split / f"{n}.txt", "1 0.5 0.25 0.5 0.5\n0 0.5 0.5 1 1\n")
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")


def chat_openai(root):
    rows = [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}]}
        for n in range(30)
    ]
    (root / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))


def chat_sharegpt(root):
    rows = [
        {"id": n, "conversations": [{"from": "human", "value": f"q {n}"}, {"from": "gpt", "value": f"a {n}"}]}
        for n in range(30)
    ]
    (root / "chats.json").write_text(json.dumps(rows))


def idx(root):
    for name, count in (("train", 20), ("t10k", 5)):
        pixels = RNG.integers(0, 255, (count, 8, 8), np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, count, 8, 8)
        (root / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))
        (root / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def medmnist(root):
    arrays = {}
    for split, count in (("train", 20), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = RNG.integers(0, 255, (count, 8, 8, 3), np.uint8)
        arrays[f"{split}_labels"] = RNG.integers(0, 2, (count, 1))
    np.savez(root / "set.npz", **arrays)
    (root / "set.labels.json").write_text('["ill", "well"]')
    return root / "set.npz"


def webdataset(root):
    for name in ("train-000", "test-000"):
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for n in range(20):
                buffer = io.BytesIO()
                Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "JPEG")
                for ending, data in (("jpg", buffer.getvalue()), ("txt", f"thing {n}".encode())):
                    info = tarfile.TarInfo(f"{n:04}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def parquet_images(root):
    """As `datasets` writes it: pictures with a named class, in two splits."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Pictures

    for split, count in (("train", 20), ("test", 5)):
        pictures = [Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(count)]
        features = Features({"image": Pictures(), "label": ClassLabel(names=["ill", "well_off"])})
        columns = {"image": pictures, "label": [n % 2 for n in range(count)]}
        Dataset.from_dict(columns, features=features).to_parquet(root / f"{split}-00000-of-00001.parquet")


def parquet_clips(root):
    """As other tools write it: structs of bytes and path, with a transcript."""
    import pyarrow
    from pyarrow import parquet

    rows = []
    for n in range(20):
        buffer = io.BytesIO()
        soundfile.write(buffer, RNG.normal(0, 0.1, 2000), 16_000, format="FLAC")
        rows.append({"audio": {"bytes": buffer.getvalue(), "path": f"{n}.flac"}, "transcription": f"word {n}"})
    rows.append({"audio": {"bytes": buffer.getvalue(), "path": "x.flac"}, "transcription": " "})
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "clips.parquet")
    return root / "clips.parquet"


def parquet_chats(root):
    import pyarrow
    from pyarrow import parquet

    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns}] * 12), root / "chats.parquet")


def parquet_questions(root):
    import pyarrow
    from pyarrow import parquet

    rows = [{"question": f"what is {n}?", "answer": str(n), "id": n} for n in range(30)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "qa.parquet")


SOURCES = {  # (maker, importer that must be found, rows in all, splits given)
    "captions_csv": (captions_csv, "captions", 60, False),
    "captions_semicolons": (captions_semicolons, "captions", 60, False),
    "captions_jsonl": (captions_jsonl, "captions", 120, False),
    "captions_txt": (captions_txt, "captions", 60, False),
    "folders": (folders, "folders", 48, True),
    "sound_folders": (sound_folders, "folders", 80, False),
    "ljspeech": (ljspeech, "ljspeech", 60, False),
    "common_voice": (common_voice, "common_voice", 24, True),
    "coco": (coco, "coco", 30, False),
    "voc": (voc, "voc", 30, False),
    "yolo": (yolo, "yolo", 24, False),
    "chat_openai": (chat_openai, "chat", 30, False),
    "chat_sharegpt": (chat_sharegpt, "chat", 30, False),
    "idx": (idx, "idx", 50, True),
    "medmnist": (medmnist, "medmnist", 56, True),
    "webdataset": (webdataset, "webdataset", 80, True),
    "parquet_images": (parquet_images, "parquet", 50, True),
    "parquet_clips": (parquet_clips, "parquet", 40, False),
    "parquet_chats": (parquet_chats, "parquet", 12, False),
    "parquet_questions": (parquet_questions, "parquet", 30, False),
}


def take(source, to, *arguments, **options):
    """Import; (rows by split, lines that were said)."""
    said = []
    counts = run(source, to, *arguments, say=said.append, **options)
    return counts, said


def rows(to):
    """All rows of an imported folder, as [(role, [value, ...]), ...]; media by the bytes of their files."""
    return [
        [
            (m.role, [p.value if p.type == "text" else Path(p.value).read_bytes() for p in m.parts])
            for m in sample.messages
        ]
        for path in sorted(to.glob("*.jsonl"))
        for sample in read_rows(path, WORLD.modalities)
    ]


def answers(to):
    """What the assistant says in words, of each row where it does; sorted."""
    return sorted(row[-1][1][0] for row in rows(to) if isinstance(row[-1][1][0], str))


def described(to):
    """Bytes of a medium -> what is said of it, of each row that asks about one."""
    return {row[0][1][0]: row[-1][1][0] for row in rows(to) if isinstance(row[0][1][0], bytes)}


def write(path, text):
    """Write a text file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
