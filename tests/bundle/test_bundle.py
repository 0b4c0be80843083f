"""A bundle trains where there is no network, and what moved comes back."""

import io
import json
import shutil
import subprocess
import sys
import tarfile

import pytest
import torch
from PIL import Image

from plait import api, registry
from plait.bundle import pack as packing
from plait.bundle.run_bundle import MANIFEST
from plait.data.rows import read_rows
from plait.data.shards import ShardWriter
from plait.errors import ConfigError, DataError
from plait.recipes.recipe import Recipe
from plait.runtime.files import MANIFEST as DATA_MANIFEST
from plait.train import checkpoint

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/pretrained")
from test_importing import folder  # noqa: F401  a tiny language model

ROWS, SIDE = 24, 16
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def data(tmp_path):
    """Rows about pictures, every third without one."""
    place = tmp_path / "data"
    (place / "media").mkdir(parents=True)
    with (place / "train.jsonl").open("w") as rows:
        for number in range(ROWS):
            content = [{"type": "text", "text": f"what is {number}"}]
            if number % 3:
                Image.effect_noise((SIDE, SIDE), number).save(place / "media" / f"{number}.png")
                content.insert(0, {"type": "image", "image": f"media/{number}.png"})
            answer = {"role": "assistant", "content": "a picture" if number % 3 else "a number"}
            row = {"task": "name", "messages": [{"role": "user", "content": content}, answer]}
            rows.write(json.dumps(row) + "\n")
    return place


@pytest.fixture
def recipe(folder, tmp_path):  # noqa: F811
    """A recipe of two stages that starts from an imported language model."""
    start = api.import_model(folder, tmp_path / "imported", lambda line: None)
    return Recipe(
        name="last", data="", steps=3, log_every=1, pack={"length": 96, "sequences": 2}, optim={"name": "adamw"},
        modalities={"text": {}, "image": {"patch": 8, "max_patches": 4}}, init=str(start), trainable=("*.adapters.*",),
        trunk={"adapters": {"image_given": 2}},
        stages={"first": {"trainable": ("embedders.*", "flows.*"), "trunk": {"adapters": {}}}},
    )  # fmt: skip


@pytest.fixture
def bundle(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "wheels", lambda place, python: place.mkdir() or [])
    packing.pack(recipe, data, tmp_path / "bundle", part_mib=0.2, total_mib=50, python=HERE)
    return tmp_path / "bundle"


def run(bundle, *arguments, work):
    command = [sys.executable, str(bundle / "run_bundle.py"), str(bundle), "--work", str(work), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=bundle.parent, check=False)


def test_it_trains_from_the_bundle_alone_and_goes_on(bundle, recipe, data, tmp_path):
    shutil.rmtree(data)
    shutil.rmtree(recipe.init)
    work, out = tmp_path / "work", tmp_path / "out"
    first = run(bundle, "--set", "stages.first.steps=2", "--minutes", "0.001", "--reserve", "0", work=work)
    assert first.returncode == 0, first.stdout + first.stderr
    done = run(bundle, "--set", "stages.first.steps=2", "--out", str(out), "--shard-mib", "0.26", work=work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 2/2" in first.stderr + done.stderr
    assert "step 3/3" in done.stderr
    assert "step 2/2" not in run(bundle, "--set", "stages.first.steps=2", work=work).stderr
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(shard.stat().st_size < 0.3 * 2**20 for shard in shards)
    model, config = checkpoint.load(out)
    assert config["trunk"]["adapters"] == {"image_given": 2}
    trained, _ = checkpoint.load(checkpoint.locate(work / "runs" / "last"))
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-2, atol=1e-2)


def test_a_damaged_or_missing_part_is_named(bundle, tmp_path):
    parts = sorted(bundle.glob("part-*"))
    assert len(parts) > 1
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # another last byte, whatever it was
    done = run(bundle, work=tmp_path / "work")
    assert done.returncode
    assert "part-01 has sha256" in done.stderr
    parts[1].unlink()
    done = run(bundle, work=tmp_path / "work")
    assert done.returncode
    assert "part-01 is missing" in done.stderr


def test_another_python_is_told(bundle, tmp_path):
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"python": "3.9"}))
    done = run(bundle, work=tmp_path / "work")
    assert done.returncode
    assert f"this is Python {HERE}; the bundle was made for 3.9: plait bundle --python {HERE}" in done.stderr


def test_no_time_ends_before_the_training_and_loses_nothing(bundle, tmp_path):
    done = run(bundle, "--minutes", "0", work=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert "no time left to train last; run again to go on" in done.stdout


def test_media_are_left_out_that_do_not_fit(data):
    one = (data / "media" / "1.png").stat().st_size + 1024
    modalities = registry.build_all({"text": {}, "image": {"patch": 8}})
    lines, media = packing.chosen_rows(data, modalities, 4.5 * one)
    assert 2 <= len(media) <= 5
    assert sum("media/" not in line for line in lines) == ROWS // 3  # rows of words come along
    named = {part["image"] for line in lines for part in json.loads(line)["messages"][0]["content"] if "image" in part}
    assert named == set(media)


def test_every_part_but_the_last_is_full(bundle):
    sizes = [part["bytes"] for part in json.loads((bundle / MANIFEST).read_text())["parts"]]
    assert set(sizes[:-1]) == {int(0.2 * 2**20)}


def test_a_folder_in_use_is_refused(recipe, data):
    with pytest.raises(ConfigError, match="is not empty"):
        packing.pack(recipe, data, data)


def test_a_size_that_leaves_no_room_for_rows_is_refused(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "wheels", lambda place, python: place.mkdir() or [])
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("".join(f"{line}\n" for line in lines if "media/" in line))
    with pytest.raises(ConfigError, match=r"1 MiB leave no room for rows: .* expected more, such as --total-mib \d+"):
        packing.pack(recipe, data, tmp_path / "bundle", total_mib=1, python=HERE)
    packing.pack(recipe, data, tmp_path / "bundle", total_mib=50, python=HERE)


def test_tasks_whose_rows_do_not_fit_are_listed(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "wheels", lambda place, python: place.mkdir() or [])
    facts = {"format": 1, "sources": [], "notes": [], "files": {}, "tasks": {"name": ROWS, "elsewhere": 7}}
    (data / DATA_MANIFEST).write_text(json.dumps(facts))
    packing.pack(recipe, data, tmp_path / "bundle", total_mib=50, python=HERE)
    parts = sorted((tmp_path / "bundle").glob("part-*"))
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts)), mode="r:gz") as tar:
        facts = json.load(tar.extractfile(f"data/{DATA_MANIFEST}"))
    assert facts["tasks"] == {"name": ROWS, "elsewhere": 0}


def test_data_without_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"neither train.jsonl nor shards"):
        packing.chosen_rows(tmp_path, {}, 1e9)


def test_rows_in_shards_come_along_with_their_media(data, tmp_path):
    modalities = registry.build_all({"text": {}, "image": {"patch": 8}})
    with ShardWriter(tmp_path / "shards", "train", modalities) as writer:
        for sample in read_rows(data / "train.jsonl", modalities):
            writer.add([sample])
    lines, media = packing.chosen_rows(tmp_path / "shards", modalities, 1e9)
    assert len(lines) == ROWS
    assert len(media) == ROWS - ROWS // 3
    stored = {value.read() for value in media.values()}
    assert stored == {path.read_bytes() for path in (data / "media").iterdir()}


def test_weights_that_are_shipped_stay_at_home():
    names = [name for name, _ in packing.package_files()]
    assert "plait/shipped/smol/config.json" in names
    assert not [name for name in names if name.endswith(".safetensors")]
