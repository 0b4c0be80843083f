"""Properties that hold for every row, packing and grammar, found by search rather than by example."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import TINY, World, rng, text

from plait.contract import Block, Message, Part, Sample, Segment
from plait.data.loader import Loader, PackConfig
from plait.data.mix import Mix
from plait.data.pack import best_fit, collate
from plait.data.sequence import Encoder, FlowConfig
from plait.data.vocabulary import ROLES
from plait.errors import ConfigError, RowError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.modalities.audio import Audio
from plait.model.mask import allowed
from plait.model.multimodal import MultimodalTransformer

WORLD = World()
MODEL = WORLD.model().eval()
parts = st.one_of(
    st.text(max_size=12).map(text),
    st.builds(WORLD.part, st.sampled_from(["image", "audio"]), st.integers(0, 50)),
)
contents = st.lists(parts, min_size=1, max_size=3).map(tuple)
conversations = st.lists(contents, min_size=2, max_size=4).map(
    lambda turns: Sample(tuple(Message(("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns)), "t")
)
documents = contents.map(lambda turn: Sample((Message(None, turn),), "t"))
samples = st.one_of(conversations, documents)
flows = st.builds(
    FlowConfig,
    copies=st.integers(1, 3),
    context_noise_prob=st.sampled_from([0.0, 1.0]),
    end_prob=st.sampled_from([0.0, 1.0]),
)


@given(samples, flows, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_rows_follow_the_layout(sample, flow, seed):
    row = Encoder(WORLD.vocabulary, flow).row(sample, rng(seed))
    clean = row.copy == 0
    assert (row.target[~clean] == -1).all(), "noised copies carry flow loss only"
    assert (row.ids[~clean] == -1).all()
    # positions: one step a token of a block, the same for every copy of it
    for block in np.unique(row.block):
        inside = row.block == block
        positions = {tuple(row.position[inside & (row.copy == copy)]) for copy in np.unique(row.copy[inside])}
        assert len(positions) == 1, "copies of a block stand at different places"
        (places,) = positions
        assert list(places) == list(range(places[0], places[0] + len(places)))
    firsts = [row.position[row.block == block].min() for block in np.unique(row.block)]
    assert sorted(firsts) == firsts
    # a learned block has a clean copy iff something follows it
    assert [span.first for span in row.spans] == list(np.cumsum([0, *(span.count for span in row.spans)])[:-1])
    assert sum(span.count for span in row.spans) == len(row), "every token stems from an element"
    for span in row.spans:
        assert set(row.copy[span.first : span.first + span.count]) == {span.copy}
    last = row.block.max()
    for name in {*row.clean, *row.noised}:
        assert WORLD.modalities[name].head == "flow"
        index = np.concatenate([part[name].index for part in (row.clean, row.noised) if name in part])
        for block in np.unique(row.block[index]):
            copies = set(row.copy[row.block == block])
            learned = max(copies) > 0
            assert (0 in copies) == (block < last or not learned)
            if learned:
                assert copies - {0} == set(range(1, flow.copies + 1))


@given(samples, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_targets_are_the_next_clean_id(sample, seed):
    """Read the clean sequence in order: a target is the id that follows at once, and only assistants are learned."""
    encoder = Encoder(WORLD.vocabulary, FlowConfig(null_prob=0.0))
    row = encoder.row(sample, rng(seed))
    roles = {WORLD.vocabulary.ids[name] for name in ROLES.values()}
    speaking = {WORLD.vocabulary.ids[ROLES[role]] for role in ("assistant", None)}
    # a token is learned if the last role mark at or before its position is the assistant's or a document's, and it is no mark
    marks = sorted((row.position[i], row.ids[i]) for i in range(len(row)) if row.ids[i] in roles)
    learned = [
        [mark for place, mark in marks if place <= row.position[i]][-1] in speaking and row.ids[i] not in roles
        for i in range(len(row))
    ]
    order = np.argsort(np.where(row.copy == 0, row.position, 10**6), kind="stable")[: int((row.copy == 0).sum())]
    ids = row.ids[order]
    for here, at in enumerate(order):
        follows = here + 1 < len(order) and row.position[order[here + 1]] == row.position[at] + 1
        wanted = ids[here + 1] if follows and learned[order[here + 1]] and ids[here + 1] >= 0 else -1
        assert row.target[at] == wanted


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 5))
def test_best_fit_places_each_item_once(lengths, bins, first):
    contents, left = best_fit(lengths, bins, 40, first)
    assert sorted([i for chosen in contents for i in chosen] + left) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in chosen) <= 40 for chosen in contents)
    if any(index < first for index in left):  # an early item may only be left where early items took its place
        assert all(
            sum(lengths[i] for i in chosen if i < first) + min(lengths[i] for i in left if i < first) > 40
            for chosen in contents
        )
    for index in left:
        if index >= first:
            assert all(sum(lengths[i] for i in chosen) + lengths[index] > 40 for chosen in contents)


@given(st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_packing_fills_nine_tenths(seed):
    loader = Loader(WORLD.samples(), {}, WORLD.encoder, PackConfig(length=256, sequences=8), seed)
    fills = [loader.next_step()[0].fill for _ in range(4)]
    assert min(fills) >= 0.9


def moved(batch, change):
    """Which hidden states move when the inputs of the tokens in `change` (flat places) do."""
    before = MODEL.hidden(batch)
    for tokens in (*batch.clean.values(), *batch.noised.values()):
        hit = torch.isin(tokens.index, change)
        tokens.inputs = torch.where(hit[:, None], tokens.inputs + 3.0, tokens.inputs)
    for name, tokens in batch.tables.items():
        hit = torch.isin(tokens.index, change)
        tokens.ids = torch.where(hit, (tokens.ids + 1) % WORLD.vocabulary.tables[name], tokens.ids)
    return ((MODEL.hidden(batch) - before).abs().amax(dim=-1) > 1e-5).numpy()


@given(st.lists(samples, min_size=2, max_size=3), st.integers(0, 9), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_nothing_leaks(rows, seed, pick):
    """Change one block of one copy: nothing earlier, in another row, or in another copy's block may notice."""
    encoded = [WORLD.encoder.row(sample, rng(seed + i)) for i, sample in enumerate(rows)]
    batch = collate([encoded], sum(map(len, encoded)) + 3, WORLD.vocabulary)
    row, block, copy = (getattr(batch, name)[0].numpy() for name in ("row", "block", "copy"))
    at = pick % int((row >= 0).sum())
    same_block = (row == row[at]) & (block == block[at]) & (copy == copy[at])
    noticed = moved(batch, torch.from_numpy(np.flatnonzero(same_block)))
    may = (row == row[at]) & (((block > block[at]) & (copy[at] == 0)) | same_block)
    assert not (noticed & ~may).any()
    assert noticed[same_block].any(), "the change itself was not seen: the test could not fail"


