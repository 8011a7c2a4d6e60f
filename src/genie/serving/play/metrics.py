"""What an operator watches, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from genie.serving.play.batch import GameBatch, Turn, TurnResult

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
MINUTES = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # in seconds
PLAYERS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one server; several servers in one process don't share them.

    Frames per second are the rate of `genie_frames_total`. Memory and processor time of the process
    are there under their usual names, `process_resident_memory_bytes` for example.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.sessions = Gauge(
            "genie_sessions", "Players connected now.", ["world"], registry=self.registry
        )
        self.frames = self._counter("frames", "Frames drawn for players.")
        self.failures = self._counter("failed_turns", "Players' turns that raised an error.")
        self.batch_size = self._histogram(
            "batch_size", "Players who got a frame in one round.", PLAYERS
        )
        self.round_seconds = self._histogram(
            "round_seconds", "Time until one frame is drawn for all players.", SECONDS
        )
        self.commit_seconds = self._histogram(
            "commit_seconds", "Time to take drawn frames into the games' memory.", SECONDS
        )
        self.delivery_seconds = self._histogram(
            "delivery_seconds", "Time from sending a frame until its player has seen it.", SECONDS
        )
        self.generate_seconds = self._histogram(
            "generate_seconds", "Time to answer a request with a clip.", MINUTES
        )
        about = "Requests, connections and messages that were refused."
        self.rejections = self._counter("rejections", about, "reason")
        if torch.cuda.is_available():
            about = "GPU memory that tensors take."
            gpu = Gauge("genie_gpu_memory_bytes", about, registry=self.registry)
            gpu.set_function(torch.cuda.memory_allocated)

    def _counter(self, name: str, about: str, label: str = "world") -> Counter:
        return Counter(f"genie_{name}", about, [label], registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"genie_{name}", about, ["world"], buckets=buckets, registry=self.registry)

    def rejected(self, reason: str) -> None:
        """Counts a refusal."""
        self.rejections.labels(reason).inc()

    def text(self) -> bytes:
        """Returns all figures, for `GET /metrics`."""
        return generate_latest(self.registry)


class InstrumentedGameBatch(GameBatch):
    """Games that count what they draw."""

    def measure(self, metrics: Metrics, world: str) -> InstrumentedGameBatch:
        """Says where to count, and under which name; returns itself."""
        self._frames = metrics.frames.labels(world)
        self._batch_size = metrics.batch_size.labels(world)
        self._seconds = metrics.round_seconds.labels(world)
        self._commit_seconds = metrics.commit_seconds.labels(world)
        self._failures = metrics.failures.labels(world)
        return self

    def advance(self, turns: Mapping[Hashable, Turn]) -> dict[Hashable, TurnResult | Exception]:
        """Takes one turn for each player and counts it."""
        if not turns:
            return {}
        began = time.perf_counter()
        results = super().advance(turns)
        failed = sum(isinstance(result, Exception) for result in results.values())
        self._seconds.observe(time.perf_counter() - began)
        self._batch_size.observe(len(turns))
        self._frames.inc(len(results) - failed)
        self._failures.inc(failed)
        return results

    def commit(self) -> None:
        """Commits the frames of the last round and counts how long that takes."""
        if self.uncommitted:
            began = time.perf_counter()
            super().commit()
            self._commit_seconds.observe(time.perf_counter() - began)
