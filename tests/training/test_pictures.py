import numpy as np
import pytest
import torch

from genie.training.pictures import bars, grid, held_out_clips, perplexity, psnr


def test_clips_are_held_out_where_that_is_possible(store):
    held_out = {store.read(int(i), 1).tobytes() for i in store.frames_in_split("val")}
    assert {frame.numpy().tobytes() for frame in held_out_clips(store, 1)[:, 0]} <= held_out
    assert held_out_clips(store, 30).shape == (4, 30, 16, 16, 3)  # longer than the val episode


def test_grid_puts_clips_below_each_other():
    rows = [torch.full((3, 4, 5, 3), value, dtype=torch.uint8) for value in (10, 20)]
    picture = grid(rows)
    assert picture.shape == (2 * 6, 3 * 7, 3)
    assert (picture[:4, 7:12] == 10).all()
    assert (picture[6:10, 14:19] == 20).all()
    assert (picture[4:6] == 255).all()


def test_bars_are_as_high_as_counts():
    picture = bars(torch.tensor([0, 4, 2, 4]), height=8, width=4)
    filled = (picture[..., 0] == 40).sum(axis=0)
    assert picture.dtype == np.uint8
    assert filled.tolist() == [8, 8, 4, 0]


def test_figures():
    assert perplexity(torch.tensor([5, 5, 0])) == pytest.approx(2)
    black = torch.zeros(2, 2, 3, dtype=torch.uint8)
    assert psnr(black, black + 255) == pytest.approx(0, abs=1e-4)
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
