"""Sound beside its codec: chains of blocks, levels, what a judge hears, pages and terminals, one sample included."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch

from plait import registry
from plait.contract import Part
from plait.errors import ConfigError, RowError
from plait.modalities.audio import Audio
from plait.modalities.audio.codec import LEVEL, PEAK, level, rms
from plait.modalities.audio.mel import FLOOR, HOP, MELS, RATE, log_mel
from plait.modalities.audio.render import spectrogram

AUGMENTS, MEASURES, JUDGED = registry.augments("audio"), registry.measures("audio"), registry.judged("audio")
RENDERS, SUGGESTS = registry.renders("audio"), registry.suggests("audio")
OPEN = "<open:audio>"


def part(samples, rate=RATE):
    return Part("audio", (np.asarray(samples, np.float32), rate))


def tone(seconds, hertz=440.0, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def frames_of(segment):
    return np.concatenate([block.tokens for block in segment.blocks]).reshape(-1, MELS)


@pytest.mark.parametrize(
    ("tokens", "headers"),
    [
        (1, [(OPEN, "<last:1>")]),
        (4, [(OPEN, "<last:4>")]),
        (5, [(OPEN, "<more>"), ("<last:1>",)]),
        (12, [(OPEN, "<more>"), ("<more>",), ("<last:4>",)]),
    ],
)
def test_a_clip_is_a_chain_whose_last_block_says_so(tokens, headers):
    audio = Audio(frames=2, block=4)
    segment = audio.chain(np.zeros((tokens, audio.token_width), np.float32))
    assert [block.header for block in segment.blocks] == headers
    assert [len(block.tokens) for block in segment.blocks] == [audio.block_len(header) for header in headers]
    assert [audio.ends(header) for header in headers] == [False] * (len(headers) - 1) + [True]


def test_no_longer_chain_is_begun_than_may_be_read():
    """1 s are 25 tokens of 40 ms: after three blocks of 8 one token is left, and then none may follow but the last."""
    audio = Audio(frames=4, block=8, max_seconds=1.0)
    assert audio.expects((OPEN,), {})[0] == "<more>"
    assert audio.expects((), {"blocks": 2}) == ("<more>", *(f"<last:{k}>" for k in range(1, 9)))
    assert audio.expects((), {"blocks": 3}) == ("<last:1>",)
    assert audio.expects((), {"blocks": 9}) == ("<last:1>",)
    assert audio.expects((OPEN, "<more>"), {}) == ()


def test_the_last_token_is_filled_with_silence():
    audio = Audio(frames=4, block=8)
    samples = tone(0.05)  # 6 frames: 1 + 800 / 160
    frames = audio.denormalise(frames_of(audio.read(part(samples))))
    assert frames.shape == (8, MELS)
    np.testing.assert_allclose(frames[:6], log_mel(level(samples.astype(np.float32))), atol=1e-4)
    np.testing.assert_allclose(frames[6:], np.log(FLOOR), atol=1e-4)


def test_a_mel_that_was_kept_is_read_as_it_is():
    """It does not survive the waveform, so a conversation keeps it."""
    audio = Audio(frames=2, block=4)
    written = audio.write(audio.read(part(tone(0.3))))
    kept = frames_of(audio.read(written))
    np.testing.assert_allclose(audio.denormalise(kept), written.options["mel"], atol=1e-4)
    heard = frames_of(audio.read(Part("audio", written.value)))
    assert np.abs(heard[: len(kept)] - kept[: len(heard)]).max() > 0.05, (
        "the waveform keeps it: the test could not fail"
    )


@pytest.mark.parametrize("gain", [1e-4, 0.1, 1.0, 30.0])
def test_clips_are_brought_to_one_level(gain):
    samples = Audio().samples(part(gain * tone(0.2)))
    assert rms(samples) == pytest.approx(LEVEL, rel=1e-3)


def test_a_peak_bounds_the_level():
    click = np.zeros(16_000)
    click[100] = 0.5
    samples = Audio().samples(part(click))
    assert np.abs(samples).max() == pytest.approx(PEAK, rel=1e-5)
    assert rms(samples) < LEVEL


def test_what_is_too_soft_to_hear_stays():
    hush = np.full(1600, 5e-7, np.float32)
    np.testing.assert_array_equal(level(hush), hush)
    assert rms(np.zeros(0)) == 0.0


def test_one_sample_goes_all_the_way(tmp_path):
    audio, click = Audio(), part([0.5])
    segment = audio.read(click)
    assert [block.header for block in segment.blocks] == [(OPEN, "<last:1>")]
    for seed in range(9):
        noisy = Audio(noise=1.0, room=1.0)
        varied = AUGMENTS.augment(noisy, segment, np.random.default_rng(seed))
        assert varied.blocks[0].tokens.shape == (1, audio.token_width)
        assert np.isfinite(varied.blocks[0].tokens).all()
    assert RENDERS.terminal(click, 40, None) == "█ 0.00 s"
    assert "<audio" in RENDERS.html(click)
    assert soundfile.info(RENDERS.save(click, tmp_path, "click")).frames == 1
    assert MEASURES.features(audio, click).shape == (480,)
    assert MEASURES.distances(audio, click, click) == {"log_mel_mae": 0.0, "frames": 0.0}
    assert MEASURES.facts(click) == {"seconds": 0.0}
    assert JUDGED.judge_view(audio, [click]).view(click).shape == (1, 32, 30)


@pytest.mark.parametrize(
    ("kept", "named"),
    [
        ("junk", "got str as mel"),
        (np.zeros((0, MELS)), r"shape \(0, 80\)"),
        (np.zeros((3, 79)), r"shape \(3, 79\)"),
        (np.zeros(MELS), r"shape \(80,\)"),
        (np.full((2, MELS), np.nan), "not finite"),
    ],
)
def test_a_mel_that_is_none_is_refused(kept, named):
    with pytest.raises(RowError, match=named):
        Audio().read(Part("audio", (tone(0.1), RATE), {"mel": kept}))


def test_statistics_are_those_of_the_frames():
    clips = [part(tone(0.2)), part(tone(0.4, 900))]
    audio = Audio()
    audio.fit(clips)
    frames = np.concatenate([log_mel(audio.samples(clip)) for clip in clips])
    np.testing.assert_allclose(audio.mean, frames.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(audio.std, frames.std(axis=0), atol=1e-5)
    read = np.concatenate([audio.normalise(log_mel(audio.samples(clip))) for clip in clips])
    np.testing.assert_allclose(read.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(read.std(axis=0), 1, atol=1e-3)


def test_statistics_of_silence_divide_by_no_zero():
    audio = Audio()
    audio.fit([part(np.zeros(3200))])
    assert audio.std.min() >= 0.01
    assert np.isfinite(frames_of(audio.read(part(tone(0.1))))).all()


def test_the_distance_is_that_of_the_frames_both_have():
    audio = Audio()
    long, short = part(tone(0.4)), part(tone(0.2))
    assert MEASURES.distances(audio, long, short)["frames"] == 20.0
    assert MEASURES.distances(audio, short, long)["frames"] == -20.0
    assert MEASURES.distances(audio, part(tone(0.2, 2000)), short)["log_mel_mae"] > 0.5
    a, b = (log_mel(audio.samples(clip)) for clip in (long, short))
    expected = np.abs(a[: len(b)] - b).mean()
    assert MEASURES.distances(audio, long, short)["log_mel_mae"] == pytest.approx(float(expected), rel=1e-5)


def test_features_are_quarters_and_the_whole():
    clip = part(np.concatenate([tone(0.4), np.zeros(6400)]))
    features = MEASURES.features(Audio(), clip).reshape(6, MELS)
    frames = log_mel(Audio().samples(clip))
    np.testing.assert_allclose(features[4], frames.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(features[5], frames.std(axis=0), atol=1e-4)
    assert features[0].mean() > features[3].mean() + 1, "the second half is silent"
    assert not MEASURES.features_are_alike()


def test_features_hear_clips_of_any_length():
    """The model's limit is its own."""
    assert MEASURES.features(Audio(max_seconds=0.1), part(tone(0.5))).shape == (480,)


