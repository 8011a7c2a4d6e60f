"""A recording of a Procgen game, prepared, and the same games played again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genie.data.prepare import prepare
from genie.data.recording.environments import LevelRange, ProcgenBatch
from genie.data.recording.record import record

GAME, SEED, LEVELS = "starpilot", 3, 20


def made_recording(folder: Path) -> None:
    """Records eight short episodes, in which ships are shot and the player dies."""
    played = {"episodes": 8, "num_envs": 1, "max_episode_frames": 200, "num_levels": LEVELS}
    record(
        f"procgen:{GAME}", folder / "videos", **played, seed=SEED, val_fraction=0.25,
        sticky_action_prob=0.0, crf=4, progress=False,
    )  # fmt: skip
    prepare(folder / "videos", folder / "store", workers=1, min_frames=2, progress=False)


def played_again(
    actions: list[list[int]],
) -> list[tuple[np.ndarray, list[float], list[bool]]]:
    """Plays the training episodes again; returns frames, rewards and ends of each."""
    games, found = ProcgenBatch(GAME, 1, LevelRange(0, LEVELS), SEED, "easy", {}), []
    for episode in actions:
        frames, rewards, ends = [], [], []
        for action in episode:
            frames.append(games.observe()[0])
            step = games.step(np.array([action]), np.array([False]))
            rewards.append(float(step.rewards[0]))
            ends.append(bool(step.terminated[0]))
        found.append((np.stack(frames), rewards, ends))
    games.close()
    return found
