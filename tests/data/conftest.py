from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sample_videos import moving_square

from genie.data.video import write_video


@pytest.fixture
def make_videos(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of `count` videos of different content and length."""

    def make(count: int = 4, frames: int = 40, fps: float = 15, folder: str = "videos") -> Path:
        source = tmp_path / folder
        source.mkdir()
        for number in range(count):
            clip = moving_square(frames + 3 * number, seed=number)
            write_video(source / f"clip-{number}.mp4", clip, fps)
        return source

    return make
