"""What conversations begin with alike is laid once a sequence, and every row is what it is alone."""

import numpy as np
import pytest
import torch
from worlds import World, templated, text

from plait.contract import Block, Message, Sample, Segment
from plait.data.loader import Loader, PackConfig
from plait.data.pack import PADDING_ROW, SHARED_ROW, collate
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import ConfigError
from plait.model.mask import allowed, allowed_by_definition
from plait.train.objectives.pretrain import Pretrain


@pytest.fixture(scope="module")
def world():
    return templated(World())


def rows_of(world):
    return [world.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(world.samples())]


def test_the_preamble_is_what_comes_before_the_first_words(world):
    written = world.modalities["text"].write
    ids = world.encoder.preamble.ids - world.vocabulary.offsets["text"]
    plain = "".join(written_text(written, number) for number in ids if number > 1)
    assert plain == "system\nYou are here to help.\nuser\n"


def written_text(write, number):
    return write(Segment("text", (Block((), np.array([number])),))).value


def test_rows_share_it_unless_they_begin_in_another_way(world):
    rows = rows_of(world)
    shared = [row.shared for row in rows]
    kinds = [sample.task for sample in world.samples()]
    assert shared[kinds.index("text->text")] == len(world.encoder.preamble)
    assert shared[kinds.index("turns")] == 0, "a system message of its own"
    assert shared[kinds.index("document")] == 0
    nulls = [row.shared for row in rows if world.vocabulary.ids["<null>"] in row.ids]
    assert nulls, "no null row was drawn: the test could not fail"
    assert not any(nulls)


def test_losses_are_those_of_whole_rows(world):
    rows, model = rows_of(world), world.model()
    together = collate([rows[:7], rows[7:]], 900, world.vocabulary, world.encoder.preamble)
    apart = collate([rows[:7], rows[7:]], 900, world.vocabulary)
    assert together.used < apart.used
    assert together.counts == apart.counts
    assert together.clean_tokens < apart.clean_tokens
    sums, expected = Pretrain().sums(model, together), Pretrain().sums(model, apart)
    for group, value in sums.items():
        torch.testing.assert_close(value, expected[group], rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(sum(of.values()), model.tables["text"].weight) for of in (sums, expected)]
    torch.testing.assert_close(*(gradient[0] for gradient in gradients), rtol=1e-3, atol=1e-3)


def test_who_shares_nothing_does_not_notice_it(world):
    rows, model = rows_of(world), world.model()
    batch = collate([rows], 2000, world.vocabulary, world.encoder.preamble)
    before = model.hidden(batch)
    first = batch.row[0] == SHARED_ROW
    for tokens in batch.tables.values():
        tokens.ids = torch.where(first[tokens.index], (tokens.ids + 1) % 3, tokens.ids)
    noticed = (model.hidden(batch) - before).abs().amax(dim=-1) > 1e-5
    assert (noticed == (batch.shares[0] | first)).all()
    assert batch.shares.any()
    assert (~batch.shares[0] & (batch.row[0] > PADDING_ROW)).any()


def test_without_a_template_nothing_is_shared():
    world = World()
    assert world.encoder.preamble is None
    batch = collate([[world.encoder.row(world.samples()[0], np.random.default_rng(0))]], 200, world.vocabulary)
    assert not batch.shares.any()
    assert SHARED_ROW not in batch.row


def test_the_loader_fills_the_room_beside_it(world):
    samples = [sample for sample in world.samples() if sample.task not in ("turns", "document")]
    loader = Loader(samples, {}, world.encoder, PackConfig(length=256, sequences=6), 0)
    for _ in range(3):
        (batch,) = loader.next_step()
        assert batch.fill >= 0.9
        length = len(world.encoder.preamble)
        assert (batch.row[:, :length] == SHARED_ROW).all()
        assert (batch.row[:, length:] != SHARED_ROW).all()


def test_a_document_as_long_as_a_sequence_has_one_to_itself(world):
    document = Sample((Message(None, (text("seven " * 52),)),), "document")
    length = len(world.encoder.row(document, np.random.default_rng(0)))
    samples = [document, *(sample for sample in world.samples() if sample.task == "text->text")]
    loader = Loader(samples, {}, world.encoder, PackConfig(length=length, sequences=2), 0)
    alone = 0
    for _ in range(6):
        (batch,) = loader.next_step()
        for row, shares in zip(batch.row, batch.shares, strict=True):
            if SHARED_ROW not in row and (row >= 0).all():
                alone += 1
                assert not shares.any()
    assert alone
    assert not loader.too_long


def test_sequences_no_longer_than_the_preamble_are_refused(world):
    length = len(world.encoder.preamble)
    with pytest.raises(ConfigError, match=f"pack.length={length}: every conversation begins with {length} tokens"):
        Loader(world.samples(), {}, world.encoder, PackConfig(length=length, sequences=1), 0)


def test_a_row_whose_beginning_is_hidden_shares_nothing(world):
    plain = Message("system", (text("You are here to help."),))
    turns = (plain, Message("user", (text("seven"),)), Message("assistant", (text("yes"),)))
    row = world.encoder.row(Sample(turns, "text->text"), np.random.default_rng(0))
    assert row.shared == len(world.encoder.preamble)
    hiding = Encoder(world.vocabulary, FlowConfig(mask_prob=1.0))
    hidden = [hiding.row(Sample(turns, "text->text"), np.random.default_rng(n)) for n in range(8)]
    begin = slice(len(world.encoder.preamble))
    assert any(row.copy[begin].any() for row in hidden), "nothing was hidden there: the test could not fail"
    assert not any(row.shared for row in hidden if row.copy[begin].any())


def test_the_mask_is_the_rule_read_aloud(world):
    batch = collate([rows_of(world)[:4], rows_of(world)[8:]], 900, world.vocabulary, world.encoder.preamble)
    assert batch.shares.any()
    fast = allowed(batch.row, batch.block, batch.copy, batch.shares)
    for b in range(2):
        tensors = (batch.row, batch.block, batch.copy, batch.shares)
        assert fast[b].tolist() == allowed_by_definition(*(tensor[b].tolist() for tensor in tensors))


def test_a_loader_goes_on_where_another_stopped(world):
    def loader():
        return Loader(world.samples(), {}, world.encoder, PackConfig(length=256, sequences=4), 0)

    whole, first = loader(), loader()
    for _ in range(2):
        whole.next_step()
        first.next_step()
    resumed = loader()
    resumed.load_state(first.state())
    for _ in range(2):
        (expected,), (batch,) = whole.next_step(), resumed.next_step()
        assert torch.equal(batch.ids, expected.ids)
        assert torch.equal(batch.row, expected.row)


def test_a_row_that_fits_no_sequence_is_told_with_its_whole_length(world):
    long = Sample(
        (Message("user", (text("seven " * 300),)), Message("assistant", (text("yes"),))),
        "text->text",
        id="it",
        where="a:1",
    )
    length = len(world.encoder.row(long, np.random.default_rng(0)))
    loader = Loader([long, world.samples()[0]], {}, world.encoder, PackConfig(length=256, sequences=1), 0)
    loader.next_step()
    assert f"takes {length} tokens with its copies; expected at most pack.length=256" in loader.too_long["it"][1]
