"""Nothing of an entry is dropped in silence: media beside texts are taken, and what is not used is said."""

import base64
import io
import json

import numpy as np
import pytest
from import_sources import answers, clip, described, picture, rows, take, write
from PIL import Image

from plait.errors import DataError

ASK, TELL = "<image>\nWhat is it?", "A cat."


def turns(asked=ASK, told=TELL):
    return [{"from": "human", "value": asked}, {"from": "gpt", "value": told}]


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("key", ["image", "file_name", "image_path", "images", "pic"])
def test_a_list_of_llava_keeps_its_pictures(tmp_path, key):
    source, to = tmp_path / "source", tmp_path / "to"
    entries = []
    for n in range(12):
        picture(source / "images" / f"{n}.png")
        entries.append({"id": n, key: [f"{n}.png"] if key == "images" else f"{n}.png", "conversations": turns()})
    write(source / "chat.json", json.dumps(entries))
    counts, said = take(source, to)
    assert sum(counts.values()) == 12
    expected = [("user", [(source / "images" / f"{n}.png").read_bytes(), "What is it?"]) for n in range(12)]
    assert sorted(row[0] for row in rows(to)) == sorted(expected)
    assert answers(to) == [TELL] * 12
    assert "chat.json: not used: id" in said


def test_parquet_of_conversations_with_pictures_keeps_them(tmp_path):
    import pyarrow
    from pyarrow import parquet

    messages = [
        {"role": "user", "content": "<image><image>Which is older?"},
        {"role": "assistant", "content": "The first."},
    ]
    table = [
        {"images": [{"bytes": png(n), "path": None}, {"bytes": png(100 + n), "path": None}], "messages": messages}
        for n in range(12)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "chat.parquet")
    take(tmp_path / "chat.parquet", tmp_path / "to")
    assert {tuple(row[0][1]) for row in rows(tmp_path / "to")} == {
        (png(n), png(100 + n), "Which is older?") for n in range(12)
    }


def test_media_in_the_content_of_messages(tmp_path):
    """Chat templates' slots, OpenAI's addresses of data, and rows of ours."""
    picture(tmp_path / "s/a.png")
    clip(tmp_path / "s/b.wav")
    address = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    contents = [
        [{"type": "image"}, {"type": "text", "text": "what?"}],
        [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "what?"}],
        [{"type": "audio", "audio": "b.wav"}, {"type": "text", "text": "what?"}],
    ]
    entries = [
        {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "this"}]}
        for content in contents
    ]
    entries[0]["images"] = ["a.png"]
    write(tmp_path / "s/chat.jsonl", "\n".join(map(json.dumps, entries)))
    take(tmp_path / "s/chat.jsonl", tmp_path / "to")
    media = {(tmp_path / "s/a.png").read_bytes(), png(1), (tmp_path / "s/b.wav").read_bytes()}
    assert {row[0][1][0] for row in rows(tmp_path / "to")} == media
    assert all(row[0][1][1] == "what?" for row in rows(tmp_path / "to"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"image": "gone.png", "conversations": turns()}, "its file is not there .*gone.png"),
        ({"conversations": turns()}, "its marks are not its media"),
        ({"image": "0.png", "conversations": turns("<image><image>two?")}, "2 marks, 1 media"),
        ({"image": "0.png", "conversations": turns("<image_1>?")}, "a mark of a medium has a number"),
    ],
)
def test_marks_without_media_are_not_learned_as_letters(tmp_path, entry, reason):
    picture(tmp_path / "s/0.png")
    good = [{"image": "0.png", "conversations": turns()}] * 19
    write(tmp_path / "s/chat.json", json.dumps([*good, entry]))
    counts, said = take(tmp_path / "s", tmp_path / "to")
    assert sum(counts.values()) == 19
    assert len([line for line in said if line.startswith("1 passed over") and "entry 19" in line]) == 1
    with pytest.raises(DataError, match=reason.replace(" .*", ".*")):
        take(tmp_path / "s", tmp_path / "strict", strict=True)


