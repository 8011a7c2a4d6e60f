"""`genie agent dream`: train an agent in a world, test it in the real game, and save it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genie.agents.agent import Agent, AgentConfig, AgentPlayer, latent_actions_hash
from genie.agents.dreaming.imagine import RealStarts, imagine
from genie.agents.dreaming.learn import ActorCritic, DreamConfig
from genie.agents.real_game import (
    RealGameConfig,
    Returns,
    measure,
    random_player,
    require_recorded,
)
from genie.core.config import Device, Dtype, require
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import Progress
from genie.data.store import ClipStore
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig
from genie.models.reward_heads import FeatureConfig
from genie.training.checkpointing import read_checkpoint, write_checkpoint
from genie.world.action_mapper import ActionMapper
from genie.world.genie import Genie
from genie.world.hub import world_folder
from genie.world.reward_model import RewardModel

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT, REPORT = "dream.ckpt", "report.json"
SAVE_SECONDS = 60.0
"""Time between two checkpoints; so much is lost to a kill, and a batch of dreams."""


@dataclass(frozen=True)
class RealTestConfig:
    """How an agent is tested in the real game.

    Attributes:
        every: dreams between two tests; 0 tests nothing.
        first_level: the first of the levels on which the best agent is chosen.
        levels: how many there are.
        seeds: games of each.
    """

    every: int = 10
    first_level: int = 0
    levels: int = 40
    seeds: int = 1

    def __post_init__(self) -> None:
        """Refuses numbers of games that cannot be played."""
        require(self.every >= 0, "every: must not be negative")
        require(self.levels >= 1 and self.seeds >= 1, "levels, seeds: must be at least 1")


@dataclass(frozen=True)
class Result:
    """What `dream` made.

    Attributes:
        folder: of the agent.
        report: its figures, as in `report.json` there.
    """

    folder: Path
    report: dict[str, Any]


def dream(
    world: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    start: str | Path | None = None,
    mapper: str | Path | None = None,
    reward: str | Path | None = None,
    dreams: int = 100,
    minutes: float = 0.0,
    learning: DreamConfig | None = None,
    game: RealGameConfig | None = None,
    test: RealTestConfig | None = None,
    dtype: Dtype = "bfloat16",
    device: Device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Trains an agent in a world by an actor and a critic; the same call goes on where it stopped.

    The agent never learns from the real game. It is tested there, and the weights that earn most on
    the levels of `test` are kept. Their figures on the levels of `game` stand in the report.

    Args:
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        data: clip store whose real frames the dreams are branched from.
        out: folder of the agent.
        start: folder of the agent to begin with, such as a clone; a new one when left out.
        mapper: folder of the mapper to real actions; that of the agent to begin with, or that
            beside the world, when left out.
        reward: folder of the reward model; that beside the world when left out.
        dreams: batches of dreams to learn from; 0 for no limit.
        minutes: time to learn, over all resumed runs and without tests; 0 for no limit.
        learning: how it learns.
        game: the real game, with held-out levels.
        test: when and on which levels it is tested meanwhile.
        dtype: precision of the world and, in the dream, of the policy. The agent that is
            saved computes in float32.
        device: where the world plays; chosen when left out.
        seed: determines the dreams, the weights and what is sampled in the real game.
        progress: show progress.

    Returns:
        The folder and the figures.

    Raises:
        UserError: there is no reward model or mapper, something belongs to another world, or the
            folder holds an agent that was begun otherwise.
    """
    require(dreams > 0 or minutes > 0, "dreams, minutes: one of them must be above 0")
    learning, game, test = (
        learning or DreamConfig(),
        game or RealGameConfig(),
        test or RealTestConfig(),
    )
    store = ClipStore.open(data)
    if test.every > 0:
        require_recorded(store, game)
    seed, folder = seed_of(seed), world_folder(world)
    genie = Genie.from_pretrained(folder, device, dtype)
    rewards = RewardModel.from_pretrained(folder if reward is None else reward, genie)
    first = None if start is None else Agent.from_pretrained(start, genie)
    known = _mapper(genie, folder, mapper, first, test.every > 0)
    torch.manual_seed(seed)
    learner = ActorCritic(_policy(genie, first), learning, _features(rewards), genie.dtype)
    agent = Agent(_config(genie, learner.policy, known), learner.policy, known)
    begun = {"learning": asdict(learning), "seed": seed, "start": str(start), "world": str(world)}
    run = _Run(Path(out), agent, learner, game, test, begun, seed)
    run.resume()
    starts = RealStarts(store, learner.policy.config.frames)
    unit = "dreams" if dreams else ""  # by time it shows a share
    with Progress("Dreaming", dreams or 1, show=progress, unit=unit) as bar:
        while not run.over(dreams, minutes):
            run.test_if_due()
            began = time.perf_counter()
            number = seed + 1_000_003 * learner.updates
            clips = starts.sample(learning.games, number)
            told = learner.update(
                imagine(genie, rewards, learner.policy, clips, learning.horizon, number), number
            )
            run.add(told, time.perf_counter() - began)
            bar.note = f"{told['earned']:.2f} a dream"
            bar.update(learner.updates if dreams else min(1.0, run.seconds / (60 * minutes)))
    return run.finish()


