"""Encoders of other makers: taken by name and hash, their features those of transformers' own classes, through a whole training."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from plait import api, registry
from plait.cli import app
from plait.contract import Part
from plait.errors import CheckpointError, ConfigError
from plait.modalities import encoders
from plait.modalities.image.backbone import PLACES, palette

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
SEEN = {"image_size": 32, "patch_size": 8}
EYES = {
    "vit": transformers.ViTConfig(**SMALL, **SEEN),
    "deit": transformers.DeiTConfig(**SMALL, **SEEN),
    "dinov2": transformers.Dinov2Config(**SMALL | SEEN),
    "clip": transformers.CLIPConfig(vision_config={**SMALL, **SEEN}, text_config={**SMALL, "vocab_size": 50}),
    "siglip": transformers.SiglipConfig(vision_config={**SMALL, **SEEN}, text_config={**SMALL, "vocab_size": 50}),
    "resnet": transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
}
WAVES = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
EARS = {
    "wav2vec2": transformers.Wav2Vec2Config(**SMALL, **WAVES),
    "hubert": transformers.HubertConfig(**SMALL, **WAVES),
    "whisper": transformers.WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=24, vocab_size=60, max_source_positions=50, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def sources(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path / "sources"))


def stored(config, folder, **preprocessor):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model


def reader_of(source, modality):
    said = []
    api.import_model(source, say=said.append)
    (line,) = said
    name = line.split(f"modalities.{modality}.reader=")[1].split()[0]
    made = registry.build(modality, {"reader": name})
    return made, registry.reader_of(made)


@pytest.mark.parametrize("family", EYES)
def test_pictures_are_seen_as_transformers_sees_them(family, tmp_path):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    model = stored(EYES[family], tmp_path / f"{family} model", image_mean=mean, image_std=std)
    modality, reader = reader_of(tmp_path / f"{family} model", "image")
    assert reader.name.startswith(f"{family}_model_")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (reader.side, reader.side, 3), np.uint8))
    prepared = reader.prepare(modality, Part("image", picture))
    assert prepared.shape == (reader.side, reader.side, 3)
    (features,) = reader.load(torch.device("cpu"))([prepared])
    assert features.shape == (reader.tokens, reader.width) == (1 + PLACES * PLACES + 1, reader.width)
    levels = (torch.tensor(prepared).permute(2, 0, 1).float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(
        std
    ).view(3, 1, 1)
    with torch.no_grad():
        told = getattr(model, "vision_model", model)(levels[None]).last_hidden_state[0]
    if told.ndim == 3:
        first, grid = told.mean(dim=(1, 2)), told
    else:
        before = len(told) - 16
        first = told[0] if before else told.mean(0)
        grid = told[before:].T.reshape(-1, 4, 4)
    places = torch.nn.functional.adaptive_avg_pool2d(grid, PLACES).flatten(1).T
    colours = palette(torch.tensor(prepared).permute(2, 0, 1)[None].float() / 255, 16)
    expected = torch.cat((first[None], places, colours))
    np.testing.assert_allclose(features.astype(np.float32), expected.numpy(), atol=5e-3, rtol=5e-3)


def test_a_palette_holds_the_roots_of_the_shares_of_colours():
    pixels = torch.ones(1, 3, 64, 64)
    pixels[:, :, :32] = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)  # the upper half is red, the rest white
    pixels[:, :, :16, :32] = 0.3  # an eighth is grey
    shares = palette(pixels, 30)[0]  # three steps a channel: 27 colours
    expected = torch.zeros(30)
    expected[2 * 9], expected[0] = 0.375**0.5, 0.125**0.5
    torch.testing.assert_close(shares, expected)
    assert palette(torch.rand(2, 3, 40, 40), 1280)[:, 216:].abs().sum() == 0


@pytest.mark.parametrize("family", EARS)
def test_sound_is_heard_as_transformers_hears_it(family, tmp_path):
    model = stored(EARS[family], tmp_path / family)
    modality, reader = reader_of(tmp_path / family, "audio")
    clip = (0.1 * np.random.default_rng(0).standard_normal(11_000)).astype(np.float32)
    prepared = reader.prepare(modality, Part("audio", (clip, 16_000)))
    (features, short) = reader.load(torch.device("cpu"))([prepared, prepared[:100]])
    assert features.shape[1] == reader.width == 4 * 16
    assert len(short) == 1
    if family == "whisper":
        assert len(features) == -(-35 // 4), "as many frames of 20 ms as the clip lasts"
        return
    with torch.no_grad():
        samples = torch.from_numpy(prepared)
        told = model(((samples - samples.mean()) / samples.std(unbiased=False))[None]).last_hidden_state[0]
    flat = features.reshape(-1, 16)[: len(told)]
    np.testing.assert_allclose(flat.astype(np.float32), told.numpy(), atol=5e-3, rtol=5e-3)


def test_what_cannot_be_taken_is_refused_with_the_way_to_mend_it(tmp_path):
    stored(EYES["vit"], tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").rename(tmp_path / "vit" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no weights as safetensors.*convert it"):
        api.import_model(tmp_path / "vit")
    with pytest.raises(ConfigError, match=r"got reader 'vit_0000'.*plait import took from a folder"):
        registry.reader_of(registry.build("image", {"reader": "vit_0000"}))
    stored(transformers.WhisperConfig(**EARS["whisper"].to_dict() | {"num_mel_bins": 128}), tmp_path / "large")
    with pytest.raises(CheckpointError, match="takes 128 mels; expected 80"):
        api.import_model(tmp_path / "large")


def test_half_precision_on_the_disk_is_read_in_full(tmp_path):
    torch.manual_seed(0)
    transformers.AutoModel.from_config(EYES["resnet"]).half().save_pretrained(tmp_path / "half")
    _, reader = reader_of(tmp_path / "half", "image")
    (features,) = reader.load(torch.device("cpu"))([np.zeros((reader.side, reader.side, 3), np.uint8)])
    assert np.isfinite(features).all()


def test_a_width_that_the_configuration_does_not_say_is_known(tmp_path):
    """As on hubs, where only what differs from the family's usual is written."""
    folder = tmp_path / "siglip"
    stored(transformers.SiglipVisionConfig(num_hidden_layers=1, image_size=32, patch_size=16), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "hidden_size"}))
    _, reader = reader_of(folder, "image")
    assert reader.width == 768


