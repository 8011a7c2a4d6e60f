"""All that is needed to build a world."""

from __future__ import annotations

from dataclasses import dataclass, field

from genie.core.config import require, require_at_most
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.latent_actions.registry import ActionsConfig
from genie.models.tokenizers.registry import TokenizerConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.world.maskgit import SamplingConfig


@dataclass(frozen=True)
class GenieConfig:
    """All that is needed to build a world.

    Attributes:
        height: rows of a frame, in pixels.
        width: columns of a frame, in pixels.
        fps: frames per second at which the world was recorded and is played.
        num_actions: A, number of latent actions.
        tokenizer, actions, dynamics: the three models; the fields of the tokenizer depend on its
            `backbone`, those of the actions on their `kind`.
        sampling: how frames are sampled unless a caller gives other settings.
    """

    height: int = 64
    width: int = 64
    fps: float = 15.0
    num_actions: int = 8
    tokenizer: TokenizerConfig = field(default_factory=VideoTokenizerConfig)
    actions: ActionsConfig = field(default_factory=LatentActionConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        """Raises `UserError` for impossible combinations."""
        require(self.height >= 8, "height: must be at least 8 pixels")
        require(self.width >= 8, "width: must be at least 8 pixels")
        require(self.fps > 0, "fps: must be positive")
        require(self.num_actions >= 2, "num_actions: must be at least 2")
        require_at_most(self, height=16_384, width=16_384, fps=1000, num_actions=4096)
        self.actions.check_number(self.num_actions)
        smallest = min(self.height, self.width)
        for name in ("tokenizer", "actions"):
            patch = getattr(self, name).patch
            require(
                patch <= smallest,
                f"{name}.patch: {patch} is larger than a frame of {self.width}x{self.height}",
            )

    @property
    def layers(self) -> int:
        """Number of blocks of all models together."""
        return self.tokenizer.layers + self.actions.layers + self.dynamics.layers
