"""`genie agent clone`: a policy from expert video without labels, tested in the real game."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from genie.agents.agent import Agent, AgentPlayer
from genie.agents.cloning.decoders import DECODERS, Decoder, Decoding, from_labels_alone, real_agent
from genie.agents.cloning.expert_steps import ExpertSteps, read_expert
from genie.agents.cloning.fit import CloneConfig, fit_policy
from genie.agents.cloning.study import Study
from genie.agents.labelled_steps import held_out_split, require_labels, require_size
from genie.agents.mapper import Information
from genie.agents.real_game import (
    RealGameConfig,
    Returns,
    action_names,
    measure,
    random_player,
    require_recorded,
    steady_player,
)
from genie.core.config import Device, UserError, require, to_dict
from genie.core.io import replacing
from genie.core.numbers import seed_of
from genie.core.progress import Bars, progress_bars
from genie.data.store import ClipStore
from genie.models.policy_network import PolicyNetwork
from genie.world.action_mapper import latent_actions_hash
from genie.world.genie import Genie
from genie.world.hub import world_folder

Section = dict[str, Any]
_SHUFFLED: dict[str, Decoder] = {
    "shuffled, dictionary": "dictionary",
    "shuffled, head": "head",
}
"""Policies over shuffled latent actions, by name in the report, with their decoders."""


@dataclass(frozen=True)
class CloneResult:
    """What `clone` made.

    Attributes:
        folder: of the agent.
        report: its figures, as in `report.json` there.
    """

    folder: Path
    report: Section


def clone(
    world: str | Path,
    data: str | Path,
    *,
    labels: int = 500,
    decoder: Decoder = "head",
    out: str | Path | None = None,
    counts: Sequence[int] = (),
    decoders: Sequence[Decoder] = DECODERS,
    baselines: bool = True,
    training: CloneConfig | None = None,
    game: RealGameConfig | None = None,
    seed: int = 0,
    device: Device | None = None,
    progress: bool = True,
) -> CloneResult:
    """Clones an expert from video whose actions are unknown, but for a few labelled steps.

    The latent actions of all steps train the policy. The labelled steps then say which real actions
    it stands for. What was trained and played is kept in the folder, so the same call goes on after
    an interruption.

    Args:
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        data: clip store of expert video. Its sidecar files give the labelled steps and the figures.
        labels: how many labelled steps the agent is made from.
        decoder: what turns latent into real actions. dictionary is the paper's, network also
            sees the frame, head reads the features of the policy, finetuned goes on to train it.
        out: folder of the agent; `agents/NAME` when left out.
        counts: numbers of labels for which the figures are measured too, such as [50,500,5000].
            Shuffled latent actions are measured with `labels` only.
        decoders: kinds of decoders that are measured.
        baselines: measure the oracle, which has all labels, cloning from the labels alone and
            latent actions that are shuffled among the steps.
        training: how policies are trained.
        game: the real game. Its levels must not be those of the video.
        seed: determines all that is sampled.
        device: where latent actions are inferred; chosen when left out.
        progress: show progress bars.

    Returns:
        The folder and the figures.

    Raises:
        UserError: the store has no true actions or not as many, other actions than the game or
            frames of another size; or the folder cannot be written.
    """
    for number in (labels, *counts):
        require(number >= 1, f"labels: {number}, at least 1 labelled step is needed")
    training, game, seed = training or CloneConfig(), game or RealGameConfig(), seed_of(seed)
    folder = Path(out) if out is not None else Path("agents") / Path(world).name
    genie, store = Genie.from_pretrained(world_folder(world), device), ClipStore.open(data)
    _require_fit(genie, store, game)
    bars = progress_bars(progress)
    with bars("Latent actions", len(store.episodes)) as tick:
        steps, unseen = (
            read_expert(genie, store, split, tick) for split in ("train", held_out_split(store))
        )
    pool = steps.labelled(max(labels, *counts, 0), seed)
    kept = Study(folder / "study", {
        "world": latent_actions_hash(genie), "video": _fingerprint(store), "seed": seed,
        "training": to_dict(training), "game": to_dict(game),
    })  # fmt: skip
    cloning = _Cloning(kept, genie, steps, pool, training, seed, bars)
    measuring = _Measuring(kept, unseen, game, seed, bars)
    known = Information.of(pool.take(torch.arange(labels)).pairs(), seed)
    if not known.above_chance:
        warnings.warn(known.warning(labels), stacklevel=2)
    agent = cloning.agent(decoder, labels)
    report: Section = {
        "world": Path(world).name,
        "data": Path(data).name,
        "labels": labels,
        "decoder": decoder,
        "game": to_dict(game),
        "expert": _about_expert(steps, unseen) | {"loss": cloning.loss("latent")},
        "references": measuring.references(cloning, baselines),
    }
    _note_weak_oracle(report["references"])
    report["curve"] = []
    for number in sorted({labels, *counts}):
        kinds = [*decoders, *(["labels alone"] if baselines else ())]
        if baselines and number == labels:  # the others would be alike
            kinds += _SHUFFLED
        report["curve"].append(_curve_line(cloning, measuring, number, kinds, baselines))
    agent.save_pretrained(folder, _card_lines(report))
    _write(report, folder)
    return CloneResult(folder, report)


def _fingerprint(store: ClipStore) -> str:
    """SHA-256 of which video it is."""
    return hashlib.sha256(" ".join(e.hash for e in store.episodes).encode()).hexdigest()


def _require_fit(world: Genie, store: ClipStore, game: RealGameConfig) -> None:
    require_labels(store)
    require_size(world, store)
    held_out_split(store)
    require_recorded(store, game)
    names, own = action_names(game), store.action_names or []
    require(
        names == own,
        f"{game.env} has the actions {', '.join(names)}, {store.path} has {', '.join(own)}; "
        "name the game of the video with --game.env",
    )


def _note_weak_oracle(references: Section) -> None:
    """Says when the game cannot tell a good clone from a constant action."""
    steady = references["commonest action"]
    if "oracle" in references and references["oracle"]["mean"] <= steady["high"]:
        warnings.warn(
            f"the oracle earns {references['oracle']['mean']:.2f} and the commonest action alone "
            f"{steady['mean']:.2f}: shares of the oracle's return say little about what was "
            "learned; record more expert video, or train for longer",
            stacklevel=3,
        )


class _Cloning:
    """The policies, each trained once."""

    def __init__(
        self, kept: Study, world: Genie, steps: ExpertSteps, pool: ExpertSteps,
        config: CloneConfig, seed: int, bars: Bars,
    ):  # fmt: skip
        self._kept, self._steps, self._pool = kept, steps, pool
        self._config, self._seed, self._bars = config, seed, bars
        self._latent = latent_actions_hash(world)
        self._decodings = dict[str, Decoding]()

    def decoding(self, name: str) -> Decoding:
        """How a policy over latent actions, or over shuffled ones, comes to real ones."""
        if name not in self._decodings:
            pool = self._pool.shuffled(self._seed) if name == "shuffled" else self._pool
            self._decodings[name] = Decoding.of(
                self._trained(name)[0], pool, self._config, self._latent, self._seed
            )
        return self._decodings[name]

    def loss(self, name: str) -> float:
        """The loss of a policy on steps that were held back, in nats."""
        return self._trained(name)[1]

    @property
    def commonest(self) -> int:
        """The commonest true action of the labelled steps."""
        return int(self._pool.true.bincount().argmax())

    def oracle(self) -> Agent:
        """Cloned from the true actions of all steps."""
        known = int((self._steps.true >= 0).sum())
        return real_agent(self._trained("oracle")[0], self._steps.names, known)

    def agent(self, kind: str, labels: int) -> Agent:
        """An agent by its name in the report."""
        if kind == "labels alone":
            return from_labels_alone(self._pool, labels, self._config, self._seed)
        if kind in _SHUFFLED:
            return self.decoding("shuffled").agent(_SHUFFLED[kind], labels)
        return self.decoding("latent").agent(cast("Decoder", kind), labels)

    def _trained(self, name: str) -> tuple[PolicyNetwork, float]:
        steps, store = self._steps, self._steps.store
        if name == "shuffled":
            steps = steps.shuffled(self._seed)
        if name == "oracle":
            steps = steps.labelled(int((steps.true >= 0).sum()), self._seed)
        size = (store.height, store.width, steps.num_actions, len(steps.names))
        with torch.random.fork_rng([]):
            torch.manual_seed(self._seed)
            network = PolicyNetwork(self._config.network(*size))
        real = name == "oracle"
        head = network.to_real if real else network.to_latent
        targets = steps.true if real else steps.latent

        def train() -> float:
            with self._bars(f"Policy, {name}", self._config.checks) as tick:
                return fit_policy(network, head, steps, targets, self._config, self._seed, tick)

        return network, self._kept.trained(name, network, train)


class _Measuring:
    """What agents earn, and how often they are right about held-out steps."""

    def __init__(
        self, kept: Study, unseen: ExpertSteps, game: RealGameConfig, seed: int, bars: Bars
    ):
        self._kept, self._game, self._seed, self._bars = kept, game, seed, bars
        self._unseen = unseen.labelled(int((unseen.true >= 0).sum()), seed)

    def references(self, cloning: _Cloning, baselines: bool) -> Section:
        """Random play, the commonest action of the labels, and the oracle with its accuracy."""
        found = {"random play": self._random().figures()}
        found["commonest action"] = self.commonest(cloning).figures()
        if baselines:
            oracle = self._of_agent("oracle", cloning.oracle)
            found["oracle"] = self.earned("oracle", cloning.oracle).figures() | oracle
        return found

    def commonest(self, cloning: _Cloning) -> Returns:
        """What the commonest action of the labelled steps earns, taken all the time."""
        action = cloning.commonest
        player = steady_player(action)
        return self._kept.games(f"action {action}", lambda: self._play("commonest action", player))

    def section(self, name: str, make: Callable[[], Agent], compared: bool) -> Section:
        """The figures of an agent, and its share of the oracle's return above random play."""
        made = _once(make)
        earned, accuracy = self.earned(name, made), self._of_agent(name, made)
        found = earned.figures() | accuracy
        if compared:
            oracle = self._kept.games("oracle", _never)
            found["share"] = earned.share(self._random(), oracle)
        return found

    def earned(self, name: str, make: Callable[[], Agent]) -> Returns:
        """What an agent earns; it is made only if that is not known."""
        return self._kept.games(
            name, lambda: self._play(name, AgentPlayer(make(), self._seed, "real"))
        )

    def _random(self) -> Returns:
        return self._kept.games(
            "random play", lambda: self._play("random play", random_player(self._game, self._seed))
        )

    def _play(self, name: str, player: Any) -> Returns:
        with self._bars(name.capitalize(), self._game.levels * self._game.seeds) as tick:
            return measure(player, self._game, self._seed, tick)

    def _of_agent(self, name: str, make: Callable[[], Agent]) -> Section:
        return self._kept.fact(name, lambda: _accuracy(make(), self._unseen))


