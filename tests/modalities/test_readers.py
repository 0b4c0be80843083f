"""Frozen encoders: their weights out of packages, their features' shapes, and what is said where one is missing."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from plait import registry
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError, ConfigError
from plait.modalities.audio import whisper
from plait.modalities.audio.hearing import SPELLED, STACKED, whisper_mel
from plait.modalities.audio.readers import READERS as EARS
from plait.modalities.image import efficientnet
from plait.modalities.image.readers import READERS as EYES
from plait.runtime.device import resolve_dtype

FRAMES = 40


def written(arrays, version=whisper.VERSION):
    """A model.bin as CTranslate2 writes it."""
    data = struct.pack("<I", version) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        data += struct.pack("<H", len(name) + 1) + name.encode() + b"\0" + struct.pack("<B", array.ndim)
        data += struct.pack(f"<{array.ndim}I", *array.shape) + struct.pack("<BI", 0, array.nbytes) + array.tobytes()
    return data


@pytest.fixture(scope="module")
def network():
    """transformers' encoder with random weights."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, max_source_positions=FRAMES
    )
    made = WhisperEncoder(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.05)
    return made


@pytest.fixture(scope="module")
def stored(network):
    """Its weights by CTranslate2's names."""
    theirs = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    ours = {"encoder/position_encodings/encodings": theirs["embed_positions.weight"]}
    ours |= {f"encoder/{n}/{k}": theirs[f"{n}.{k}"] for n in ("conv1", "conv2") for k in ("weight", "bias")}
    norms = {"layer_norm": "layer_norm"}
    for i in range(4):
        layer = f"layers.{i}"
        norms |= {
            f"layer_{i}/self_attention/layer_norm": f"{layer}.self_attn_layer_norm",
            f"layer_{i}/ffn/layer_norm": f"{layer}.final_layer_norm",
        }
        for kind in ("weight", "bias"):
            zeros = np.zeros(384, np.float32)
            q, v = (theirs[f"{layer}.self_attn.{p}_proj.{kind}"] for p in "qv")
            k = theirs[f"{layer}.self_attn.k_proj.weight"] if kind == "weight" else zeros
            ours[f"encoder/layer_{i}/self_attention/linear_0/{kind}"] = np.concatenate((q, k, v))
            ours[f"encoder/layer_{i}/self_attention/linear_1/{kind}"] = theirs[f"{layer}.self_attn.out_proj.{kind}"]
            ours[f"encoder/layer_{i}/ffn/linear_0/{kind}"] = theirs[f"{layer}.fc1.{kind}"]
            ours[f"encoder/layer_{i}/ffn/linear_1/{kind}"] = theirs[f"{layer}.fc2.{kind}"]
    for name, their in norms.items():
        ours |= {f"encoder/{name}/gamma": theirs[f"{their}.weight"], f"encoder/{name}/beta": theirs[f"{their}.bias"]}
    return ours


def test_weights_in_ctranslate2_s_layout_are_transformers_own(network, stored):
    arrays = whisper.read_ctranslate2(written(stored | {"decoder/x": np.ones(3, np.float32)}), "it", whisper.ENCODER)
    assert set(arrays) == set(stored)
    weights = whisper.encoder_weights(arrays)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_a_part_of_a_file_is_a_file(stored):
    whole = written(stored | {"decoder/x": np.ones(3, np.float32)})
    assert whisper.only(whole, whisper.ENCODER) == written(stored)


@pytest.mark.parametrize(
    ("data", "problem"),
    [(written({}, 5), "has version 5"), (written({"encoder/a": np.ones(9, np.float32)})[:-1], "damaged or cut short")],
)
def test_other_files_are_refused(data, problem):
    with pytest.raises(CheckpointError, match=problem):
        whisper.read_ctranslate2(data, "model.bin", whisper.ENCODER)


def test_spectrograms_are_those_of_transformers():
    samples = np.random.default_rng(0).standard_normal(480_000).astype(np.float32) * 0.1
    theirs = WhisperFeatureExtractor(feature_size=80)(samples, sampling_rate=16_000, return_tensors="np")[
        "input_features"
    ]
    np.testing.assert_allclose(whisper_mel(torch.from_numpy(samples)[None]).numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 8.0, 9.5])
def test_an_ear_gives_a_token_for_every_80_milliseconds(monkeypatch, seconds):
    def small(frames):
        torch.manual_seed(0)
        return WhisperEncoder(
            WhisperConfig(
                d_model=384,
                encoder_layers=1,
                encoder_attention_heads=6,
                encoder_ffn_dim=64,
                max_source_positions=frames,
            )
        ).eval()

    monkeypatch.setattr(whisper, "encoder", small)
    ear = EARS["whisper_tiny_en"]
    samples = np.random.default_rng(1).standard_normal(int(16_000 * seconds)).astype(np.float32)
    found, again = ear.load(torch.device("cpu"))([samples, samples[:8000]]), ear.load(torch.device("cpu"))([samples])
    assert found[0].dtype == np.float16
    assert found[0].shape[1] == ear.width == STACKED * 384
    assert abs(len(found[0]) - max(1, seconds / 0.08)) <= 1.5
    np.testing.assert_allclose(found[0].astype(np.float32), again[0].astype(np.float32), atol=0.02)


