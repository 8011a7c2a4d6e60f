"""Experts by their names, as the command line has them."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from genie.agents.experts.lookahead import LookAhead
from genie.agents.experts.nearest import Nearest
from genie.agents.experts.runner import Runner
from genie.agents.experts.stable_baselines import StableBaselines
from genie.core.config import UserError
from genie.data.recording.policies import Policy, PolicyName

CHECKPOINT = "sb3:"


def policy_of(name: str, seed: int = 0) -> PolicyName | Policy:
    """Returns the policy of a name.

    Args:
        name: of one of `genie.record`, `runner`, `lookahead`, `nearest`, or `sb3:PATH` for a
            checkpoint of Stable-Baselines3.
        seed: of what the expert itself leaves to chance.

    Raises:
        UserError: there is none of that name.
    """
    if name in get_args(PolicyName):
        return cast("PolicyName", name)
    if name == "runner":
        return Runner(seed)
    if name == "lookahead":
        return LookAhead()
    if name == "nearest":
        return Nearest(seed=seed)
    if name.startswith(CHECKPOINT):
        return StableBaselines(Path(name.removeprefix(CHECKPOINT)))
    known = ", ".join([*get_args(PolicyName), "runner", "lookahead", "nearest"])
    raise UserError(f"no policy {name!r}; choose {known} or {CHECKPOINT}PATH")