def _accuracy(agent: Agent, steps: ExpertSteps) -> Section:
    """How often the likeliest action is the true one, and a sampled one."""
    parts = torch.arange(len(steps)).split(256)
    frames = agent.config.policy.frames
    shares = torch.cat([agent.probabilities(steps.stacks(part, frames), "real") for part in parts])
    right = (shares.argmax(-1) == steps.true).double().mean().item()
    return {"accuracy": right, "sampled": shares.gather(1, steps.true[:, None]).mean().item()}


def _curve_line(
    cloning: _Cloning, measuring: _Measuring, labels: int, kinds: Sequence[str], compared: bool
) -> Section:
    line: Section = {"labels": labels}
    for kind in kinds:
        make = partial(cloning.agent, kind, labels)
        line[kind] = measuring.section(f"{kind}, {labels}", make, compared)
    return line


def _once(make: Callable[[], Agent]) -> Callable[[], Agent]:
    made = list[Agent]()

    def remembered() -> Agent:
        if not made:
            made.append(make())
        return made[0]

    return remembered


def _never() -> Returns:
    raise AssertionError("the oracle plays first")


def _about_expert(steps: ExpertSteps, unseen: ExpertSteps) -> Section:
    """How much video there is, what the expert earned, and what latent actions say of it."""
    known = unseen.labelled(int((unseen.true >= 0).sum()), 0)
    information = Information.of(known.pairs())
    shares = torch.bincount(known.true, minlength=len(known.names)) / len(known)
    latent = torch.bincount(unseen.latent, minlength=unseen.num_actions) / len(unseen)
    found: Section = {
        "steps": len(steps),
        "held_out": len(known),
        "mutual_information": {"found": information.found, "chance_95": information.chance},
        "entropy": {"true": _entropy(shares), "latent": _entropy(latent)},
        "commonest": shares.max().item(),
    }
    earned = _recorded_return(steps.store)
    return found | ({"return": earned} if earned is not None else {})