def test_a_blank_is_half_a_second_whatever_the_clip():
    blanks = [MEASURES.blank(Audio(), part(tone(seconds))) for seconds in (0.1, 2.0)]
    for blank in blanks:
        samples, rate = blank.value
        assert (len(samples), rate) == (8000, 16_000)
        assert not samples.any()


def test_facts_are_read_from_the_header(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(12_345), 8000)
    data = path.read_bytes()
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    for value in (str(path), path, data, (np.zeros(12_345), 8000)):
        assert MEASURES.facts(Part("audio", value)) == {"seconds": 1.54}


@pytest.mark.parametrize(("seconds", "frames"), [(0.05, 30), (0.8, 80), (9.0, 300)])
def test_a_judge_hears_as_much_as_clips_are_long(seconds, frames):
    view = JUDGED.judge_view(Audio(), [part(tone(seconds))] * 3)
    for clip in (part(tone(0.02)), part(tone(1.0)), part(tone(4.0))):
        heard = view.view(clip)
        assert heard.shape == (1, 32, frames)
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()


def test_a_judge_hears_high_above_low():
    """Linear bands of 250 Hz: the loudest of a tone is the one that it is in."""
    view = JUDGED.judge_view(Audio(), [part(tone(0.5))])
    assert [int(view.view(part(tone(0.5, hertz)))[0].mean(axis=1).argmax()) for hertz in (400, 2100, 7100)] == [
        1,
        8,
        28,
    ]