def test_each_clip_is_read_in_the_shortest_window_that_it_fits_into(monkeypatch):
    class Window(torch.nn.Module):
        """Gives the number of its frames."""

        def __init__(self, frames):
            super().__init__()
            self.frames = frames
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, mel):
            assert mel.shape[-1] == 2 * self.frames
            return SimpleNamespace(last_hidden_state=torch.full((len(mel), self.frames, 384), float(self.frames)))

    monkeypatch.setattr(whisper, "encoder", Window)
    clips = [np.zeros(int(16_000 * seconds), np.float32) for seconds in (7.0, 0.5, 2.0, 3.0, 9.0)]
    features = EARS["whisper_tiny_en"].load(torch.device("cpu"))(clips)
    assert [np.unique(own).tolist() for own in features] == [[400.0], [100.0], [100.0], [200.0], [100.0, 400.0]]
    assert features[4][-1, 0] == 100.0, "the last second of nine"


def test_a_reader_is_spelled_by_the_ending_of_its_name():
    plain, spelled = (
        Vocabulary({"audio": registry.build("audio", {"reader": f"whisper_tiny_en{ending}"})}).readers["audio"]
        for ending in ("", SPELLED)
    )
    assert (plain.letters, spelled.letters) == (0, STACKED)
    assert (plain.width, plain.version) == (spelled.width, spelled.version)
    part = registry.build("audio").example(0)
    given = [reader.prepare(registry.build("audio"), part) for reader in (plain, spelled)]
    assert np.array_equal(*given)
    assert np.array_equal(*(reader.vary(given[0], np.random.default_rng(3)) for reader in (plain, spelled)))


def eye_network():
    """EfficientNet with random weights whose features are not tiny."""
    torch.manual_seed(0)
    network = efficientnet.EfficientNetLite0().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.05, 0.2)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
    return network


def test_an_eye_sees_the_whole_and_nine_places(monkeypatch):
    from plait.modalities.image import readers

    network = eye_network()
    monkeypatch.setattr(readers, "pretrained", lambda folder: network)
    eye, image = EYES["efficientnet_lite0"], registry.build("image")
    given = eye.prepare(image, image.example(0))
    levels = (torch.from_numpy(given).permute(2, 0, 1)[None].float() - 127.0) / 128.0
    with torch.inference_mode():
        expected = network.features(levels)[0].numpy()
    (features,) = eye.load(torch.device("cpu"))([given])
    assert features.shape == (eye.tokens, eye.width) == (11, eye.width)
    error = np.linalg.norm(features[0] - expected) / np.linalg.norm(expected)
    in_bfloat16 = resolve_dtype("auto", torch.device("cpu")) == torch.bfloat16  # of random weights, which spread errors
    assert error < (0.2 if in_bfloat16 else 5e-3)


def test_norms_inside_convolutions_change_no_feature():
    network = eye_network()
    levels = torch.randn(2, 3, efficientnet.SIDE, efficientnet.SIDE)
    with torch.inference_mode():
        expected = network.maps(levels)
        features = efficientnet.fused(network).maps(levels)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert expected.std() > 0.1
    assert (features - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize(
    "reader", [EARS["whisper_tiny_en"], EYES["efficientnet_lite0"]], ids=lambda reader: reader.name
)
def test_variants_keep_the_kind_of_input(reader):
    modality = registry.build("audio" if reader.name in EARS else "image")
    given = reader.prepare(modality, modality.example(1))
    varied = reader.vary(given, np.random.default_rng(0))
    assert varied.dtype == given.dtype
    assert varied.ndim == given.ndim
    assert np.isfinite(varied).all()
    assert not np.array_equal(varied, given)
    assert np.array_equal(varied, reader.vary(given, np.random.default_rng(0)))


def test_an_unknown_reader_is_refused():
    with pytest.raises(ConfigError, match="got reader 'glasses'; expected one of efficientnet_lite0"):
        Vocabulary({"image": registry.build("image", {"reader": "glasses"})})


def test_a_modality_keeps_its_reader():
    image = registry.build("image", {"reader": "efficientnet_lite0", "raw": False})
    again = registry.build("image", image.state())
    assert (again.reader, again.raw) == ("efficientnet_lite0", False)
    assert "<features:efficientnet_lite0>" in Vocabulary({"image": again}).names
