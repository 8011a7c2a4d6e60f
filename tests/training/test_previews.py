from functools import partial

import numpy as np
import pytest
import torch

from genie.training.previews import (
    bar_chart,
    held_out_clips,
    image_grid,
    preview_actions,
    preview_split,
    preview_tokenizer,
    psnr_of,
)
from genie.world.genie import Genie


def test_clips_are_held_out_where_that_is_possible(store):
    held_out = {store.read(int(i), 1).tobytes() for i in store.frames_in_split("val")}
    assert {frame.numpy().tobytes() for frame in held_out_clips(store, 1)[:, 0]} <= held_out
    assert held_out_clips(store, 30).shape == (4, 30, 16, 16, 3)  # longer than the val episode


def test_figures_of_videos_that_are_trained_on_say_so(store, small_world):
    assert [preview_split(store, frames) for frames in (20, 21)] == ["val", "train"]
    torch.manual_seed(0)
    world = Genie(small_world).eval()
    assert preview_actions(world.actions, held_out_clips(store, 4)) == ({}, {})  # no codes yet
    world.actions.quantizer.placed.fill_(True)
    for draw in (
        partial(preview_tokenizer, world.tokenizer),
        partial(preview_actions, world.actions),
    ):
        _, figures = draw(held_out_clips(store, 4), "train")
        assert {name.split("/")[0] for name in figures} == {"train"}


def test_grid_puts_clips_below_each_other():
    rows = [torch.full((3, 4, 5, 3), value, dtype=torch.uint8) for value in (10, 20)]
    picture = image_grid(rows)
    assert picture.shape == (2 * 6, 3 * 7, 3)
    assert (picture[:4, 7:12] == 10).all()
    assert (picture[6:10, 14:19] == 20).all()
    assert (picture[4:6] == 255).all()


def test_bars_are_as_high_as_counts():
    picture = bar_chart(torch.tensor([0, 4, 2, 4]), height=8, width=4)
    filled = (picture[..., 0] == 40).sum(axis=0)
    assert picture.dtype == np.uint8
    assert filled.tolist() == [8, 8, 4, 0]


def test_figures():
    black = torch.zeros(2, 2, 3, dtype=torch.uint8)
    assert psnr_of(black, black + 255) == pytest.approx(0, abs=1e-4)
    assert psnr_of(black, black + 1) == pytest.approx(48.13, abs=0.01)
