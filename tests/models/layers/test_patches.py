import torch

from genie.models.layers.patches import frames_of, grid_of, patches_of


def test_patches_cover_frames_whose_sides_are_no_multiple():
    frames = torch.rand(2, 3, 9, 14, 3)
    assert grid_of((9, 14), 4) == (3, 4)
    patches = patches_of(frames, 4)
    assert patches.shape == (2, 3, 12, 48)
    assert torch.equal(frames_of(patches, (9, 14), 4), frames)
