"""`genie plan`: say what a training would take on machines that are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.cli.commands import Command
from genie.cli.commands.train import preset_defaults
from genie.cli.options import values_of
from genie.core.config import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from genie.training.plan import RankMemory, StagePlan


def _options(parser: ArgumentParser) -> None:
    from genie.presets.schedule import TrainConfig
    from genie.world.config import GenieConfig

    parser.add_argument(
        "--preset", type=str, default="tiny", help="named sizes and schedule to start from"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--devices", type=int, default=8, help="GPUs of each machine")
    parser.add_argument("--gpu", default="h100", help="h100, h200, a100, a100-40gb, l4 or rtx4090")
    parser.add_argument(
        "--utilisation",
        type=float,
        default=0.4,
        help="share of the GPU's arithmetic that training reaches; a guess of yours",
    )
    parser.add_argument(
        "--stages", type=list[str] | None, help="stages to plan, such as [dynamics]"
    )
    parser.add_class_arguments(GenieConfig)
    parser.add_class_arguments(TrainConfig, "train")


def _run(options: Namespace) -> None:
    from genie.core.config import from_dict
    from genie.presets.schedule import TrainConfig
    from genie.training.config import STAGES
    from genie.training.plan import Cluster, bytes_per_frame, plan, what_would_fit
    from genie.world.config import GenieConfig

    values = values_of(options)
    values.pop("preset")
    names = ("nodes", "devices", "gpu", "utilisation")
    cluster = Cluster(**{name: values.pop(name) for name in names})
    stages = tuple(values.pop("stages") or STAGES)
    if unknown := set(stages) - set(STAGES):
        raise UserError(f"stages: {min(unknown)!r} is none of {', '.join(STAGES)}")
    schedule = from_dict(TrainConfig, values.pop("train"), "train")
    world = from_dict(GenieConfig, values)
    refused = []
    for stage in plan(world, schedule, cluster, stages):
        print("\n".join(_lines(stage)))
        if not any(stage.fits(name) for name in stage.strategies):
            refused.append(f"{stage.name} does not fit; {_advice(what_would_fit(stage))}")
    for name, size in bytes_per_frame(world).items():
        print(f"an hour of video as {name}: {_size(size * world.fps * 3600)}")
    if refused:
        raise UserError("; ".join(refused))


def _advice(change: str) -> str:
    return f"this would: {change}" if change else "neither smaller parts nor more machines would"


def _lines(stage: StagePlan) -> list[str]:
    cluster, steps = stage.cluster, stage.steps
    video = stage.stage.batch_size * stage.stage.clip_frames / stage.seconds
    hours = stage.seconds * steps / 3600
    return [
        f"{stage.name}: {stage.parameters / 1e6:,.1f}M parameters, {stage.clips} clips at a time "
        f"on each of {cluster.ranks} {cluster.gpu}",
        *(f"  {name}: {_memory(stage, name)}" for name in stage.strategies),
        f"  a step: {stage.cost.flops / 1e12:,.1f} TFLOP on each GPU, {stage.seconds:.3g} s at a "
        f"utilisation of {cluster.utilisation:.0%}; {steps:,} steps: {hours:,.1f} hours",
        f"  it reads {video:,.0f} frames/s, {_size(stage.bytes_per_second)}/s",
    ]


def _memory(stage: StagePlan, strategy: str) -> str:
    from genie.training.plan import GIB

    memory: RankMemory = stage.memory(strategy)
    parts: dict[str, Any] = vars(memory)
    shown = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
    verdict = "fits" if stage.fits(strategy) else "does not fit"
    verdict += ", `genie train` cannot do it yet" if strategy == "fsdp" else ""
    return f"{memory.total / GIB:.1f} GiB on each, {verdict} ({shown})"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


COMMAND = Command(
    order=24,
    about="say what memory, time and data a training would take on machines that are not here",
    example="",
    options=_options,
    run=_run,
    defaults=preset_defaults,
)
