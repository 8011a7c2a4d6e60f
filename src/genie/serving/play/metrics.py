"""Metrics for operators, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from genie.serving.play.batch import GameBatch, Turn, TurnResults

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
MINUTES = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # in seconds
PLAYERS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server; several servers in one process do not share them.

    Frames per second are the rate of `genie_frames_total`. Memory and processor time of the process
    have their usual names, `process_resident_memory_bytes` for example.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, histogram = self._counter, self._histogram
        about = "Players connected now."
        self.sessions = Gauge("genie_sessions", about, ["world"], registry=self.registry)
        self.frames = counter("frames", "Frames generated for players.")
        self.failures = counter("failed_turns", "Players' turns that raised an error.")
        self.rejections = counter("rejections", "Rejected requests and messages.", "reason")
        self.batch_size = histogram("batch_size", "Players with a frame in one round.", PLAYERS)
        self.round_seconds = histogram("round_seconds", "Time of a round of all players.", SECONDS)
        about = "Time to add generated frames to the caches of the games."
        self.commit_seconds = histogram("commit_seconds", about, SECONDS)
        about = "Time from sending a frame to its acknowledgement."
        self.delivery_seconds = histogram("delivery_seconds", about, SECONDS)
        about = "Time to answer a request with a clip."
        self.generate_seconds = histogram("generate_seconds", about, MINUTES)
        if torch.cuda.is_available():
            about = "GPU memory allocated for tensors."
            gpu = Gauge("genie_gpu_memory_bytes", about, registry=self.registry)
            gpu.set_function(torch.cuda.memory_allocated)

    def _counter(self, name: str, about: str, label: str = "world") -> Counter:
        return Counter(f"genie_{name}", about, [label], registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"genie_{name}", about, ["world"], buckets=buckets, registry=self.registry)

    def rejected(self, reason: str) -> None:
        """Counts a rejected request or message."""
        self.rejections.labels(reason).inc()

    def text(self) -> bytes:
        """Returns all metrics, for `GET /metrics`."""
        return generate_latest(self.registry)


class InstrumentedGameBatch(GameBatch):
    """A `GameBatch` that counts what it does."""

    def measure(self, metrics: Metrics, world: str) -> InstrumentedGameBatch:
        """Sets the metrics and the name of the world in them; returns itself."""
        self._frames = metrics.frames.labels(world)
        self._batch_size = metrics.batch_size.labels(world)
        self._seconds = metrics.round_seconds.labels(world)
        self._commit_seconds = metrics.commit_seconds.labels(world)
        self._failures = metrics.failures.labels(world)
        return self

    def advance(self, turns: Mapping[Hashable, Turn]) -> TurnResults:
        """Takes one turn in each game and counts it."""
        if not turns:
            return {}
        with self._seconds.time():
            results = super().advance(turns)
        failed = sum(isinstance(result, Exception) for result in results.values())
        self._batch_size.observe(len(turns))
        self._frames.inc(len(results) - failed)
        self._failures.inc(failed)
        return results

    def commit(self) -> None:
        """Commits the frames of the last round and measures the time."""
        if self.uncommitted:
            with self._commit_seconds.time():
                super().commit()
