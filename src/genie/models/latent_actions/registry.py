"""The list of latent action models. A new one is added to the union here and nowhere else."""

from __future__ import annotations

from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.latent_actions.pair import PairActionConfig
from genie.models.latent_actions.pixels import PixelActionConfig

ActionsConfig = LatentActionConfig | PixelActionConfig | PairActionConfig
"""The configuration of any latent action model. `kind` tells which; the first is the default."""
