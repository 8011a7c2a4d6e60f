"""How much a frame looks like the goal picture."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def similarity(
    frames: UInt8[Tensor, "n h w 3"], goal: UInt8[Tensor, "h w 3"]
) -> Float[Tensor, " n"]:
    """Returns the cosine similarity of the pixels of frames and those of the goal picture.

    The mean of each picture is taken off. Otherwise all pictures would resemble each other.

    Args:
        frames: to judge.
        goal: to resemble.
    """
    return F.cosine_similarity(_centred(frames), _centred(goal[None]))


def _centred(pictures: Tensor) -> Float[Tensor, "n pixels"]:
    flat = pictures.flatten(1).float()
    return flat - flat.mean(1, keepdim=True)