def test_a_video_beside_a_conversation_stops_the_import(tmp_path):
    write(tmp_path / "s/chat.json", json.dumps([{"video": "a.mp4", "conversations": turns("What happens?")}] * 3))
    with pytest.raises(DataError, match=r"entry 0: 'video' beside the conversation is 'a.mp4', which cannot be used"):
        take(tmp_path / "s", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_yolo_labels_are_boxes_and_no_captions(tmp_path):
    for n in range(12):
        picture(tmp_path / "s" / f"{n}.png", (20, 10))
        write(tmp_path / "s" / f"{n}.txt", "1 0.5 0.25 0.5 0.5\n")
    with pytest.raises(DataError, match=r"without their names; expected classes.txt"):
        take(tmp_path / "s", tmp_path / "to")
    write(tmp_path / "s/classes.txt", "cat\nred dog\n")
    counts, said = take(tmp_path / "s", tmp_path / "to")
    assert "as yolo" in said[0]
    assert answers(tmp_path / "to") == ["red dog [250, 0, 750, 500]"] * sum(counts.values())
    with pytest.raises(DataError, match="it is a label file of boxes"):
        take(tmp_path / "s", tmp_path / "captions", "captions")


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", "\n- cat\n- dog", "\n  '0': cat\n  '1': dog"])
def test_names_of_yolo_s_classes(tmp_path, names):
    """As Roboflow exports it: images/ and labels/ in a folder a split."""
    for split in ("train", "valid"):
        for n in range(3):
            picture(tmp_path / "s" / split / "images" / f"{n}.jpg", (20, 10))
            write(tmp_path / "s" / split / "labels" / f"{n}.txt", "0 0.1 0.1 0.2 0.2\n1 0.1 0.1 0.9 0.1 0.9 0.5\n")
    write(tmp_path / "s/data.yaml", f"train: ../train/images\nnames: {names}\n")
    counts, _ = take(tmp_path / "s", tmp_path / "to")
    assert counts == {"train": 3, "dev": 3}
    assert answers(tmp_path / "to") == ["cat [0, 0, 200, 200]; dog [100, 100, 900, 500]"] * 6


def test_empty_yolo_labels_say_nothing(tmp_path):
    for n in range(12):
        picture(tmp_path / "s" / f"{n}.png", (20, 10))
        write(tmp_path / "s" / f"{n}.txt", "0 0.5 0.5 1 1\n" if n else "")
    picture(tmp_path / "s/unlabelled.png")
    write(tmp_path / "s/obj.names", "cat\n")
    _, said = take(tmp_path / "s", tmp_path / "to")
    assert answers(tmp_path / "to") == ["cat [0, 0, 1000, 1000]"] * 11 + ["nothing"]
    assert "1 passed over: image files that nothing names or describes (unlabelled.png)" in said


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_folders_of_hugging_face(tmp_path, ending, kind):
    """A metadata list a split, names relative to it."""
    make, suffix, key = (picture, "png", "text") if kind == "image" else (clip, "wav", "transcription")
    for split in ("train", "validation"):
        entries = []
        for n in range(6):
            make(tmp_path / "s" / split / f"{n}.{suffix}")
            entries.append({"file_name": f"{n}.{suffix}", key: f"{split} {n}", "licence": "x"})
        lines = [json.dumps(entry) for entry in entries]
        if ending == "csv":
            lines = [f"file_name,{key},licence", *(",".join(entry.values()) for entry in entries)]
        write(tmp_path / "s" / split / f"metadata.{ending}", "\n".join(lines))
    counts, said = take(tmp_path / "s", tmp_path / "to")
    assert counts == {"train": 12, "dev": 12}
    assert described(tmp_path / "to") == {
        (tmp_path / "s" / split / f"{n}.{suffix}").read_bytes(): f"{split} {n}"
        for split in ("train", "validation")
        for n in range(6)
    }
    assert f"train/metadata.{ending}: not used: licence" in said


@pytest.mark.parametrize("maker", ["roboflow", "cvat"])
def test_coco_a_split(tmp_path, maker):
    """Lists and pictures in a folder a split, or both in folders of their own; names are the same in each split."""
    for split, side in (("train", 10), ("test", 20)):
        images = [{"id": n, "file_name": f"{n}.jpg", "width": side, "height": 10} for n in range(3)]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 5, 5]} for n in range(3)]
        raw = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        for n in range(3):
            folder = f"{split}" if maker == "roboflow" else f"images/{split}"
            picture(tmp_path / "s" / folder / f"{n}.jpg", (side, 10))
        listed = f"{split}/_annotations.coco.json" if maker == "roboflow" else f"annotations/instances_{split}.json"
        write(tmp_path / "s" / listed, json.dumps(raw))
    counts, _ = take(tmp_path / "s", tmp_path / "to")
    assert counts == {"train": 3, "test": 3}
    assert answers(tmp_path / "to") == ["cat [0, 0, 250, 500]"] * 3 + ["cat [0, 0, 500, 500]"] * 3


