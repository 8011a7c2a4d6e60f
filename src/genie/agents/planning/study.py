"""How often planning reaches goal pictures, beside what plans in the real game or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from genie.agents.planning.goals import Goal, GoalConfig, make_goals
from genie.agents.planning.pursuit import Outcome, PursuitConfig, play_randomly, pursue
from genie.agents.planning.search import SearchConfig
from genie.agents.planning.simulators import Dream, NamedDream, RealSimulator, Simulator
from genie.core.config import Device, Dtype, require, to_dict
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import progress_bars
from genie.core.renamed_keys import renamed
from genie.evaluation.metrics.formulas import DRAWS, bootstrap_weights
from genie.models.layers.transformer import receptive_field
from genie.world.action_mapper import ActionMapper
from genie.world.genie import Genie

if TYPE_CHECKING:
    from genie.data.recording.environments import ProcgenBatch

Method = Literal[
    "latent", "latent_shooting", "named", "named_shooting", "simulator", "simulator_shooting",
    "random",
]  # fmt: skip
RANDOM_GAMES = 20
"""Games of random play from each start: one game alone says little."""
Z = 1.959964
"""Quantile of the normal distribution for intervals of 95 %."""


def plan_to_goals(
    world: str | Path,
    *,
    mapper: str | Path | None = None,
    out: str | Path = "planning.json",
    methods: Sequence[Method] = get_args(Method),
    env: str = "procgen:coinrun",
    distribution_mode: str = "easy",
    options: Mapping[str, bool] | None = None,
    actions: Sequence[str] | None = None,
    first_level: int = 1_000_000,
    goals: int = 30,
    goal_steps: int = 15,
    min_distance: float = 2.0,
    tolerance: float = 0.5,
    iterations: int = 2,
    samples: int = 100,
    elites: int = 10,
    horizon: int = 15,
    hold: int = 1,
    executed: int = 5,
    limit: int = 20,
    steps: int = 1,
    seed: int = 0,
    device: Device | None = None,
    dtype: Dtype = "float32",
    progress: bool = True,
) -> dict[str, Any]:
    """Plans towards goal pictures and acts in the real game, as in AdaWorld (arXiv 2503.18938).

    A goal is what the real game showed some steps after a start. It is reached when the agent
    comes, in any step, to where it stood there.

    Args:
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        mapper: folder of a mapper of that world; the one beside it when left out.
        out: JSON file of the results. Goals that it has already are not played again.
        methods: what pursues the goals. `latent` and `named` plan in the world over latent and over
            real actions, `simulator` in the real game, whose states are saved and restored. With
            `_shooting` the best of as many random plans is taken. `random` plays without a plan.
        env: `procgen:<game>`.
        distribution_mode: Procgen's `easy`, `hard`, `extreme` or `memory`.
        options: further options of the game, as of `genie record`.
        actions: names of those that the rollouts to the goals play; one given twice is played
            twice as often. All that there are when left out.
        first_level: number of the first level. On these levels nothing should have been trained on.
        goals: how many goals.
        goal_steps: steps from a start to its goal in the real game.
        min_distance: cells between a start and its goal at least.
        tolerance: cells; an agent nearer than this to where it stood in the goal picture is there.
        iterations: rounds of the cross-entropy method.
        samples: plans of each iteration.
        elites: best plans, which the next ones are like.
        horizon: steps that a plan looks ahead.
        hold: steps that a plan holds each action for.
        executed: steps of a plan that are acted before the next plan is made.
        limit: steps to reach a goal.
        steps: MaskGIT steps for each frame of the world.
        seed: determines goals, plans and noise.
        device: where the world plays; chosen when left out.
        dtype: type of the world's weights, float32 or bfloat16.
        progress: show a progress bar.

    Returns:
        The results, as in the file.

    Raises:
        UserError: the game cannot save its states or is not installed, the world has no mapper, or
            the file is of another study.
    """
    goal_config = GoalConfig(
        env, distribution_mode, options or {}, first_level, goals=goals, steps=goal_steps,
        min_distance=min_distance, tolerance=tolerance, seed=seed_of(seed),
        actions=tuple(actions) if actions else None,
    )  # fmt: skip
    search = SearchConfig(iterations, samples, elites, horizon, hold)
    pursuit = PursuitConfig(search, executed, limit)
    genie = Genie.from_pretrained(world, device, dtype)
    tied = ActionMapper.from_pretrained(mapper if mapper is not None else world, genie)
    settings = {
        "world": Path(world).name,
        "dtype": dtype,
        "mapper": {"kind": tied.config.kind, "labels": tied.config.labels},
        # More goals of the same seed begin with the same ones.
        "goals": {k: v for k, v in to_dict(goal_config).items() if k != "goals"},
        "pursuit": to_dict(pursuit),
        "steps": steps,
    }
    results = _Results(Path(out), settings)
    made = make_goals(goal_config, receptive_field(genie.config.dynamics) + 1)
    todo = [(goal, method) for goal in made for method in methods if not results.has(goal, method)]
    players = _Players(genie, tied, goal_config, pursuit, steps)
    with players, progress_bars(progress)("Pursuits", len(todo)) as tick:
        for goal, method in todo:
            results.add(goal, method, players.pursue(goal, method))
            tick()
    return results.write()


class _Players(ExitStack):
    """Everything that pursues goals, each with games of its own."""

    def __init__(
        self,
        world: Genie,
        mapper: ActionMapper,
        goals: GoalConfig,
        config: PursuitConfig,
        steps: int,
    ) -> None:
        super().__init__()
        self._goals, self._config = goals, config
        self._actions = [mapper.index_of(name) for name in mapper.labelled_names]
        self._game, self._random = self._games(1), self._games(RANDOM_GAMES)
        sampling = replace(world.config.sampling, steps=steps)
        self._simulators: dict[str, Simulator] = {
            "latent": Dream(world, mapper, sampling),
            "named": NamedDream(world, mapper, sampling),
            "simulator": RealSimulator(self._games(config.search.samples), self._actions),
        }

    def _games(self, count: int) -> ProcgenBatch:
        games = self._goals.games(count)
        self.callback(games.close)
        return games

    def pursue(self, goal: Goal, method: str) -> Outcome:
        """Pursues a goal; it has a seed of its own, the same one for all methods."""
        seed, limit = goal.level % 2**31, self._config.limit
        if method == "random":
            return play_randomly(goal, self._random, self._actions, limit, seed)
        name, _, shooting = method.partition("_")
        config = self._config
        if shooting:
            config = replace(config, search=config.search.shooting())
        return pursue(goal, self._simulators[name], self._game, config, seed)


class _Results:
    """A file of what happened to each goal; it is written after each pursuit."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self._values: dict[str, Any] = {"settings": json.loads(json.dumps(settings)), "goals": {}}
        if path.is_file():
            self._go_on(json.loads(path.read_text("utf-8")))

    def _go_on(self, before: dict[str, Any]) -> None:
        names = renamed(plan_to_goals)
        settings = {names.get(key, key): value for key, value in before.get("settings", {}).items()}
        before["settings"] = settings
        same = settings == self._values["settings"]
        require(same, f"{self._path}: results of other settings; give another file as out")
        self._values = before

    def has(self, goal: Goal, method: str) -> bool:
        """Whether a method has pursued a goal."""
        return method in self._values["goals"].get(str(goal.level), {})

    def add(self, goal: Goal, method: str, outcome: Outcome) -> None:
        """Adds an outcome and writes the file."""
        line = self._values["goals"].setdefault(str(goal.level), {"distance": goal.distance})
        line[method] = {"reached": outcome.reached, "nearest": outcome.nearest}
        self.write()

    def write(self) -> dict[str, Any]:
        """Writes the file with the figures of all goals so far, and returns what it says."""
        self._values["methods"] = summary(list(self._values["goals"].values()))
        with replacing(self._path) as path:
            path.write_text(json.dumps(self._values, indent=1) + "\n", "utf-8")
        return self._values


