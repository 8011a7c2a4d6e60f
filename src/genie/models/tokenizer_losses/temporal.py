"""A loss on how frames change, so that reconstructions do not flicker."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def change_error(
    predicted: Float[Tensor, "b t h w 3"], target: Float[Tensor, "b t h w 3"]
) -> Float[Tensor, ""]:
    """Returns the mean squared error of the differences between neighbouring frames.

    An error that stays the same over time costs nothing here. One that comes and goes does.

    Args:
        predicted: reconstructed clips.
        target: the clips.

    Returns:
        The error; 0 for clips of one frame.
    """
    if target.shape[1] < 2:
        return predicted.new_zeros(())
    return (predicted.diff(dim=1) - target.diff(dim=1)).square().mean()
