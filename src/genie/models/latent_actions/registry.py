"""The list of latent action models. A new one is added to the union here and nowhere else."""

from __future__ import annotations

from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.latent_actions.pair import PairActionConfig
from genie.models.latent_actions.pixels import PixelActionConfig
from genie.models.latent_actions.tokens import TokenActionConfig

ActionsConfig = LatentActionConfig | PixelActionConfig | PairActionConfig | TokenActionConfig
"""The configuration of any latent action model. `kind` tells which; the first is the default."""
