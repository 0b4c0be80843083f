"""Every registered modality inherits this suite; a new folder under plait/modalities needs no test of its own to be held to it."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

from plait import registry
from plait.contract import Modality, Part
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError, PlaitError

SEEDS = range(6)


@pytest.fixture(params=registry.available())
def modality(request):
    made = registry.build(request.param)
    made.fit([made.example(seed) for seed in SEEDS])
    return made


def blocks(modality, seeds=SEEDS):
    return [block for seed in seeds for block in modality.read(modality.example(seed)).blocks]


def test_follows_the_protocol(modality):
    assert isinstance(modality, Modality)
    assert modality.head in ("categorical", "flow")
    assert modality.token_width >= 1


def test_reads_tokens_of_its_width(modality):
    for block in blocks(modality):
        if modality.head == "flow":
            assert block.tokens.dtype == np.float32
            assert block.tokens.shape == (modality.block_len(block.header), modality.token_width)
            assert np.isfinite(block.tokens).all()
        else:
            assert block.tokens.dtype == np.int64
            assert ((block.tokens >= 0) & (block.tokens < modality.token_width)).all()


def test_headers_are_what_expects_allows(modality):
    if modality.head == "categorical":
        assert modality.expects((), {}) == ()
        return
    names = set(modality.grammar())
    for seed in SEEDS:
        segment = modality.read(modality.example(seed))
        for number, block in enumerate(segment.blocks):
            start = 1 if number == 0 else 0
            assert number or block.header[0] == modality.grammar()[0]
            for at in range(start, len(block.header)):
                assert block.header[at] in modality.expects(block.header[:at], {})
            assert tuple(modality.expects(block.header, {})) == ()
            assert set(block.header) <= names
            assert modality.ends(block.header) == (number == len(segment.blocks) - 1)


def test_coordinates_have_one_row_a_token(modality):
    if modality.head == "categorical":
        return
    shapes = {modality.coordinates(block.header).shape[1] for block in blocks(modality)}
    assert len(shapes) == 1
    for block in blocks(modality):
        places = modality.coordinates(block.header)
        assert len(places) == modality.block_len(block.header)
        assert len(np.unique(places, axis=0)) == len(places), "two tokens of a block stand at the same place"


def test_embeds_to_the_width_asked_for(modality):
    if modality.head == "categorical":
        return
    block = blocks(modality)[0]
    embed = modality.embedder(32)
    places = torch.from_numpy(modality.coordinates(block.header))
    tokens = torch.from_numpy(block.tokens)
    made = embed(tokens, places, torch.full((len(tokens),), 0.5))
    assert made.shape == (len(tokens), 32)
    assert not torch.allclose(made, embed(tokens, places, torch.ones(len(tokens)))), "the time is not told"


def test_written_parts_read_back(modality):
    for seed in SEEDS:
        segment = modality.read(modality.example(seed))
        part = modality.write(segment)
        assert isinstance(part, Part)
        assert part.type == modality.name
        again = modality.read(part)
        assert [block.header for block in again.blocks] == [block.header for block in segment.blocks]
        for a, b in zip(segment.blocks, again.blocks, strict=True):
            np.testing.assert_allclose(modality.canonical(a.tokens), b.tokens, atol=1e-4)


def test_canonical_is_a_projection(modality):
    for block in blocks(modality):
        noisy = block.tokens if modality.head == "categorical" else block.tokens * 1.5
        once = modality.canonical(noisy)
        np.testing.assert_array_equal(modality.canonical(once), once)


def test_state_is_json_and_rebuilds_it(modality):
    state = json.loads(json.dumps(modality.state()))
    again = registry.build(modality.name, state)
    for seed in SEEDS:
        for a, b in zip(
            modality.read(modality.example(seed)).blocks, again.read(again.example(seed)).blocks, strict=True
        ):
            assert a.header == b.header
            np.testing.assert_array_equal(a.tokens, b.tokens)


def test_distances_tell_parts_apart(modality):
    measures = registry.measures(modality.name)
    if measures is None:
        pytest.skip("has no measure.py")
    part, other = modality.example(1), modality.example(2)
    same, apart = (measures.distances(modality, part, reference) for reference in (part, other))
    assert same, "at least one distance"
    assert set(same.values()) == {0.0}
    assert apart != same


def test_features_and_blanks_are_like_their_parts(modality):
    measures = registry.measures(modality.name)
    if measures is None:
        pytest.skip("has no measure.py")
    features = [measures.features(modality, modality.example(seed)) for seed in SEEDS]
    assert {f.shape for f in features} == {features[0].shape}
    assert features[0].ndim == 1
    assert not np.array_equal(features[0], features[1])
    blanks = [measures.blank(modality, modality.example(seed)) for seed in SEEDS]
    assert {blank.type for blank in blanks} == {modality.name}
    for seed, blank in zip(SEEDS, blanks, strict=True):
        modality.read(blank)
        part = modality.example(seed)
        assert any(measures.distances(modality, blank, part).values()), "nothing is as near as the thing itself"
    for value in (value for seed in SEEDS for value in measures.facts(modality.example(seed)).values()):
        assert isinstance(value, str | float)


def test_augmented_parts_are_of_the_modality(modality):
    """The same seed gives the same, headers stay true, and nothing leaves what the model can take."""
    module = registry.augments(modality.name)
    if module is None:
        pytest.skip("has no augment.py")
    for seed in SEEDS:
        segment = modality.read(modality.example(seed))
        varied, again = (module.augment(modality, segment, np.random.default_rng(seed)) for _ in range(2))
        assert varied.modality == modality.name
        for a, b in zip(varied.blocks, again.blocks, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
        for number, block in enumerate(varied.blocks if modality.head == "flow" else ()):
            assert block.tokens.shape == (modality.block_len(block.header), modality.token_width)
            assert block.tokens.dtype == np.float32
            assert np.isfinite(block.tokens).all()
            assert modality.ends(block.header) == (number == len(varied.blocks) - 1)


def test_suggested_settings_make_a_modality_that_reads_the_data(modality):
    module = registry.suggests(modality.name)
    if module is None:
        pytest.skip("has no suggest.py")
    parts = [modality.example(seed) for seed in SEEDS]
    suggested = registry.build(modality.name, module.suggest(modality, parts))
    suggested.fit(parts)
    for part in parts:
        assert suggested.read(part).blocks


def test_parts_are_shown_and_saved(modality, tmp_path):
    """On a page, in a terminal, and in a file that reads back; values of Python are recognised."""
    renders = registry.renders(modality.name)
    if renders is None:
        pytest.skip("has no render.py")
    for seed in SEEDS:
        part = modality.write(modality.read(modality.example(seed)))
        assert registry.kind_of(part.value) == modality.name
        assert str(renders.html(part)).startswith("<")
        for protocol in (None, "kitty", "iterm"):
            assert renders.terminal(part, 40, protocol)
        path = renders.save(part, tmp_path, f"part-{seed}")
        if path is not None:
            assert registry.kind_of_file(path.suffix) == modality.name
            modality.read(Part(modality.name, str(path)))
    assert renders.verb().isalpha()


def test_markup_in_a_part_is_no_markup_on_a_page(modality):
    renders = registry.renders(modality.name)
    if renders is None or modality.head == "flow":
        pytest.skip("is not written in words")
    assert "<script>" not in renders.html(Part(modality.name, "<script>alert(1)</script>"))


def test_bad_values_are_errors_that_say_what_was_got(modality):
    with pytest.raises(PlaitError, match="expected"):
        modality.read(Part(modality.name, object()))


def test_unknown_settings_are_errors(modality):
    with pytest.raises(ConfigError, match="nonsense"):
        registry.build(modality.name, {"nonsense": 1})


def test_grammar_names_are_unique_in_the_vocabulary(modality):
    vocabulary = Vocabulary({modality.name: modality})
    assert len(set(modality.grammar())) == len(modality.grammar())  # the vocabulary itself would hide a repeated name
    for name in modality.grammar():
        assert vocabulary.names[vocabulary.ids[name]] == name


def test_distance_to_a_transparent_picture_is_to_what_the_model_sees():
    from PIL import Image as Pictures

    from plait.contract import Part
    from plait.modalities.image import Image

    reference = Pictures.new("RGBA", (8, 8), (0, 0, 0, 0))
    image = Image(patch=8, channels=3, max_patches=1)
    seen = image.write(image.read(Part("image", reference)))
    assert registry.measures("image").distances(image, seen, Part("image", reference)) == {"mse": 0.0}


ANYTHING = (None, 7, b"", b"no medium", "", "nowhere.xyz", [], [[1, 2, 3]], {})
REFUSED = {  # what can be opened and is no part all the same: (value, options)
    "audio": [
        ((np.zeros(0), 16_000), {}), ((np.zeros(40 * 16_000), 16_000), {}), ((np.array([0.0, np.nan]), 16_000), {}),
        ((np.zeros(99), 0), {}), *((b"", {"mel": mel}) for mel in ("junk", [], [[1, 2]], False, np.full((2, 80), np.inf))),
    ],
    "image": [
        (PIL.Image.new("RGB", (0, 9)), {}), (PIL.Image.new("L", (200_000, 1)), {}), (np.zeros((2, 2, 7), np.uint8), {}),
    ],
}  # fmt: skip


def test_a_check_refuses_what_reading_refuses(modality):
    """And nothing else: examples pass."""

    def said(work, part):
        try:
            work(part)
        except PlaitError as error:
            return str(error)
        return ""

    for value, options in (*((value, {}) for value in ANYTHING), *REFUSED.get(modality.name, ())):
        part = Part(modality.name, value, options)
        assert said(modality.check, part) == said(modality.read, part)
    for value, options in REFUSED.get(modality.name, ()):
        assert said(modality.check, Part(modality.name, value, options)), f"{value} {options}"
    for seed in SEEDS:
        modality.check(modality.example(seed))
        modality.check(modality.write(modality.read(modality.example(seed))))


def test_regions_cover_a_part_and_can_be_left_out(modality):
    """Every token has a place, pieces can be pointed at, and a part without some is one that is read as long as before."""
    regions = registry.regions(modality.name)
    if regions is None:
        return
    for seed in SEEDS:
        part = modality.example(seed)
        segment = modality.read(part)
        located = regions.of_tokens(modality, segment)
        assert len(located) == sum(len(block.tokens) for block in segment.blocks)
        pieces = regions.pieces(modality, part)
        assert pieces
        [name] = {name for region in [*located, *pieces] for name in region}
        ends = [max(region[name][len(region[name]) // 2 :]) for region in (located[-1], pieces[-1])]
        assert ends[0] == pytest.approx(ends[1], rel=0.2), "tokens and pieces end where the part does"
        same = modality.read(regions.without(modality, part, ()))
        bare = modality.read(regions.without(modality, part, range(len(pieces))))
        np.testing.assert_allclose(same.blocks[0].tokens, segment.blocks[0].tokens, atol=2e-2)
        if modality.head == "flow":
            assert [block.header for block in bare.blocks] == [block.header for block in segment.blocks]
        assert not np.array_equal(bare.blocks[0].tokens, segment.blocks[0].tokens)
