"""A recording of the game of `buttons.py`: how it is made quickly, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from genie.data.video import read_video

BUTTONS = "gym:GenieTest/Buttons-v0"
QUIET = {"progress": False, "crf": 4}


def decoded(path: Path) -> np.ndarray:
    return np.stack([frame for _, frame in read_video(path)])


def sidecar(path: Path) -> dict:
    return json.loads(path.with_suffix(".actions.json").read_text())


def videos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))
