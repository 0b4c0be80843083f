"""Weights in fewer bits come back close, whole and in small files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import TINY, World

from plait import api
from plait.errors import CheckpointError, ConfigError
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.files import sha256_of
from plait.train import checkpoint
from plait.train.precision import GROUP, LEAST, SCALE, SCALES, lowered, restored, shards


def weights():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(96, 64, generator=generator) * torch.logspace(-3, 3, 96)[:, None]
    wide[5] = 0.0
    vector = torch.randn(9000, generator=generator)
    return {
        "wide": wide,
        "cube": torch.randn(8, 16, 40, generator=generator),
        "vector": vector,
        "few": torch.randn(4, 4, generator=generator),
    }


def test_int8_is_within_half_a_step_of_each_row():
    before, stored = weights(), lowered(weights(), "int8")
    assert stored["wide"].dtype == stored["cube"].dtype == torch.int8
    after = restored(stored)
    assert list(after) == list(before)
    for name in ("wide", "cube"):
        largest = before[name].flatten(1).abs().amax(dim=1, keepdim=True)
        assert ((after[name] - before[name]).flatten(1).abs() <= largest / 253.9).all()
    assert torch.equal(after["wide"][5], before["wide"][5])
    assert before["few"].numel() < LEAST
    assert all(torch.equal(after[name], before[name]) for name in ("vector", "few"))


def test_int4_is_near_and_what_does_not_divide_is_in_int8():
    before = {**weights(), "odd": torch.randn(100, GROUP - 1, generator=torch.Generator().manual_seed(1))}
    stored = lowered(before, "int4")
    assert stored["wide"].dtype == torch.uint8
    assert stored["wide"].shape == (96, 32)
    assert stored["odd"].dtype == stored["cube"].dtype == torch.int8
    after = restored(stored)
    assert list(after) == list(before)
    off = (after["wide"] - before["wide"]).norm(dim=1) / before["wide"].norm(dim=1).clamp_min(1e-9)
    normal = torch.ones(96, dtype=torch.bool)
    normal[5] = False
    assert off[normal].max() < 0.15, "a normal distribution in 15 levels loses a tenth"
    plain = before["wide"].unflatten(1, (-1, GROUP))
    step = plain.abs().amax(dim=2, keepdim=True) / 7
    usual = (plain / step).round() * step
    assert (after["wide"] - before["wide"])[normal].norm() < (usual.flatten(1) - before["wide"])[normal].norm()
    assert after["wide"][5].abs().max() < 1e-3
    assert torch.equal(restored(lowered(after, "int4"))["cube"], after["cube"])


def test_each_weight_is_in_the_precision_of_the_first_pattern_that_it_fits():
    stored = lowered(weights(), {"wi*": "int4", "cube": "bfloat16", "*": "int8"})
    assert (stored["wide"].dtype, stored["cube"].dtype) == (torch.uint8, torch.bfloat16)
    assert "wide" + SCALES in stored
    with pytest.raises(KeyError, match="cube fits none"):
        lowered(weights(), {"wide": "int4"})


def test_bfloat16_comes_back_in_float32():
    after = restored(lowered(weights(), "bfloat16"))
    for name, tensor in weights().items():
        assert after[name].dtype == torch.float32
        torch.testing.assert_close(after[name], tensor, rtol=2**-8 if tensor.ndim > 1 else 0, atol=0)


def test_shards_are_small_and_hold_everything_once():
    parts = list(shards(weights(), 0.27))
    assert len(parts) > 1
    assert sorted(name for part in parts for name in part) == sorted(weights())


@pytest.fixture
def saved(tmp_path):
    model = MultimodalTransformer(TINY, World().vocabulary)
    state = checkpoint.TrainState({}, {"step": 1})
    return checkpoint.save(tmp_path / "whole", model, model.state_dict(), {"name": "mine", "steps": 1}, state)


def test_a_lean_checkpoint_answers_nearly_the_same(saved, tmp_path):
    lean = checkpoint.lean(saved, tmp_path / "lean", "int8", shard_mib=0.3)
    assert len(list(lean.glob("model-*.safetensors"))) > 1
    assert not (lean / checkpoint.STATE_JSON).exists()
    sizes = [sum(file.stat().st_size for file in place.glob("model*")) for place in (saved, lean)]
    assert sizes[1] < 0.6 * sizes[0]
    before, after = (checkpoint.load(place)[0].state_dict() for place in (saved, lean))
    off = [float((after[name] - before[name]).norm() / before[name].norm().clamp_min(1e-9)) for name in before]
    assert 0 < max(off) < 0.02
    again = checkpoint.lean(lean, tmp_path / "again", "float32")
    same = checkpoint.load(again)[0].state_dict()
    assert all(torch.equal(same[name], after[name]) for name in after)
    with pytest.raises(ConfigError, match="exists"):
        checkpoint.lean(saved, lean, "int8")


def test_an_export_in_int8_loads_as_one_file(saved, tmp_path):
    small = api.export(saved, tmp_path / "small.plait", "int8")
    whole = api.export(saved, tmp_path / "whole.plait")
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    api.load(small)
    with pytest.raises(ConfigError, match="precision=int8 for an archive"):
        api.export(small, tmp_path / "other", "int8")


def test_int8_without_its_scale_is_refused(saved, tmp_path):
    lean = checkpoint.lean(saved, tmp_path / "lean", "int8")
    (file,) = lean.glob("model-*.safetensors")
    tensors = load_file(file)
    doomed = next(name for name in tensors if name.endswith(SCALE))
    save_file({name: tensor for name, tensor in tensors.items() if name != doomed}, file)
    config = json.loads((lean / checkpoint.CONFIG).read_text())
    config["sha256"][file.name] = sha256_of(file)
    (lean / checkpoint.CONFIG).write_text(checkpoint.as_json(checkpoint.sealed(config)))
    with pytest.raises(CheckpointError, match="without which a tensor in few bits has no size"):
        checkpoint.load(lean)
