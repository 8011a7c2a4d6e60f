import torch

from genie.models.layers.patches import grid_size, patchify, unpatchify


def test_patches_cover_frames_whose_sides_are_no_multiple():
    frames = torch.rand(2, 3, 9, 14, 3)
    assert grid_size((9, 14), 4) == (3, 4)
    patches = patchify(frames, 4)
    assert patches.shape == (2, 3, 12, 48)
    assert torch.equal(unpatchify(patches, (9, 14), 4), frames)