@given(st.integers(0, 10_000), st.sampled_from([None, "text", "image", "audio"]), st.floats(0, 2))
@example(0, None, 5e-324)
@settings(max_examples=25, deadline=None)
def test_generation_keeps_the_grammar(seed, to, temperature):
    """Whatever an untrained model wants, what comes out reads as legal segments, and its parts read back."""
    request = Request(
        (Message("user", (text("go"),)),), to=to, seed=seed, steps=1, temperature=temperature, max_tokens=20
    )
    answer = Engine(MODEL).generate([request])[0]
    for segment in answer.segments:
        modality = WORLD.modalities[segment.modality]
        for number, block in enumerate(segment.blocks):
            if modality.head == "flow":
                start = 1 if number == 0 else 0
                for at in range(start, len(block.header)):
                    assert block.header[at] in modality.expects(block.header[:at], {})
                assert len(block.tokens) == modality.block_len(block.header)
            else:
                assert ((block.tokens >= 0) & (block.tokens < modality.token_width)).all()
    assert len(answer.message.parts) == len(answer.segments)


@pytest.mark.parametrize(("seconds", "frames", "block"), [(8.0, 8, 8), (0.3, 4, 8), (0.05, 8, 4), (1.28, 4, 8)])
def test_sound_without_end_is_as_long_as_the_modality_reads(seconds, frames, block):
    audio = Audio(frames=frames, block=block, max_seconds=seconds)
    made = []
    while not made or not audio.ends(made[-1].header):
        following = audio.expects((), {"blocks": len(made)})
        name = following[0] if len(following) > 1 and "<last" not in following[0] else following[-1]  # on, while it may
        made.append(Block((name,), np.zeros((audio.block_len((name,)), audio.token_width), np.float32)))
    count = sum(len(one.tokens) for one in made)
    assert count == max(1, int(seconds * 100 / frames + 1e-6))
    if count > 1:
        assert len(audio.read(audio.write(Segment("audio", tuple(made)))).blocks) == len(made)


def test_a_row_too_long_is_named():
    long = WORLD.sample([text("x" * 400)], [text("y")], "long-task")
    with pytest.raises(RowError, match=r"long-task.*pack.length=64"):
        Loader([long], {}, WORLD.encoder, PackConfig(length=64, sequences=1), 0).next_step()


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 5), min_size=1), st.integers(0, 2000))
@settings(deadline=None)
def test_mix_keeps_its_shares_and_seeks(weights, draws):
    data = [Sample((Message("user", (text(f"{task}{i}"),)),), task) for task in weights for i in range(7)]
    walked, jumped = Mix(data, weights, 3), Mix(data, weights, 3)
    counts = dict.fromkeys(weights, 0)
    for _ in range(draws):
        counts[next(walked)[1].task] += 1
    jumped.seek(draws)
    assert next(walked) == next(jumped)
    total = sum(weights.values())
    for task, count in counts.items():
        assert abs(count - draws * weights[task] / total) <= 12


def test_mix_refuses_weights_without_rows():
    with pytest.raises(ConfigError, match="nonsense"):
        Mix(WORLD.samples(), {"nonsense": 1.0}, 0)


def test_every_epoch_sees_every_sample_once():
    data = [Sample((Message("user", (text(str(i)),)),), "t") for i in range(10)]
    mix = Mix(data, {}, 0)
    for _ in range(3):
        assert sorted(next(mix)[1].messages[0].parts[0].value for _ in range(10)) == sorted(map(str, range(10)))


def test_null_rows_hold_the_null_and_one_segment():
    encoder = Encoder(WORLD.vocabulary, FlowConfig(null_prob=0.999))
    sample = WORLD.sample([text("secret")], [Part("image", np.zeros((8, 8), np.uint8))])
    row = encoder.row(sample, rng(1))
    names = [WORLD.vocabulary.names[i] for i in row.ids if i >= 0]
    assert names == ["<null>", "<open:image>", "<rows:2>", "<cols:2>"]
    assert (row.target == -1).all()


def test_same_seed_same_weights():
    a, b, c = (MultimodalTransformer(TINY, WORLD.vocabulary, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_padding_attends_to_padding_alone():
    row = WORLD.encoder.row(WORLD.samples()[0], rng())
    batch = collate([[row]], len(row) + 5, WORLD.vocabulary)
    mask = allowed(batch.row, batch.block, batch.copy)[0]
    assert not mask[: len(row), len(row) :].any()
    assert not mask[len(row) :, : len(row)].any()
    assert mask[len(row) :, len(row) :].all()