class _Run:
    """An agent in training: its curve, its tests in the real game, and what is on the disk."""

    def __init__(
        self,
        folder: Path,
        agent: Agent,
        learner: ActorCritic,
        game: RealGameConfig,
        test: RealTestConfig,
        begun: Mapping[str, Any],
        seed: int,
    ):
        self.folder, self.agent, self.learner, self.seed = folder, agent, learner, seed
        self.game, self.test, self.begun = game, test, dict(begun)
        self.curve, self.tests, self.seconds = list[dict[str, float]](), dict[int, float](), 0.0
        self.first = _copied(agent.policy)
        self.best, self._saved = self.first, time.monotonic()

    def resume(self) -> None:
        """Goes on from a checkpoint in the folder, if there is one."""
        state = read_checkpoint(self.folder / CHECKPOINT)
        if state is None:
            empty = not self.folder.exists() or not any(self.folder.iterdir())
            require(empty, f"{self.folder}: holds other things already; choose another --out")
            return
        require(
            state["begun"] == self.begun,
            f"{self.folder} was begun with {state['begun']}, not {self.begun}; take the same "
            "options, or another --out",
        )
        self.learner.restore(state["learner"])
        for name in ("curve", "tests", "seconds", "first", "best"):
            setattr(self, name, state[name])

    def over(self, dreams: int, minutes: float) -> bool:
        """Whether the budget is spent."""
        updates = self.learner.updates
        return bool((dreams and updates >= dreams) or (minutes and self.seconds >= 60 * minutes))

    def add(self, told: Mapping[str, float], seconds: float) -> None:
        """Notes what a batch of dreams brought."""
        self.seconds += seconds
        self.curve.append({"dreams": self.learner.updates, "seconds": self.seconds, **told})

    def test_if_due(self) -> None:
        """Tests the agent in the real game now and then, keeps the best, and saves the run."""
        every, now = self.test.every, self.learner.updates
        if every and now % every == 0 and now not in self.tests:
            self._test(now)
        if now and time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def _test(self, now: int) -> None:
        test = self.test
        levels = {"first_level": test.first_level, "levels": test.levels, "seeds": test.seeds}
        earned = self._measure(replace(self.game, **levels)).mean
        if not self.tests or earned > max(self.tests.values()):
            self.best = _copied(self.agent.policy)
        self.tests[now] = earned

    def _measure(self, game: RealGameConfig) -> Returns:
        return measure(AgentPlayer(self.agent, self.seed, "real"), game, self.seed)

    def _save(self) -> None:
        names = ("begun", "curve", "tests", "seconds", "first", "best")
        state = {name: getattr(self, name) for name in names}
        write_checkpoint(self.folder / CHECKPOINT, {**state, "learner": self.learner.state()})
        self._saved = time.monotonic()

    def finish(self) -> Result:
        """Saves the best agent, with its figures on held-out levels."""
        if self.test.every:
            now = self.learner.updates
            if now not in self.tests:
                self._test(now)
        else:
            self.best = _copied(self.agent.policy)
        self._save()
        report: dict[str, Any] = {
            **self.begun,
            "dreams": self.learner.updates,
            "seconds": self.seconds,
            "curve": self.curve,
            "tests": {str(number): earned for number, earned in self.tests.items()},
        }
        if self.test.every:
            report["held_out"] = self._held_out()
        self.agent.policy.load_state_dict(self.best)
        self.agent.policy.eval()
        self.agent.save_pretrained(self.folder, _lines(report))
        with replacing(self.folder / REPORT) as path:
            path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        return Result(self.folder, report)

    def _held_out(self) -> dict[str, Any]:
        found = {"random play": measure(random_player(self.game, self.seed), self.game, self.seed)}
        for name, weights in (("start", self.first), ("agent", self.best)):
            self.agent.policy.load_state_dict(weights)
            found[name] = self._measure(self.game)
        above = {name: found["agent"].above(found[name]) for name in ("start", "random play")}
        figures = {name: returns.figures() for name, returns in found.items()}
        return {**figures, "above": above, "levels": self.game.levels, "seeds": self.game.seeds}


def _mapper(
    world: Genie,
    folder: Path,
    mapper: str | Path | None,
    start: Agent | None,
    needed: bool,
) -> ActionMapper | None:
    if mapper is None and start is not None and start.mapper is not None:
        return start.mapper
    if mapper is None and not needed:
        return None
    return ActionMapper.from_pretrained(folder if mapper is None else mapper, world)


def _policy(world: Genie, start: Agent | None) -> PolicyNetwork:
    """Returns the network to begin with; real actions are left to the mapper."""
    config = world.config
    if start is None:
        size = PolicyNetworkConfig(config.height, config.width, latent_actions=config.num_actions)
        return PolicyNetwork(size)
    policy = PolicyNetwork(replace(start.config.policy, real_actions=0))
    own = policy.state_dict()
    policy.load_state_dict({name: start.policy.state_dict()[name] for name in own})
    return policy


def _features(rewards: RewardModel) -> FeatureConfig:
    heads = rewards.heads.config
    return FeatureConfig(heads.features, heads.rows, heads.columns)


def _config(world: Genie, policy: PolicyNetwork, mapper: ActionMapper | None) -> AgentConfig:
    return AgentConfig(
        policy.config,
        latent_actions=latent_actions_hash(world),
        made_by="genie agent dream",
        labels=0 if mapper is None else mapper.config.labels,
    )


def _copied(policy: PolicyNetwork) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.state_dict().items()}


def _lines(report: Mapping[str, Any]) -> Sequence[str]:
    """Returns lines for the card of the agent."""
    lines = [f"It learned from {report['dreams']:,} batches of dreams in {report['world']}."]
    if "held_out" not in report:
        return lines
    held = report["held_out"]
    for name in ("agent", "start", "random play"):
        part = held[name]
        interval = f"95 %: {part['low']:.2f} to {part['high']:.2f}"
        lines.append(f"- {name}: mean return {part['mean']:.2f} ({interval})")
    return lines
