"""Budgets, optimizers and learning rates of the stages: configuration and pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from genie.core.config import require

WARMUP_FRACTION = 0.1
"""Warm-up ends after this share of the budget at the latest, whatever `warmup_steps` says."""

DECAY_FRACTION = 0.2
"""Last share of the budget in which the "wsd" schedule decays."""

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
"""Where training can run."""


LoggerName = Literal["tensorboard", "csv", "wandb"]
"""Where scalars go; `wandb` is Weights & Biases, an extra of the package."""


@dataclass(frozen=True)
class StageConfig:
    """Training of one model. A stage ends when `steps` or `minutes` is spent, whichever is first.

    A stage with neither is left out. Only a run that continues from another world can do that.

    Attributes:
        steps: optimizer steps; 0 for no limit.
        minutes: training time, counted over all resumed runs; 0 for no limit.
        batch_size: clips per optimizer step, over all devices and accumulation parts together.
        clip_frames: frames of one clip.
        learning_rate: learning rate at the end of the warm-up.
        final_learning_rate: learning rate at the end of the budget.
        warmup_steps: steps of linear warm-up; at most a tenth of the budget is used for it.
        lr_schedule: "cosine" (half a cosine over the budget), "wsd" (constant, then linear over the
            last fifth) or "constant".
        optimizer: "adamw", or "muon" (Muon on the hidden matrices, AdamW on the rest).
        beta2: decay of AdamW's mean of squared gradients; the smaller the batch, the closer to 1
            it should be.
        muon_lr_scale: learning rate of Muon, where it is used, as a multiple of `learning_rate`,
            which AdamW has; its weight decay grows alike.
        weight_decay: weight decay, on the weights of linear and convolution layers only.
        gradient_clip: largest global gradient norm; 0 for none.
        ema_decay: decay of the averaged weights, which are what is saved as the world.
        grad_accum_steps: parts that a batch is computed in one after the other, to save memory.
    """

    steps: int = 0
    minutes: float = 0.0
    batch_size: int = 16
    clip_frames: int = 16
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-5
    warmup_steps: int = 200
    lr_schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    optimizer: Literal["adamw", "muon"] = "adamw"
    beta2: float = 0.95
    muon_lr_scale: float = 1.0
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    grad_accum_steps: int = 1

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps: {self.steps} is negative")
        require(0 <= self.minutes < math.inf, f"minutes: {self.minutes} is not a time")
        require(self.batch_size >= 1, f"batch_size: {self.batch_size}, must be at least 1")
        require(self.clip_frames >= 2, f"clip_frames: {self.clip_frames}, must be at least 2")
        require(
            0 < self.learning_rate < math.inf,
            f"learning_rate: {self.learning_rate}, must be above 0",
        )
        require(
            0 <= self.final_learning_rate <= self.learning_rate,
            f"final_learning_rate: {self.final_learning_rate}, must lie between 0 and "
            f"learning_rate ({self.learning_rate})",
        )
        require(self.warmup_steps >= 0, f"warmup_steps: {self.warmup_steps} is negative")
        require(0 <= self.beta2 < 1, f"beta2: {self.beta2}, must lie in [0, 1)")
        require(
            0 < self.muon_lr_scale < math.inf,
            f"muon_lr_scale: {self.muon_lr_scale}, must be above 0",
        )
        require(self.weight_decay >= 0, f"weight_decay: {self.weight_decay} is negative")
        require(self.gradient_clip >= 0, f"gradient_clip: {self.gradient_clip} is negative")
        require(0 <= self.ema_decay < 1, f"ema_decay: {self.ema_decay}, must lie in [0, 1)")
        require(
            self.grad_accum_steps >= 1,
            f"grad_accum_steps: {self.grad_accum_steps}, must be at least 1",
        )
        require(
            self.batch_size % self.grad_accum_steps == 0,
            f"grad_accum_steps: {self.batch_size} clips do not divide into "
            f"{self.grad_accum_steps} parts",
        )

    @property
    def skipped(self) -> bool:
        """Whether the stage has no budget at all."""
        return self.steps == 0 and self.minutes == 0

    @property
    def in_worlds(self) -> bool:
        """Whether its model is a part of every world, so that runs from worlds go on with it."""
        return True


@dataclass(frozen=True)
class RewardStageConfig(StageConfig):
    """Training of the heads for reward and end of an episode.

    Attributes:
        episodes: how many episodes with known rewards to learn from; 0 takes all.
    """

    batch_size: int = 32
    clip_frames: int = 8
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    warmup_steps: int = 20
    ema_decay: float = 0.99
    episodes: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.episodes >= 0, f"episodes: {self.episodes} is negative")

    @property
    def in_worlds(self) -> bool:
        """Worlds have no such heads before the stage has run."""
        return False


@dataclass(frozen=True)
class Augmentation:
    """Changes of the clips that the tokenizer and the latent action model train on. All are off.

    They do not reach the dynamics, which train on tokens that were computed once from the videos as
    they are.

    Attributes:
        flip_prob: share of the clips that are mirrored left to right, whole.
        color_jitter: strength in [0, 1] with which brightness, contrast, saturation and hue change,
            each clip's in its own way, the same over the clip.
        max_stride: a clip is made of every k-th frame, with a random k from 1 to this number, or
            less if its episode is too short. Then the latent actions also explain larger steps.
    """

    flip_prob: float = 0.0
    color_jitter: float = 0.0
    max_stride: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.flip_prob <= 1, f"flip_prob: {self.flip_prob}, must lie in [0, 1]")
        require(
            0 <= self.color_jitter <= 1, f"color_jitter: {self.color_jitter}, must lie in [0, 1]"
        )
        require(self.max_stride >= 1, f"max_stride: {self.max_stride}, must be at least 1")


@dataclass(frozen=True)
class ReadBack:
    """Training of the dynamics on their own rollouts in which actions are read best. It is off.

    Rollouts and scores take time: with the defaults a step of `coinrun-tiny` on a CPU takes about
    three times as long. Its first measurement showed no gain (docs/experiments).

    Attributes:
        weight: weight of the loss of the best rollouts beside that of the videos; 0 plays none.
        rollouts: number of them that go on from each clip, of which the best one is learned.
        steps: frames of a rollout.
        passes: MaskGIT steps of a frame.
        held_fraction: fraction of the clips whose rollouts hold one random action. The rollouts of
            the others repeat the actions of the clip.
    """

    weight: float = 0.0
    rollouts: int = 4
    steps: int = 3
    passes: int = 2
    held_fraction: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.weight < math.inf, "weight: must be finite and not negative")
        require(2 <= self.rollouts <= 64, f"rollouts: {self.rollouts}, must lie in [2, 64]")
        require(1 <= self.steps <= 64, f"steps: {self.steps}, must lie in [1, 64]")
        require(1 <= self.passes <= 64, f"passes: {self.passes}, must lie in [1, 64]")
        require(0 <= self.held_fraction <= 1, "held_fraction: must lie in [0, 1]")


@dataclass(frozen=True)
class TrainConfig:
    """Training of a world: one `StageConfig` per stage, and what the stages share.

    Attributes:
        tokenizer: the stage that trains `VideoTokenizer` on frames.
        actions: the stage that trains `LatentActionModel` on frames.
        dynamics: the stage that trains `Dynamics` on cached tokens and actions.
        reward: the stage that trains heads for reward and end of an episode on features of the
            dynamics. It needs videos with sidecars, and is left out without steps or minutes.
        seed: determines the weights, the order of clips and all random numbers inside a step.
        precision: "32", or "bf16" for mixed precision.
        compile: whether to pass the losses through `torch.compile`. It compiles for about a minute
            in the second step of a stage and in the first of a resumed one. Latent actions compile
            once more when their codebook is initialized. This time does not count in the budget. A
            CPU gains little.
        joint: train the latent action model inside the dynamics stage, by its own loss, instead of
            in a stage before it.
        prompt_encoding_fraction: share of the dynamics clips whose tokens were encoded from their
            own first frame, as those of a prompt are. Only used if the tokenizer's encoder sees the
            past.
        balanced_actions: share of the dynamics clips whose last latent action is each action in
            turn, so that rare ones are seen more often (`training/balance.py`).
        augmentation: changes of the clips of frames.
        read_back: whether the dynamics also learn from their own rollouts, by how well the latent
            action model reads the actions (`training/read_back.py`).
        checkpoint_minutes: write a checkpoint at least this often; 0 for never by time.
        checkpoint_steps: write a checkpoint every so many steps; 0 for never by steps.
        log_every: steps between two rows of scalars.
        loggers: where scalars, previews and warnings go: `tensorboard`, `csv` (scalars only) and
            `wandb` (Weights & Biases; offline where `WANDB_MODE` is `offline`).
        previews_every: steps between two sets of previews; 0 for none at all.
        diagnostics_every: fewest steps between two diagnostics; 0 for none. All but the first take
            at most a hundredth of the time.
        accelerator: where to train; "auto" takes the GPU when there is one.
        devices: how many on each machine; "auto" for all there are.
        nodes: how many machines. More than one needs `torchrun` or Slurm to start the processes.
        strategy: how processes share a model. With "ddp" each has all of its weights. With "fsdp"
            each keeps a part of weights, gradients and optimizer, and checkpoints are folders; for
            models that do not fit on one GPU. A run keeps the strategy that it was begun with.
        shard_over: how many processes divide one copy of the weights with "fsdp"; 0 for all. The
            number of GPUs of a machine keeps the gathering of weights inside of machines.
        workers: threads that read clips ahead.
    """

    tokenizer: StageConfig = StageConfig(steps=20_000)
    actions: StageConfig = StageConfig(steps=20_000)
    dynamics: StageConfig = StageConfig(steps=20_000)
    reward: RewardStageConfig = RewardStageConfig()
    seed: int = 0
    precision: Literal["32", "bf16"] = "32"
    compile: bool = False
    joint: bool = False
    prompt_encoding_fraction: float = 0.25
    balanced_actions: float = 0.0
    augmentation: Augmentation = Augmentation()
    read_back: ReadBack = ReadBack()
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int = 1000
    log_every: int = 20
    loggers: tuple[LoggerName, ...] = ("tensorboard",)
    previews_every: int = 1000
    diagnostics_every: int = 200
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    shard_over: int = 0
    workers: int = 2

    @property
    def stages(self) -> dict[str, StageConfig]:
        """The stages by name, in the order in which they train."""
        values = {row.name: getattr(self, row.name) for row in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, StageConfig)}

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed: {self.seed} is negative")
        share = self.prompt_encoding_fraction
        require(0 <= share <= 1, f"prompt_encoding_fraction: {share}, must lie in [0, 1]")
        require(0 <= self.balanced_actions <= 1, "balanced_actions: must lie in [0, 1]")
        require(
            not (self.joint and self.balanced_actions),
            "balanced_actions: in joint training the actions are not known before; set it to 0",
        )
        require(
            not (self.joint and self.read_back.weight),
            "read_back.weight: in joint training the model that reads the actions is not trained "
            "before; set it to 0, or joint to false",
        )
        require(
            not self.read_back.weight or self.read_back.steps < self.dynamics.clip_frames,
            f"read_back.steps: {self.read_back.steps}, must be below dynamics.clip_frames "
            f"({self.dynamics.clip_frames}), because rollouts go on from frames of a clip",
        )
        require(self.checkpoint_minutes >= 0, "checkpoint_minutes: must not be negative")
        require(self.checkpoint_steps >= 0, "checkpoint_steps: must not be negative")
        require(self.log_every >= 1, f"log_every: {self.log_every}, must be at least 1")
        require(self.previews_every >= 0, f"previews_every: {self.previews_every} is negative")
        require(
            self.diagnostics_every >= 0, f"diagnostics_every: {self.diagnostics_every} is negative"
        )
        require(self.devices == "auto" or self.devices >= 1, f"devices: {self.devices} is below 1")
        require(self.nodes >= 1, f"nodes: {self.nodes}, must be at least 1")
        if self.strategy == "fsdp":
            self._check_sharding()
        require(self.shard_over >= 0, f"shard_over: {self.shard_over} is negative")
        require(
            self.strategy == "fsdp" or not self.shard_over,
            "train.shard_over: with 'ddp' each process has all weights; set strategy to 'fsdp'",
        )
        require(self.workers >= 1, f"workers: {self.workers}, must be at least 1")

    def _check_sharding(self) -> None:
        muon = [
            name
            for name, stage in self.stages.items()
            if stage.optimizer == "muon" and not stage.skipped
        ]
        require(
            not muon,
            "train.strategy: Muon orthogonalises whole matrices, but with 'fsdp' each process has "
            f"a part of each; set the optimizer of train.{' and train.'.join(muon)} to 'adamw', or "
            "strategy to 'ddp'",
        )
        require(
            not self.compile,
            "train.strategy: 'fsdp' gathers weights between blocks, where a graph would have to "
            "break; set compile to false",
        )
        require(
            not self.read_back.weight,
            "train.strategy: own rollouts run blocks in a way that does not gather sharded "
            "weights; set read_back.weight to 0, or strategy to 'ddp'",
        )


def progress(stage: StageConfig, step: int, seconds: float) -> float:
    """Returns the share of a stage's budget that is spent, in [0, 1].

    Args:
        stage: the budget.
        step: optimizer steps done.
        seconds: training time spent. Without a budget in minutes it has no influence.
    """
    by_steps = step / stage.steps if stage.steps else 0.0
    by_time = seconds / (60 * stage.minutes) if stage.minutes else 0.0
    return min(1.0, max(by_steps, by_time))


def lr_scale(stage: StageConfig, step: int, progress: float) -> float:
    """Returns the learning rate as a share of `stage.learning_rate`.

    Args:
        stage: the schedule.
        step: optimizer steps done, which the warm-up counts.
        progress: share of the budget spent, in [0, 1], which the decay follows.
    """
    warmup = min(1.0, max((step + 1) / max(1, stage.warmup_steps), progress / WARMUP_FRACTION))
    final = stage.final_learning_rate / stage.learning_rate
    return warmup * (final + (1 - final) * _lr_schedule(stage.lr_schedule, progress))


def _lr_schedule(kind: str, progress: float) -> float:
    if kind == "constant":
        return 1.0
    if kind == "wsd":
        return min(1.0, (1 - progress) / DECAY_FRACTION)
    return 0.5 * (1 + math.cos(math.pi * progress))
