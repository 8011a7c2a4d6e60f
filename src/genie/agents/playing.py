"""`genie agent play`: what an agent earns in the real game, beside random play."""

from __future__ import annotations

from pathlib import Path

from genie.agents.agent import Agent, AgentPlayer
from genie.agents.real_game import RealGameConfig, Returns, action_names, measure, random_player
from genie.core.config import require
from genie.core.numbers import seed_of
from genie.core.progress import progress_bars


def play_game(
    agent: str | Path | Agent,
    game: RealGameConfig | None = None,
    *,
    greedy: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Returns]:
    """Plays the real game by an agent and at random.

    Args:
        agent: an agent, or its folder.
        game: which games; 100 levels of CoinRun, five times each, if left out.
        greedy: take the likeliest action instead of sampling.
        seed: determines what is sampled and the order of levels.
        progress: show progress bars.

    Returns:
        What the `agent` and `random play` earned.

    Raises:
        UserError: the agent cannot be loaded, knows latent actions only, or other actions than the
            game's; or there is no such game.
    """
    game, seed = game or RealGameConfig(), seed_of(seed)
    agent = agent if isinstance(agent, Agent) else Agent.from_pretrained(agent)
    require_game(agent, game)
    players = {
        "agent": AgentPlayer(agent, None if greedy else seed, "real"),
        "random play": random_player(game, seed),
    }
    bars, found = progress_bars(progress), dict[str, Returns]()
    for name, player in players.items():
        with bars(name.capitalize(), game.levels * game.seeds) as tick:
            found[name] = measure(player, game, seed, tick)
    return found


def require_game(agent: Agent, game: RealGameConfig) -> None:
    """Raises `UserError` for a game whose actions the agent does not know."""
    require(bool(agent.action_names), "this agent knows latent actions only; it needs a mapper")
    names = action_names(game)
    require(
        names == agent.action_names,
        f"{game.env} has the actions {', '.join(names)}, the agent has "
        f"{', '.join(agent.action_names)}; let it play its own game",
    )