def test_a_question_keeps_what_it_is_about(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = [{"instruction": "Translate.", "input": f"word {n}", "output": f"Wort {n}", "n": n} for n in range(12)]
    parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "a.parquet")
    _, said = take(tmp_path / "a.parquet", tmp_path / "to")
    assert {row[0][1][0] for row in rows(tmp_path / "to")} == {f"Translate.\n\nword {n}" for n in range(12)}
    assert "a.parquet: not used: n" in said


def test_a_question_about_a_picture_keeps_the_picture(tmp_path):
    lines = []
    for n in range(12):
        picture(tmp_path / "s" / f"{n}.png")
        lines.append(json.dumps({"image": f"{n}.png", "question": f"is it {n}?", "answer": "yes"}))
    write(tmp_path / "s/vqa.jsonl", "\n".join(lines))
    counts, _ = take(tmp_path / "s", tmp_path / "to")
    assert sum(counts.values()) == 12
    assert {tuple(row[0][1]) for row in rows(tmp_path / "to")} == {
        ((tmp_path / "s" / f"{n}.png").read_bytes(), f"is it {n}?") for n in range(12)
    }


@pytest.mark.parametrize("mark", ["", "<image>\n", "<|image|>"])
def test_media_beside_the_words_of_a_message(tmp_path, mark):
    picture(tmp_path / "s/0.png")
    user = {"role": "user", "content": f"{mark}what?", "images": ["0.png"], "name": "anna"}
    entry = {"messages": [user, {"role": "assistant", "content": "this"}]}
    write(tmp_path / "s/chat.jsonl", json.dumps(entry))
    _, said = take(tmp_path / "s", tmp_path / "to", strict=True)
    ((asked, _),) = rows(tmp_path / "to")
    assert asked == ("user", [(tmp_path / "s/0.png").read_bytes(), "what?"])
    assert said[1:] == ["chat.jsonl, in a message: not used: name"]


def test_two_keys_of_one_picture_are_one_picture(tmp_path):
    picture(tmp_path / "s/0.png")
    entry = {"image": "0.png", "file_name": "0.png", "system": "be brief", "conversations": turns()}
    write(tmp_path / "s/chat.json", json.dumps([entry]))
    take(tmp_path / "s", tmp_path / "to", strict=True)
    ((system, asked, _),) = rows(tmp_path / "to")
    assert system == ("system", ["be brief"])
    assert asked == ("user", [(tmp_path / "s/0.png").read_bytes(), "What is it?"])


def test_marks_stand_where_the_words_have_them(tmp_path):
    for n in range(2):
        picture(tmp_path / "s" / f"{n}.png")
    asked = "Is <image> or <image> older?"
    write(tmp_path / "s/chat.json", json.dumps([{"image": ["0.png", "1.png"], "conversations": turns(asked)}]))
    take(tmp_path / "s", tmp_path / "to", strict=True)
    first, second = ((tmp_path / "s" / f"{n}.png").read_bytes() for n in range(2))
    assert rows(tmp_path / "to")[0][0] == ("user", ["Is", first, "or", second, "older?"])


def test_marks_in_questions_and_captions(tmp_path):
    lines = []
    for n in range(20):
        picture(tmp_path / "s" / f"{n}.png")
        lines.append(json.dumps({"image": f"{n}.png", "question": "<image>\nwhich?", "answer": f"{n}"}))
    write(tmp_path / "s/vqa.jsonl", "\n".join(lines))
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert {row[0][1][1] for row in rows(tmp_path / "to")} == {"which?"}
    lines = [json.dumps({"image": f"{n}.png", "text": f"{'<image> ' * (n == 3)}{n}"}) for n in range(20)]
    write(tmp_path / "s/vqa.jsonl", "\n".join(lines))
    _, said = take(tmp_path / "s", tmp_path / "to2")
    assert "1 passed over: its text has a mark of a medium (vqa.jsonl:4 <image> 3)" in said
