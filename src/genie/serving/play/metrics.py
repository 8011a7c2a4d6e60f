"""Metrics for operators, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from genie.serving.play.batch import GameBatch, Turn, TurnResults

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
        own: Any = {"namespace": "genie", "registry": self.registry}
        by_world: Any = {**own, "labelnames": ["world"]}
        timed: Any = {**by_world, "buckets": SECONDS}
        self.sessions = Gauge("sessions", "Players connected now.", **by_world)
        self.frames = Counter("frames", "Frames generated for players.", **by_world)
        self.failures = Counter("failed_turns", "Players' turns that raised an error.", **by_world)
        about = "Rejected requests and messages."
        self.rejections = Counter("rejections", about, ["reason"], **own)
        about = "Players with a frame in one round."
        self.batch_size = Histogram("batch_size", about, **by_world, buckets=PLAYERS)
        self.round_seconds = Histogram("round_seconds", "Time of a round of all players.", **timed)
        about = "Time to add generated frames to the caches of the games."
        self.commit_seconds = Histogram("commit_seconds", about, **timed)
        about = "Time from sending a frame to its acknowledgement."
        self.delivery_seconds = Histogram("delivery_seconds", about, **timed)
        about = "Time to answer a request with a clip."
        self.generate_seconds = Histogram("generate_seconds", about, **by_world, buckets=MINUTES)
        if torch.cuda.is_available():
            gpu = Gauge("gpu_memory_bytes", "GPU memory allocated for tensors.", **own)
            gpu.set_function(torch.cuda.memory_allocated)

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