def test_a_judge_s_looks_are_drawn_from_its_generator():
    view = JUDGED.judge_view(Audio(), [part(tone(0.5))])
    batch = torch.zeros(5, 1, 32, 50)
    batch[..., 20:24] = 1.0
    looks = [view.augment(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[0], looks[2])
    assert looks[0].shape == batch.shape
    moved = {int(view.augment(batch, torch.Generator().manual_seed(s)).mean(dim=(0, 1, 2)).argmax()) for s in range(20)}
    assert len(moved) > 6, "nothing is moved in time"
    assert min(moved) >= 20 - 6
    assert max(moved) <= 23 + 6


def test_a_round_trip_is_what_the_codec_gives_back():
    view = JUDGED.judge_view(Audio(max_seconds=0.1), [part(tone(0.5))])
    samples, rate = view.round_trip(part(tone(0.5))).value
    assert rate == RATE
    assert abs(len(samples) - 8000) < 4 * HOP
    spectrum = np.abs(np.fft.rfft(samples[:6400]))
    assert abs(spectrum.argmax() * RATE / 6400 - 440) < 10


def test_every_clip_has_the_same_suggestion():
    assert SUGGESTS.suggest(Audio(), [part(tone(0.1))]) == SUGGESTS.suggest(Audio(), [part(tone(3.0))])
    assert Audio(**SUGGESTS.suggest(Audio(), [])).token_width == 8 * MELS


def test_loudness_over_time_is_a_line_of_bars():
    rising = part(np.linspace(0, 1, 8000) * tone(0.5))
    line = RENDERS.terminal(rising, 8, None)
    assert line.endswith(" 0.50 s")
    bars = line.split(" ")[0]
    assert len(bars) == 8
    assert bars == "".join(sorted(bars)), "louder to the right"
    assert bars[-1] == "█"
    assert len(RENDERS.terminal(rising, 500, None).split(" ")[0]) == 40
    assert RENDERS.terminal(part(np.zeros(100)), 4, None) == "▁▁▁▁ 0.01 s"


def test_a_clip_on_a_page_can_be_played():
    page = RENDERS.html(part(tone(0.3)))
    kind, data = re.search(r'<audio controls preload="none" src="data:([^;]+);base64,([^"]+)"', page).groups()
    assert kind == "audio/mpeg"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == RATE
    assert abs(len(samples) - 4800) < 2400  # MP3 pads
    assert 'alt="spectrogram"' in page


def test_low_frequencies_lie_at_the_bottom():
    pictures = [np.asarray(spectrogram(tone(0.3, hertz).astype(np.float32)), int) for hertz in (200, 4000)]
    darkest = [int(picture.sum(axis=1).argmin()) for picture in pictures]
    assert pictures[0].shape == (MELS, 31)
    assert darkest[0] > darkest[1] + 20


def test_what_was_made_here_is_saved_as_it_is(tmp_path):
    samples = tone(0.1, rate=8000).astype(np.float32)
    path = RENDERS.save(part(samples, 8000), tmp_path, "made")
    assert path.name == "made.wav"
    read, rate = soundfile.read(path, dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(read, samples, atol=1 / 32_000)
    again = RENDERS.save(Part("audio", path.read_bytes()), tmp_path, "again")
    assert soundfile.info(again).samplerate == RATE


def test_only_samples_with_a_rate_are_taken_for_sound():
    assert RENDERS.accepts((np.zeros(3), 16_000))
    assert not any(RENDERS.accepts(value) for value in ("a.wav", np.zeros(3), (1, 2), (np.zeros(3),), None))


def test_a_segment_of_one_frame_keeps_its_mel_and_is_read_again():
    audio = Audio(frames=1, block=4)
    written = audio.write(audio.read(part([0.5])))
    assert written.options["mel"].shape == (1, MELS)
    assert len(audio.read(written).blocks) == 1


@pytest.mark.parametrize(
    "settings",
    [{"frames": 0}, {"block": 0}, {"max_seconds": 0}, {"pitch": -1}, {"noise": 1.1}, {"room": -0.1}],
)
def test_impossible_settings_say_what_is_possible(settings):
    with pytest.raises(ConfigError, match="expected"):
        Audio(**settings)


def test_what_an_answer_computed_first_serves_a_loss():
    """Tensors that are made in inference mode cannot be saved for a backward pass; filters are made once."""
    from plait.modalities.audio import mel, vocoder

    mel.filterbank.cache_clear()
    with torch.inference_mode():
        mel.log_mel(np.zeros(4000, np.float32))
    made = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0), requires_grad=True)
    vocoder.loss(made, torch.zeros(1, 4096)).sum().backward()
    assert made.grad is not None
