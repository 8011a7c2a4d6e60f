"""What a training would take on machines that are not here: memory, work, time and data.

Memory and work come from `simulation`: the real code on tensors without content. Time is work over
the rate of the GPUs at a utilisation that is given, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from genie.core.config import require
from genie.models.layers.transformer import SpaceTimeBlock, TransformerConfig
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training.optimizers import parameter_groups
from genie.training.simulation import StepCost, simulate_step
from genie.training.stages.base import Stage
from genie.training.stages.table import TABLE
from genie.world.config import GenieConfig
from genie.world.genie import Genie

GIB = 2**30
FLOAT = 4
USABLE = 0.92
"""Share of a GPU's memory that is planned with; the rest is for its driver and fragmentation."""
STRATEGIES = ("ddp", "fsdp")
"""All weights on every GPU, or a part of them (FSDP2); those of `train.strategy`."""


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet.

    Attributes:
        memory: bytes.
        bf16, fp32: dense floating-point operations per second.
    """

    memory: float
    bf16: float
    fp32: float


GPUS = {
    "h100": Gpu(79.6 * GIB, 989e12, 67e12),
    "h200": Gpu(140.4 * GIB, 989e12, 67e12),
    "a100": Gpu(80.0 * GIB, 312e12, 19.5e12),
    "a100-40gb": Gpu(40.0 * GIB, 312e12, 19.5e12),
    "l4": Gpu(22.5 * GIB, 121e12, 30.3e12),
    "rtx4090": Gpu(24.0 * GIB, 165e12, 82.6e12),
}


@dataclass(frozen=True)
class Cluster:
    """The machines of a plan.

    Attributes:
        nodes: how many.
        devices: GPUs of each.
        gpu: a name in `GPUS`.
        utilisation: share of the GPU's rate that training reaches.
    """

    nodes: int = 1
    devices: int = 8
    gpu: str = "h100"
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        require(self.nodes >= 1, f"nodes: {self.nodes}, must be at least 1")
        require(self.devices >= 1, f"devices: {self.devices}, must be at least 1")
        require(self.gpu in GPUS, f"gpu: {self.gpu!r} is none of {', '.join(GPUS)}")
        require(0 < self.utilisation <= 1, f"utilisation: {self.utilisation}, must lie in (0, 1]")

    @property
    def ranks(self) -> int:
        """Number of processes, one a GPU."""
        return self.nodes * self.devices


@dataclass(frozen=True)
class RankMemory:
    """Bytes on one GPU at the moment when they are most.

    Attributes:
        weights: with buffers.
        average: of the weights, with buffers.
        optimizer: its state.
        gradients: those that are kept until the optimizer's step.
        exchange: buffers for what processes send each other, and weights gathered for a while.
        activations: and all else that a step computes.
    """

    weights: int
    average: int
    optimizer: int
    gradients: int
    exchange: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(getattr(self, field.name) for field in fields(self))


class StagePlan:
    """What one stage takes.

    Args:
        name: of the stage.
        world: sizes of the models.
        train: the schedule.
        cluster: the machines.

    Raises:
        UserError: the batch does not divide by the processes.
    """

    def __init__(self, name: str, world: GenieConfig, train: TrainConfig, cluster: Cluster) -> None:
        self.name, self.world, self.train, self.cluster = name, world, train, cluster
        stage, self.model, self._loss = _on_meta(TABLE[name], world, train)
        self.stage: StageConfig = stage
        shares = cluster.ranks * stage.grad_accum_steps
        require(
            stage.batch_size % shares == 0,
            f"train.{name}.batch_size: {stage.batch_size} clips do not divide by {cluster.ranks} "
            f"GPUs times {stage.grad_accum_steps} parts; change batch_size, grad_accum_steps, "
            "nodes or devices",
        )
        self.clips = stage.batch_size // shares
        self.parameters = sum(weight.numel() for weight in self.model.parameters())

    @property
    def strategies(self) -> tuple[str, ...]:
        """Those that can train the stage; Muon needs whole matrices."""
        alone = self.cluster.ranks == 1 or self.stage.optimizer == "muon"
        return STRATEGIES[:1] if alone else STRATEGIES

    def memory(self, strategy: str) -> RankMemory:
        """Returns the bytes that each GPU needs."""
        return self._replicated if strategy == "ddp" else self._sharded

    def fits(self, strategy: str) -> bool:
        """Whether each GPU has the memory."""
        return self.memory(strategy).total <= USABLE * GPUS[self.cluster.gpu].memory

    @cached_property
    def cost(self) -> StepCost:
        """Of a step of one process that keeps all gradients."""
        return self._simulated(shard=1)

    @property
    def seconds(self) -> float:
        """Of one optimizer step."""
        gpu = GPUS[self.cluster.gpu]
        rate = gpu.bf16 if self.train.precision == "bf16" else gpu.fp32
        return self.cost.flops / (rate * self.cluster.utilisation)

    @property
    def steps(self) -> int:
        """Of the whole stage."""
        by_time = 60 * self.stage.minutes / self.seconds
        steps = [count for count in (self.stage.steps, by_time) if count]
        return round(min(steps, default=0))

    @property
    def bytes_per_second(self) -> float:
        """What all processes together read."""
        frames = self.stage.batch_size * self.stage.clip_frames / self.seconds
        size = bytes_per_frame(self.world)
        from_video = self.name != "dynamics" or self.train.joint
        return frames * (
            (size["frames"] if from_video else 0)
            + (size["tokens"] + size["actions"] if self.name == "dynamics" else 0)
        )

    def _simulated(self, shard: int) -> StepCost:
        return simulate_step(
            self.model,
            partial(self._loss, self.clips),
            micro_batches=self.stage.grad_accum_steps,
            bf16=self.train.precision == "bf16",
            shard=shard,
        )

    @cached_property
    def _replicated(self) -> RankMemory:
        weights = FLOAT * self.parameters
        several = self.cluster.ranks > 1
        activations = self.cost.peak - weights  # the simulation has the gradients as well
        return RankMemory(
            weights=weights + self._buffers,
            average=weights + self._buffers,
            optimizer=self._optimizer_bytes,
            gradients=weights,
            exchange=weights if several else 0,
            activations=max(activations, self._update_bytes),
        )

    @cached_property
    def _sharded(self) -> RankMemory:
        ranks = self.cluster.ranks
        blocks, rest = _block_sizes(self.model)
        part = -(-FLOAT * self.parameters // ranks)
        largest = max(blocks, default=0)
        return RankMemory(
            weights=part + self._buffers,
            average=part + self._buffers,
            optimizer=-(-self._optimizer_bytes // ranks),
            gradients=part,
            # A block is computed while the next one is gathered and the last one's gradients leave.
            exchange=FLOAT * (rest + 3 * largest),
            activations=max(
                self._simulated(shard=ranks).peak - part, -(-self._update_bytes // ranks)
            ),
        )

    @property
    def _buffers(self) -> int:
        return sum(buffer.nbytes for buffer in self.model.buffers())

    @cached_property
    def _groups(self) -> dict[str, int]:
        groups = parameter_groups(self.model)
        return {name: FLOAT * sum(p.numel() for p in group) for name, group in groups.items()}

    @property
    def _optimizer_bytes(self) -> int:
        groups = self._groups
        hidden = (1 if self.stage.optimizer == "muon" else 2) * groups["hidden"]
        return hidden + 2 * (groups["matrices"] + groups["rest"])

    @property
    def _update_bytes(self) -> int:
        """AdamW takes a second copy of what it updates, while it does."""
        groups = self._groups
        adamw = groups["matrices"] + groups["rest"]
        return adamw + (0 if self.stage.optimizer == "muon" else groups["hidden"])


def plan(
    world: GenieConfig, train: TrainConfig, cluster: Cluster, stages: tuple[str, ...]
) -> list[StagePlan]:
    """Returns the plans of some stages, of those that have a budget.

    Raises:
        UserError: a batch does not divide by the processes.
    """
    names = [name for name in stages if not TABLE[name].joined(train)]
    return [
        StagePlan(name, world, train, cluster)
        for name in names
        if not TABLE[name].config(train).skipped
    ]


def what_would_fit(stage: StagePlan) -> str:
    """Says what to change so that a stage fits that does not, "" where nothing that is tried does.

    Tried are, in this order: recomputing activations, smaller parts of a batch, both, and with both
    more machines.
    """
    for change, changed in _alternatives(stage):
        strategy = changed.strategies[-1]  # which needs least
        if changed.fits(strategy):
            return f"{change} ({strategy}, {changed.memory(strategy).total / GIB:.1f} GiB)"
    return ""


def bytes_per_frame(world: GenieConfig) -> dict[str, int]:
    """Returns the bytes of a frame as pixels before compression, as tokens and as an action."""
    tokenizer = _world_on_meta(world).tokenizer
    token = 2 if tokenizer.vocabulary <= 2**16 else 4
    return {
        "frames": world.height * world.width * 3,
        "tokens": tokenizer.tokens_per_frame * token,
        "actions": 8,
    }


def _alternatives(stage: StagePlan) -> Iterator[tuple[str, StagePlan]]:
    name, cluster, config = stage.name, stage.cluster, stage.stage
    recomputing = replace(stage.world, **{name: _with_recomputation(getattr(stage.world, name))})
    recompute = f"activation_checkpointing of {name}"
    parts = [
        replace(config, grad_accum_steps=config.grad_accum_steps * stage.clips // clips)
        for clips in range(stage.clips - 1, 0, -1)
        if stage.clips % clips == 0
    ]
    yield recompute, StagePlan(name, recomputing, stage.train, cluster)
    for words, world in (("", stage.world), (f"{recompute} and ", recomputing)):
        for part in parts:
            train = replace(stage.train, **{name: part})
            yield (
                f"{words}train.{name}.grad_accum_steps={part.grad_accum_steps}",
                StagePlan(name, world, train, cluster),
            )
    smallest = replace(config, grad_accum_steps=1)
    train = replace(stage.train, **{name: smallest})
    nodes = 2 * cluster.nodes
    while config.batch_size % (nodes * cluster.devices) == 0:
        larger = replace(cluster, nodes=nodes)
        yield f"{recompute} on {nodes} nodes", StagePlan(name, recomputing, train, larger)
        nodes *= 2


def _with_recomputation(config: Any) -> Any:
    """A configuration of a model all of whose transformers recompute activations."""
    changes = {
        field.name: _with_recomputation(value)
        for field in fields(config)
        if is_dataclass(value := getattr(config, field.name))
    }
    if isinstance(config, TransformerConfig):
        changes["activation_checkpointing"] = True
    return replace(config, **changes)


def _world_on_meta(config: GenieConfig) -> Genie:
    with torch.device("meta"):
        world = Genie(config)
    world.to("meta")  # some constants are computed on the CPU
    for module in world.modules():
        if hasattr(module, "known_initialized"):
            vars(module)["known_initialized"] = True  # as in all steps but the first
    return world.train()


def _on_meta(
    stage: Stage, config: GenieConfig, train: TrainConfig
) -> tuple[StageConfig, nn.Module, Any]:
    """The budget of a stage, its model, and what computes the loss of some clips."""
    world, budget = _world_on_meta(config), stage.config(train)
    model = stage.model(world, train).train()

    def loss(clips: int) -> Tensor:
        frames = torch.empty(
            clips,
            budget.clip_frames,
            config.height,
            config.width,
            3,
            dtype=torch.uint8,
            device="meta",
        )
        inputs: tuple[Tensor, ...] = (frames,)
        if stage.name == "dynamics":
            shape = (clips, budget.clip_frames, world.tokenizer.tokens_per_frame)
            tokens = torch.empty(shape, dtype=torch.int64, device="meta")
            inputs = (tokens, frames if train.joint else tokens[:, 1:, 0])
        return model.loss(*inputs, progress=1.0)[0]  # type: ignore[operator]

    return budget, model, loss


def _block_sizes(model: nn.Module) -> tuple[list[int], int]:
    """The parameters of each block that is gathered by itself, and of all else."""
    parts = [module for module in model.modules() if isinstance(module, SpaceTimeBlock)]
    blocks = [sum(p.numel() for p in block.parameters()) for block in parts]
    return blocks, sum(p.numel() for p in model.parameters()) - sum(blocks)