def summary(goals: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the figures of each method.

    Args:
        goals: for each goal, the outcome of each method that pursued it.

    Returns:
        `reached`, the share of goals with its 95 % interval (Wilson's, by the number of goals), and
        the mean of `nearest` in cells. `above_random` compares the same goals, with the interval of
        a bootstrap over them.
    """
    found = {}
    for method in get_args(Method):
        lines = [goal for goal in goals if method in goal]
        if lines:
            shares = [goal[method]["reached"] for goal in lines]
            nearest = [goal[method]["nearest"] for goal in lines]
            found[method] = {
                "goals": len(lines),
                "reached": wilson(sum(shares) / len(lines), len(lines)),
                "nearest": sum(nearest) / len(lines),
            }
            both = [goal for goal in lines if "random" in goal and method != "random"]
            if both:
                found[method]["above_random"] = _difference(both, method)
    return found


def wilson(share: float, count: int) -> dict[str, float]:
    """Returns a share of `count` independent trials with its 95 % interval (Wilson 1927)."""
    spread = share * (1 - share) / count + Z**2 / (4 * count**2)
    middle, scale = share + Z**2 / (2 * count), 1 + Z**2 / count
    low, high = (middle + sign * Z * math.sqrt(spread) for sign in (-1, 1))
    return {"mean": share, "low": max(low / scale, 0.0), "high": min(high / scale, 1.0)}


def _difference(goals: Sequence[Mapping[str, Any]], method: str) -> dict[str, float]:
    each = [goal[method]["reached"] - goal["random"]["reached"] for goal in goals]
    differences = torch.tensor(each, dtype=torch.float64)
    drawn = bootstrap_weights(len(goals), [0, 31], DRAWS).double() @ differences / len(goals)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return {"mean": differences.mean().item(), "low": low, "high": high}
