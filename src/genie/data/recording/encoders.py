"""Writes recorded episodes to videos with their sidecars, on threads."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.io import replacing
from genie.data.video import VideoWriter

_QUEUE = 32


@dataclass
class RecordedEpisode:
    """One episode being recorded: frames wait here until they are a batch to encode.

    Attributes:
        path: of the video.
        writer: that makes it.
        level: that is played, or the seed.
        frames: that wait, each u8 (H,W,3).
        actions: so far, as JSON has them.
        rewards: of these actions.
        length: number of frames so far, waiting or encoded.
        ending: whether it `terminated` or was `truncated`; None while it goes on.
    """

    path: Path
    writer: VideoWriter
    level: int
    frames: list[np.ndarray] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    length: int = 0
    ending: dict[str, bool] | None = None

    def add_frame(self, frame: np.ndarray) -> None:
        """Adds a frame u8 (H,W,3)."""
        self.frames.append(frame)
        self.length += 1

    def add_step(self, action: Any, reward: float) -> None:
        """Adds an action of any space, and what it earned."""
        self.actions.append(_plain(action))
        self.rewards.append(reward)


class Encoders:
    """Threads that write the videos; FFmpeg works outside of Python's lock.

    All batches of an episode go to the same thread, in order. A video that has its final name is
    whole, and its sidecar is there.

    Args:
        threads: number of threads.
        sidecar: returns what is written beside an episode that has ended.
    """

    def __init__(self, threads: int, sidecar: Callable[[RecordedEpisode], dict[str, Any]]) -> None:
        self._sidecar = sidecar
        self._queues = [queue.Queue(_QUEUE) for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(jobs,), daemon=True) for jobs in self._queues
        ]
        self._error: BaseException | None = None
        self._unfinished: set[VideoWriter] = set()
        for thread in self._threads:
            thread.start()

    def send(self, game: int, episode: RecordedEpisode) -> None:
        """Encodes what waits in the episode, and finishes it when it has ended.

        Raises:
            OSError: a video could not be written.
        """
        if self._error is not None:
            raise self._error
        frames, episode.frames = episode.frames, []
        self._queues[game % len(self._queues)].put((episode, frames, episode.ending is not None))

    def close(self) -> None:
        """Waits for all that was sent."""
        self._join()
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Ends at once, and removes the videos that are not whole."""
        self._error = self._error or InterruptedError("recording was stopped")
        self._join()
        for writer in self._unfinished:
            writer.discard()

    def _join(self) -> None:
        for jobs in self._queues:
            jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: queue.Queue[Any]) -> None:
        while (job := jobs.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._encode(*job)
            except BaseException as error:
                self._error = error

    def _encode(self, episode: RecordedEpisode, frames: Sequence[np.ndarray], ended: bool) -> None:
        self._unfinished.add(episode.writer)
        for frame in frames:
            episode.writer.write(frame)
        if ended:
            # The actions first: a video that is there has them.
            with replacing(episode.path.with_suffix(".actions.json")) as path:
                path.write_text(json.dumps(self._sidecar(episode)))
            episode.writer.close()
            self._unfinished.discard(episode.writer)


def _plain(action: Any) -> Any:
    """Returns an action of any space as numbers, words, lists and dictionaries."""
    if isinstance(action, Mapping):
        return {str(name): _plain(part) for name, part in action.items()}
    if isinstance(action, tuple | list):
        return [_plain(part) for part in action]
    return action if action is None or isinstance(action, str) else np.asarray(action).tolist()