def _entropy(shares: torch.Tensor) -> float:
    return -(shares * shares.clamp_min(1e-12).log()).sum().item()


def _recorded_return(store: ClipStore) -> float | None:
    """Mean return of the training episodes that ended by the game's own rules."""
    rewards, ends = store.rewards(), store.ends()
    if rewards is None or ends is None:
        return None
    spans = [slice(e.start, e.start + e.length) for e in store.episodes_in_split("train")]
    earned = [np.nansum(rewards[span]) for span in spans if (ends[span] == 1).any()]
    return float(np.mean(earned)) if earned else None


def _card_lines(report: Section) -> list[str]:
    labels, kind = report["labels"], report["decoder"]
    line = next(line for line in report["curve"] if line["labels"] == labels)
    named = {"this agent": line.get(kind), **report["references"]}
    if "labels alone" in line:
        named["cloned from the labels alone"] = line["labels alone"]
    rows = [
        f"| {name} | {part['mean']:.2f} | {part['low']:.2f} to {part['high']:.2f} |"
        for name, part in named.items()
        if part is not None
    ]
    game = report["game"]
    about = (
        f"Return in `{game['env']}`, {game['levels']} levels of which the expert video has none, "
        f"{game['seeds']} games of each:"
    )
    return [about, "\n".join(["| player | mean | 95 % |", "|---|---|---|", *rows])]


def _write(report: Section, folder: Path) -> None:
    try:
        with replacing(folder / "report.json") as path:
            path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"cannot write a report to {folder}: {error}") from error
