"""The stage that trains heads for reward and end of an episode on the dynamics' features."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from genie.core.config import require
from genie.core.io import replacing
from genie.core.progress import say
from genie.training.batches import RewardBatches
from genie.training.stage import read_state
from genie.training.stages.base import Stage, StageContext, StageInputs
from genie.training.token_cache import fingerprint, precompute_actions, precompute_tokens
from genie.world.action_mapper import smoothed_shares
from genie.world.reward_figures import Section, measure_reward, require_outcomes
from genie.world.reward_model import FOLDER, RewardModel, RewardModelConfig, hashes, new_heads

if TYPE_CHECKING:
    from genie.data.store import ClipStore, Episode
    from genie.presets.schedule import RewardStageConfig, TrainConfig
    from genie.world.genie import Genie


class RewardStage(Stage):
    """Trains `RewardHeads` on episodes whose rewards and ends are known."""

    name = "reward"
    needs = ("tokenizer", "actions", "dynamics")
    optional = True

    def model(self, world: Genie, train: TrainConfig) -> nn.Module:
        """Returns new heads for the world's features."""
        return new_heads(world)

    def inputs(self, context: StageContext) -> StageInputs:
        """Returns steps with features of the frames before them, which are computed anew."""
        store, world, stage = context.store, context.world, context.run.train.reward
        require_outcomes(store)
        episodes = labelled_episodes(store, stage, context.run.train.seed)
        world.to(context.device)
        tokens, _ = context.precompute(
            "tokens",
            lambda told: precompute_tokens(store, world.tokenizer, stage.clip_frames, told),
        )
        actions = context.precompute(
            "actions", lambda told: precompute_actions(store, world.actions, told)
        )
        dynamics = world.dynamics

        def features(tokens, actions):
            return dynamics.features(tokens.to(world.device), actions.to(world.device)).float()

        evidence = evidence_of_labels(store, actions, world.config.num_actions)
        read = RewardBatches(
            store,
            stage.clip_frames,
            stage.batch_size,
            features,
            tokens,
            actions,
            evidence,
            episodes,
        )
        models = (world.tokenizer, world.actions, world.dynamics)
        return StageInputs(read, fingerprint=fingerprint(*models))

    def report(self, context: StageContext) -> None:
        """Saves the heads beside the world, and prints how good they are on held-out episodes."""
        world, folder = context.world, context.run.folder / FOLDER
        heads = new_heads(world)
        state = read_state(context.run.checkpoint(self.name))
        assert state is not None
        heads.load_state_dict(state["average"])
        RewardModel(RewardModelConfig(heads.config, hashes(world.cpu())), heads).save_pretrained(
            folder
        )
        store = context.store
        split = next((each for each in ("val", "test") if each in store.splits), "train")
        world.to(context.device)
        found = context.precompute(
            "figures of the reward heads",
            lambda told: measure_reward(
                world, heads.to(context.device).eval(), store, split, on_batch=told
            ),
        )
        world.cpu()
        with replacing(folder / "report.json") as path:
            path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        for line in lines(found):
            say(context.run.console, line)


def lines(found: Section) -> list[str]:
    """Returns sentences with the figures of heads."""
    end, reward = found["end"], found["reward"]
    shown = {key: "-" if part["auc"] is None else f"{part['auc']:.3f}" for key, part in
             (("end", end), ("reward", reward))}  # fmt: skip
    return [
        f"reward heads on {found['steps']:,} steps of the {found['split']!r} split:",
        f"  end: AUC {shown['end']}, Brier score {end['brier']:.4f} (constant "
        f"{end['brier_constant']:.4f}), calibration error {end['calibration_error']:.4f}, "
        f"{end['predicted']:.4f} predicted and {end['happened']:.4f} happened",
        f"  reward: AUC {shown['reward']}, squared error {reward['squared_error']:.3f} (constant "
        f"{reward['squared_error_constant']:.3f}), {reward['predicted']:.3f} predicted and "
        f"{reward['earned']:.3f} earned a step",
    ]


def evidence_of_labels(store: ClipStore, actions: np.ndarray, count: int) -> np.ndarray:
    """Returns the log-likelihood f32 (N,A) of each step's true action beside each latent one.

    It is 0 where the true action is unknown. The likelihoods are those of the training split.
    """
    labels, evidence = store.labels(last=True), np.zeros((len(store), count), np.float32)
    if labels is None:
        return evidence
    rows = store.frames_in_split("train")
    rows = rows[(labels[rows] >= 0) & (actions[rows] >= 0)]
    size = int(labels.max()) + 1
    both = np.bincount(actions[rows] * size + labels[rows], minlength=count * size)
    shares = smoothed_shares(torch.from_numpy(both.reshape(count, size))).numpy()
    known = labels >= 0
    evidence[known] = np.log(shares).T[labels[known]]
    return evidence


def labelled_episodes(store: ClipStore, stage: RewardStageConfig, seed: int) -> list[Episode]:
    """Returns the training episodes to learn from, which have a known outcome and a whole clip.

    Raises:
        UserError: there are none, or not as many as are asked for.
    """
    rewards, ends = require_outcomes(store)
    known = np.isfinite(rewards) & (ends >= 0)
    fitting = [
        e
        for e in store.episodes_in_split("train")
        if e.length >= stage.clip_frames and known[e.start : e.start + e.length].any()
    ]
    wanted = stage.episodes or len(fitting)
    require(
        len(fitting) >= max(1, wanted),
        f"train.reward.episodes: {wanted:,}, but {store.path} has {len(fitting):,} training "
        f"episodes of {stage.clip_frames} frames or more whose rewards are known; ask for fewer, "
        "record more, or set train.reward.clip_frames lower",
    )
    order = np.random.default_rng([seed, 23]).permutation(len(fitting))
    return [fitting[i] for i in sorted(order[:wanted])]


STAGE = RewardStage()
