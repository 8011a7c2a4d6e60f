from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from recordings import BUTTONS, QUIET, decoded, sidecar, videos

from genie.core.config import UserError
from genie.data.recording.encoders import Encoders, RecordedEpisode
from genie.data.recording.record import record
from genie.data.video import VideoWriter

procgen = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="needs procgen")


def begun(folder, game):
    """An episode of one frame, of one grey level."""
    path = folder / f"{game}.mp4"
    episode = RecordedEpisode(path, VideoWriter(path, 15, crf=0), level=game)
    episode.add_frame(np.full((32, 32, 3), 10 * game, np.uint8))
    return episode


def test_batches_of_many_games_become_one_video_each_in_order(tmp_path):
    encoders = Encoders(2, lambda episode: {"level": episode.level, "actions": episode.actions})
    episodes = [begun(tmp_path, game) for game in range(5)]
    for step in range(1, 8):
        for game, episode in enumerate(episodes):
            encoders.send(game, episode)
            episode.add_step({"move": np.int64(step)}, 1.0)
            episode.add_frame(np.full((32, 32, 3), 10 * game + 25 * step, np.uint8))
    for game, episode in enumerate(episodes):
        episode.ending = {"terminated": True, "truncated": False}
        encoders.send(game, episode)
    encoders.close()
    assert len(videos(tmp_path)) == 5
    for game, path in enumerate(videos(tmp_path)):
        levels = decoded(path).mean(axis=(1, 2, 3))
        assert levels == pytest.approx([10 * game + 25 * step for step in range(8)], abs=2)
        steps = [{"move": step} for step in range(1, 8)]
        assert sidecar(path) == {"level": game, "actions": steps}


def test_only_episodes_that_ended_stay_when_it_is_dropped(tmp_path):
    encoders = Encoders(1, lambda episode: {})
    whole, half = begun(tmp_path, 0), begun(tmp_path, 1)
    whole.ending = {"terminated": True, "truncated": False}
    half.frames *= 100  # more than the encoder keeps before it writes
    encoders.send(1, half)
    encoders.send(0, whole)
    end = time.monotonic() + 30
    while not whole.path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert list(tmp_path.glob(".1.mp4.*"))
    encoders.drop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.actions.json", "0.mp4"]
    with pytest.raises(InterruptedError, match="stopped"):
        encoders.send(1, half)


def test_a_video_that_cannot_be_written_is_told_at_the_end(tmp_path):
    encoders = Encoders(1, lambda episode: {})
    episode = begun(tmp_path, 0)
    episode.path = tmp_path / "missing" / "0.mp4"
    (tmp_path / "missing").write_text("in the way of a folder")
    episode.ending = {"terminated": True, "truncated": False}
    encoders.send(0, episode)
    with pytest.raises(OSError, match="missing"):
        encoders.close()
    encoders.drop()
    assert [path.name for path in tmp_path.iterdir()] == ["missing"]


def test_an_error_while_writing_is_told_and_leaves_no_halves(tmp_path, monkeypatch):
    class FullContainer:
        def close(self, *_):
            raise OSError(28, "No space left on device")

        mux = close

    def write(writer, frame, writing=VideoWriter.write):
        writing(writer, frame)
        if writer.frames > 9:
            writer._encoder._container.close()
            writer._encoder._container = FullContainer()

    monkeypatch.setattr(VideoWriter, "write", write)
    with pytest.raises(UserError, match="disk is full"):
        record(BUTTONS, tmp_path / "out", episodes=50, **QUIET)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".mp4", ".part")]


@procgen
def test_a_kill_leaves_only_whole_videos(tmp_path):
    out = tmp_path / "out"
    call = f"record('procgen:maze', {str(out)!r}, frames=10**6, max_episode_frames=40, num_envs=4)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from genie.data.recording.record import *; {call}"]
    )
    end = time.monotonic() + 30
    while len(videos(out / "train")) < 6 and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(videos(out / "train")) >= 6
    for path in videos(out / "train"):
        assert len(decoded(path)) == sidecar(path)["frames"]
    record("procgen:maze", out, episodes=1, append=True, max_episode_frames=20, progress=False)
    assert not list(out.glob("*/.*"))
