"""The vocoder: an inverse transform that is exact, samples that hang on no later frames than it says, pieces without a seam,
and weights that train through the one loop and come back with the checkpoint."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_rows import config, write_rows
from worlds import SETTINGS, TINY, text

from plait import api, registry
from plait.contract import Message, Part
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.events import BlockDone
from plait.infer.request import Request
from plait.modalities.audio import mel, vocoder, weights
from plait.modalities.audio.mel import HOP, MELS
from plait.model.init import initialise
from plait.model.multimodal import MultimodalTransformer
from plait.train import checkpoint
from plait.train.run import train


@pytest.fixture(scope="module")
def network():
    module = vocoder.Vocoder(width=16, layers=3).eval()
    initialise(module, 0)
    with torch.no_grad():
        module.last.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return module


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decode(network):
    return lambda frames: network(frames[None])[0].detach()


def test_the_inverse_gives_back_the_samples():
    samples = noise(40 * HOP)
    both = vocoder.inverse(torch.stack([mel.stft(samples), mel.stft(2 * samples)]))
    torch.testing.assert_close(both, torch.stack([samples, 2 * samples]), atol=1e-5, rtol=1e-4)


def test_equal_sounds_have_no_loss_and_the_loss_grows_with_the_noise():
    samples = 0.1 * noise(3, 60 * HOP)
    near, far = (vocoder.loss(samples + std * noise(3, 60 * HOP, seed=2), samples) for std in (0.01, 0.1))
    assert vocoder.loss(samples, samples).abs().max() == 0
    assert (near < far).all()


def test_a_sample_hangs_on_no_other_frames_than_it_says(network):
    frames = noise(1, 120, MELS)
    before = network(frames)[0]
    changed = frames.clone()
    changed[:, 60] += 1.0
    different = (network(changed)[0] - before).abs().detach().numpy() > 1e-7
    first, last = np.flatnonzero(different)[[0, -1]]
    assert first >= (60 - vocoder.LOOKAHEAD - vocoder.OVERLAP) * HOP
    assert last < (60 + network.context) * HOP
    assert last > (60 + vocoder.OVERLAP + 3) * HOP, "the layers look back"


@pytest.mark.parametrize("sizes", [(120,), (1, 1, 1, 117), (64, 56), (7, 50, 3, 60), (119, 1)])
def test_pieces_join_to_the_whole(network, sizes):
    frames = noise(120, MELS, seed=3)
    pieces = vocoder.Piecewise(decode(network), network.context)
    given = list(frames.split(sizes))
    told = [pieces.add(part, last=number == len(given) - 1) for number, part in enumerate(given)]
    torch.testing.assert_close(torch.cat(told), decode(network)(frames), atol=1e-5, rtol=1e-4)
    assert len(pieces.frames) <= network.context + vocoder.Piecewise.HELD + max(sizes), "what is past is dropped"


def test_all_but_the_held_samples_of_a_block_are_told_with_it(network):
    pieces = vocoder.Piecewise(decode(network), network.context)
    assert len(pieces.add(noise(64, MELS), last=False)) == (63 - vocoder.Piecewise.HELD) * HOP


def test_streamed_sound_is_the_sound_of_the_answer():
    modalities = registry.build_all(SETTINGS | {"audio": SETTINGS["audio"] | {"vocoder": 16}})
    modalities["text"].fit([text("say it")])
    model = MultimodalTransformer(TINY, Vocabulary(modalities), seed=0)
    with torch.no_grad():
        model.categorical["marks"].logits.bias[model.vocabulary.ids["<more>"]] = 1e4
        Engine(model)
        assert modalities["audio"].network is None, "one that was never trained is not used"
        model.codecs["audio"].blocks[0].scale.add_(0.1)
    engine = Engine(model)
    ticket = engine.submit(Request((Message("user", (text("say it"),)),), to="audio", max_tokens=30), stream=True)
    while not ticket.done:
        engine.step()
    pieces = [event.piece.value[0] for event in ticket.events if isinstance(event, BlockDone)]
    whole = ticket.answer.message.parts[0].value[0]
    assert len(pieces) > 3
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_an_example_is_frames_and_the_samples_they_were_made_of():
    modality = registry.build("audio", {"vocoder": 16})
    tone = np.sin(np.arange(40_000) * 0.1).astype(np.float32)
    part = Part("audio", (tone, 16_000))
    inputs, targets = weights.example(modality, part, np.random.default_rng(1))
    assert inputs.shape == (weights.FRAMES, MELS)
    assert len(targets) == (weights.FRAMES - 1) * HOP
    again = modality.normalise(mel.log_mel(targets))
    inner = slice(4, -4)
    assert np.abs(again[inner] - inputs[inner]).mean() < 3 * weights.NOISE
    short, _ = weights.example(modality, Part("audio", (tone[:800], 16_000)), np.random.default_rng(1))
    assert short.shape == inputs.shape, "silence follows a short clip"


def test_the_vocoder_trains_alone_and_comes_back_with_the_checkpoint(tmp_path):
    data = write_rows(tmp_path / "rows", ("text", "audio"))
    audio = SETTINGS["audio"] | {"vocoder": 16}
    settings = {
        "modalities": {"text": SETTINGS["text"], "audio": audio},
        "objective": "codec",
        "trainable": ("codecs.*",),
    }
    start = config(data, ("text", "audio"), **settings | {"steps": 1, "optim": {"lr": 1e-30, "warmup": 1}})
    untouched = train(start, tmp_path / "start", threads=1)
    saved = train(config(data, ("text", "audio"), **settings | {"ema_decay": 0.0}), tmp_path / "run", threads=1)
    before, after = (load_file(folder / checkpoint.WEIGHTS) for folder in (untouched, saved))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("codecs.audio.") for name in moved)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "audio" in log

    model = api.load(saved)
    modality = model.network.vocabulary.modalities["audio"]
    part = modality.example(0)
    network = modality.network
    segment = modality.read(part)
    frames = torch.from_numpy(np.concatenate([block.tokens for block in segment.blocks]).reshape(-1, MELS))
    written = modality.write(segment).value[0]
    np.testing.assert_allclose(written, network(frames[None])[0].clamp(-1, 1).numpy(), atol=1e-5)
    modality.network = None
    assert not np.allclose(written, modality.write(segment).value[0][: len(written)], atol=1e-2), "not Griffin-Lim's"


def test_what_cannot_be_trained_is_refused(tmp_path):
    data = write_rows(tmp_path / "rows", ("text", "audio"))
    with pytest.raises(ConfigError, match="vocoder=256"):
        train(config(data, ("text", "audio"), objective="codec"), tmp_path / "run", threads=1)
    with pytest.raises(ConfigError, match="without alignment"):
        train(config(data, ("text", "audio"), objective="align"), tmp_path / "run", threads=1)
    with pytest.raises(ConfigError, match="whisper_tiny_en_spelled"):
        train(config(data, ("text", "audio"), alignment={"audio": "ctc"}), tmp_path / "run", threads=1)
    with pytest.raises(ConfigError, match="vocoder=-1"):
        registry.build("audio", {"vocoder": -1})