def test_an_encoder_that_reads_nothing_is_not_taken(tmp_path):
    stored(EYES["vit"], tmp_path / "vit")
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config | {"hidden_size": 24}))
    with pytest.raises(CheckpointError, match=r"cannot be opened|reads nothing"):
        api.import_model(tmp_path / "vit", say=lambda line: None)
    assert not encoders.taken()


def test_a_damaged_copy_is_mended_by_taking_it_again(tmp_path):
    stored(EYES["vit"], tmp_path / "vit")
    place = api.import_model(tmp_path / "vit", say=lambda line: None)
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[:100])
    assert api.import_model(tmp_path / "vit", say=lambda line: None) == place
    assert (place / "model.safetensors").read_bytes() == whole
    (tmp_path / "vit" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.1, 0.1]}')
    assert api.import_model(tmp_path / "vit", say=lambda line: None) != place, "other preparation, other features"


def test_a_reader_is_taken_once_and_travels_by_its_files(tmp_path):
    stored(EYES["vit"], tmp_path / "vit")
    result = CliRunner().invoke(app, ["import", str(tmp_path / "vit")])
    assert result.exit_code == 0, result.output
    (name,) = encoders.taken()
    assert f"modalities.image.reader={name}" in result.output
    assert encoders.take(tmp_path / "vit").name == name
    files = registry.reader_of(registry.build("image", {"reader": name})).files(tmp_path)
    assert f"encoders/{name}/model.safetensors" in files
    assert all(path.startswith(f"encoders/{name}/") for path in files)
    (encoders.taken()[name] / "config.json").write_text("{")
    encoders.settings.cache_clear()
    with pytest.raises(CheckpointError, match="no JSON"):
        registry.reader_of(registry.build("image", {"reader": name}))
