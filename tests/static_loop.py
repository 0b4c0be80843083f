"""The engine's slow twin: one request after the other, everything computed anew for every step, nothing kept.

No cache, no packing, no batches: the whole sequence goes through the model as in training. Guidance and Euler's method are
written as the papers have them, on velocities.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from plait.data.pack import collate
from plait.data.row import FlowBlock, lay_out_clean
from plait.infer.decoder import Decoder, Draw, Feed


@torch.inference_mode()
def hidden_states(model, elements):
    """[T, D] of a sequence of elements."""
    row = lay_out_clean(elements)
    return model.hidden(collate([[row]], len(row), model.vocabulary))


def predicted(model, context, draw, z, t, bare=False):
    """[n, W] clean tokens that the model sees in `z` at time `t` after `context`."""
    coordinates = draw.bare if bare else draw.coordinates
    block = FlowBlock(draw.modality, z, coordinates, False, t, draw.expert)
    hidden = hidden_states(model, [*context, block])[-len(z) :]
    with torch.inference_mode():
        times = torch.full((len(z),), float(np.float32(t)))
        expected = model.expected(draw.modality, torch.from_numpy(coordinates))
        return model.flows[draw.modality](hidden, torch.from_numpy(z), times, expected).numpy()


def integrate(model, context, null, draw, request):
    """Euler's method from noise to data."""
    z = draw.noise
    times = model.flows[draw.modality].times(request.steps)
    for t, following in itertools.pairwise(times):
        velocity = (predicted(model, context, draw, z, t) - z) / (1.0 - t)
        if draw.guided:
            v_null = (predicted(model, null, draw, z, t, bare=True) - z) / (1.0 - t)
            velocity = v_null + request.guidance * (velocity - v_null)
        z = (z + (following - t) * velocity).astype(np.float32)
    return z


def choose(model, context, legal, ordered):
    """The likeliest legal id after `context`, or where they are `ordered`, the first by which half of the likelihood is reached."""
    with torch.inference_mode():
        logits = model.logits(hidden_states(model, context)[-1:])[0].numpy()[legal].astype(np.float64)
    if not ordered:
        return int(legal[int(logits.argmax())])
    shares, number, reached = np.exp(logits) / np.exp(logits).sum(), 0, 0.0
    while (reached := reached + shares[number]) < 0.5:
        number += 1
    return int(legal[number])


def answer(model, encoder, request):
    """The decoder of a request, run to its end."""
    assert request.temperature == 0, "chances are the sampler's own tests"
    decoder = Decoder(request, encoder)
    steps = decoder.run()
    context, null = [], []
    result = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration:
            return decoder
        if isinstance(step, Draw):
            result = integrate(model, context, null, step, request)
            continue
        assert isinstance(step, Feed)
        context += step.elements
        null = [*([] if step.restart_null else null), *step.null]
        result = None if step.legal is None else choose(model, context, step.legal, step.ordered)
