"""Figures for Prometheus: how much is asked and waits, how fast answers come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric

if TYPE_CHECKING:
    from plait.serve.state import Served

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 120)


class _OfEngines:
    """What the engines know of themselves, read when it is asked for."""

    def __init__(self, served: Mapping[str, Served]) -> None:
        self.served = served

    def collect(self) -> Iterator[Metric]:
        """One family a figure, a sample a model."""
        gauge, counter = "gauge", "counter"
        figures: tuple[tuple[str, str, str, Callable[[Served], float]], ...] = (
            ("plait_requests_active", gauge, "Requests that are being answered", lambda s: len(s.model.engine.active)),
            ("plait_requests_waiting", gauge, "Requests that wait for room", lambda s: len(s.model.engine.waiting)),
            ("plait_requests_outstanding", gauge, "Requests that have no answer yet", lambda s: s.worker.outstanding),
            ("plait_engine_steps", counter, "Packed forward passes", lambda s: s.model.engine.steps_taken),
            ("plait_engine_tokens", counter, "Tokens through the trunk", lambda s: s.model.engine.tokens_computed),
        )
        for name, kind, what, value in figures:
            family = Metric(name, what, kind)
            for served in self.served.values():
                family.add_sample(name + ("_total" if kind == counter else ""), {"model": served.name}, value(served))
            yield family


class Metrics:
    """Counters and times of one server."""

    def __init__(self, served: Mapping[str, Served]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_OfEngines(served))
        self.requests = Counter(
            "plait_requests", "Requests by how they ended", ("path", "status"), registry=self.registry
        )
        self.tokens = Counter(
            "plait_tokens", "Tokens of questions and answers", ("model", "side", "modality"), registry=self.registry
        )
        self.first_words = self._seconds("plait_first_words_seconds", "Until the first words")
        self.first_piece = self._seconds("plait_first_piece_seconds", "Until the first piece of a medium")
        self.whole = self._seconds("plait_answer_seconds", "Until the whole answer")

    def _seconds(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, ("model",), registry=self.registry, buckets=SECONDS)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
