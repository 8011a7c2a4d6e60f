"""Which losses a tokenizer has beside the error of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from genie.core.config import require

WEIGHTS = ("adversarial_weight", "perceptual_weight", "temporal_weight", "flow_weight")
"""The field of each loss."""


@dataclass(frozen=True)
class ExtraLosses:
    """Losses of the tokenizer beside the error of pixels. All are off by default.

    After 300 steps the temporal loss gains a little, the perceptual one nothing, and the tokenizer
    is worse with the others (`docs/experiments/2026-11-28-variants.md`). Their networks are no part
    of a world: they are only there in training.

    Attributes:
        adversarial_weight: weight of a discriminator of patches at two resolutions. It is
            multiplied by how much longer the gradient of the pixels' error is, so 1 makes both
            equally strong (`models/tokenizer_losses/adversarial.py`).
        adversarial_start: share of the training budget before which there is no discriminator.
        perceptual_weight: weight of the distance between features of frames
            (`models/tokenizer_losses/perceptual.py`).
        perceptual_network: TorchScript file of a differentiable distance such as LPIPS. It takes
            two batches of images (n, 3, h, w) from -1 to 1 and returns numbers. Without one, a
            fixed network of random convolutions makes the features.
        temporal_weight: weight of the error of the differences between frames
            (`models/tokenizer_losses/temporal.py`).
        flow_weight: weight of the error of the optical flow (`models/tokenizer_losses/flow.py`).
    """

    adversarial_weight: float = 0.0
    adversarial_start: float = 0.5
    perceptual_weight: float = 0.0
    perceptual_network: str = ""
    temporal_weight: float = 0.0
    flow_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuses impossible values."""
        for name in WEIGHTS:
            require(getattr(self, name) >= 0, f"{name}: must not be negative")
        require(0 <= self.adversarial_start < 1, "adversarial_start: must lie in [0, 1)")

    @property
    def any(self) -> bool:
        """Whether there is any of them."""
        return any(getattr(self, name) > 0 for name in WEIGHTS)
