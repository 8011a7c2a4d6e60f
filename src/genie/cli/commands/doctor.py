"""`genie doctor`: what this machine has, and what would be slow or missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from genie.cli.commands import Command
from genie.cli.options import values_of
from genie.core.machine import available_cores, own_version

if TYPE_CHECKING:
    import torch
    from jsonargparse import ArgumentParser, Namespace

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("lightning", "tensorboard"),
    "serve": ("fastapi", "uvicorn", "starlette", "websockets", "prometheus_client"),
    "procgen": ("procgen", "gym3"),
    "atari": ("ale_py",),
    "export": ("onnx", "onnxscript"),
    "rl": ("stable_baselines3",),
    "robots": ("mujoco",),
    "cloud": ("aiohttp", "gcsfs", "s3fs"),
    "lerobot": ("pyarrow",),
    "cluster": ("ray",),
    "wandb": ("wandb",),
}
"""Extras of the package, and the modules that each brings."""

_PURPOSES = {
    "train": "training worlds",
    "serve": "playing in the browser and serving",
    "procgen": "recording Procgen games",
    "atari": "recording Atari games",
    "export": "writing sites and ONNX graphs",
    "rl": "training agents",
    "robots": "recording a robot arm",
    "cloud": "videos at addresses",
    "lerobot": "videos of LeRobot datasets",
    "cluster": "preparing videos on a Ray cluster",
    "wandb": "logging to Weights & Biases",
}
_COLOURS = {"good": "green", "slow": "yellow", "missing": "red"}
_GIB = 2**30

Verdict = Literal["good", "slow", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        topic: what was looked at.
        found: what is there.
        verdict: whether it is enough.
        words: what to expect or to do, in plain words.
    """

    topic: str
    found: str
    verdict: Verdict = "good"
    words: str = ""


def doctor(*, measure: bool = True) -> list[Finding]:
    """Prints what this machine has, and what would be slow or missing.

    Args:
        measure: also time matrix products and a small world, some seconds.
    """
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    with console.status("looking"):
        findings = list(examine(measure))
    table = Table("", "found", "", Column(overflow="fold"))
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        verdict = f"[{colour}]{finding.verdict}[/{colour}]"
        table.add_row(finding.topic, finding.found, verdict, finding.words.replace("[", "\\["))
    console.print(table)
    console.print(_conclusion(findings))
    return findings


def examine(measure: bool = True) -> Iterator[Finding]:
    """Looks at the machine, one finding after the other."""
    yield _python()
    yield _torch()
    yield _cores()
    yield _memory()
    yield _disk()
    yield _accelerator()
    yield _video()
    yield from map(_extra, EXTRAS)
    if measure:
        yield from _measured()


def _conclusion(findings: list[Finding]) -> str:
    wrong = [finding.topic for finding in findings if finding.verdict != "good"]
    if not wrong:
        return "All is there."
    return f"All else works; look at: {', '.join(wrong)}."


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 12):
        return Finding("Python", found, "good", "Procgen needs Python 3.11; all else runs")
    return Finding("Python", found)


def _torch() -> Finding:
    import torch

    numpy = version("numpy")
    return Finding("PyTorch", f"{torch.__version__}, NumPy {numpy}, genie {own_version()}")


def _cores() -> Finding:
    import torch

    cores = available_cores()
    found = f"{cores} cores, {torch.get_num_threads()} threads"
    if cores < 4:
        return Finding("CPU", found, "slow", "enough to play, and to train tiny worlds")
    return Finding("CPU", found)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    found = f"{total:.1f} GiB"
    if total < 6:
        return Finding("Memory", found, "slow", "use small batches; large stores stay on disk")
    return Finding("Memory", found)


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / _GIB
    found = f"{free:.0f} GiB free here"
    if free < 5:
        return Finding("Disk", found, "slow", "a million 64x64 frames take about 1.5 GiB")
    return Finding("Disk", found)


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        memory = gpu.total_memory / _GIB
        return Finding("GPU", f"{torch.cuda.device_count()} x {gpu.name}, {memory:.0f} GiB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple GPU (MPS)")
    words = "large worlds want one: --preset tiny is made for the CPU"
    return Finding("GPU", "no CUDA, no MPS", "slow", words)


def _video() -> Finding:
    import av

    found = f"PyAV {av.__version__}"
    missing = [name for name in ("libx264", "h264", "vp9") if name not in av.codecs_available]
    if missing:
        words = f"no {', '.join(missing)}: pip install --force-reinstall av"
        return Finding("Video", found, "missing", words)
    return Finding("Video", f"{found} with FFmpeg, writes H.264")


def _extra(name: str) -> Finding:
    topic = f"Extra: {name}"
    absent = [module for module in EXTRAS[name] if find_spec(module) is None]
    if not absent:
        return Finding(topic, "installed", "good", f"for {_PURPOSES[name]}")
    words = f"for {_PURPOSES[name]}: pip install 'genie-worlds[{name}]'"
    if name == "procgen" and sys.version_info >= (3, 12):
        words = f"for {_PURPOSES[name]}: has no build for this Python, use 3.11"
    return Finding(topic, f"no {', '.join(absent)}", "missing", words)


def _measured() -> Iterator[Finding]:
    import torch

    from genie.world.inputs import best_device

    device = best_device()
    single, half = (matmul_rate(dtype, device) for dtype in (torch.float32, torch.bfloat16))
    found = f"{single:,.0f} GFLOP/s fp32, {half:,.0f} bf16 on {device.type}"
    if half < single:
        words = "bf16 gains nothing here: train with --train.precision 32"
        yield Finding("Matrix products", found, "slow", words)
    else:
        yield Finding("Matrix products", found)
    yield _play_speed(device)


def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.3) -> float:
    """Measured rate of square matrix products of 1024, in GFLOP/s."""
    import torch

    size = 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    per_second = _rate(lambda: (a @ b).sum().item(), seconds)
    return 2 * size**3 * per_second / 1e9


def _play_speed(device: torch.device) -> Finding:
    import torch

    from genie.presets import registry
    from genie.world.genie import Genie

    config = registry.get("tiny").world
    world = Genie(config).to(device).eval()
    state = world.start(torch.zeros(config.height, config.width, 3, dtype=torch.uint8))
    speeds = {}
    for count in sorted({1, threads := torch.get_num_threads()}):
        torch.set_num_threads(count)
        speeds[count] = _rate(lambda: world.step(state, 0)[0].cpu(), 1.0)
    return _judged_speed(speeds, threads, config.fps)


def _judged_speed(speeds: dict[int, float], threads: int, fps: float) -> Finding:
    """What frames per second, by the number of CPU threads, tell of a machine with so many."""
    topic, best = "Playing a tiny world", max(speeds.values())
    found = f"{best:.1f} frames/s ({fps:.0f} wanted)"
    if best < fps:
        words = (
            "play will stutter: let other programs rest, or take fewer MaskGIT steps on the page"
        )
        return Finding(topic, found, "slow", words)
    if speeds[threads] < fps:
        words = (
            f"with {threads} threads only {speeds[threads]:.1f}, for other programs keep the cores "
            "busy: set OMP_NUM_THREADS=1"
        )
        return Finding(topic, found, "slow", words)
    return Finding(topic, found)


def _rate(work: Callable[[], object], seconds: float) -> float:
    """How often a second something can be done, after two times for warming up."""
    for _ in range(2):
        work()
    began, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        work()
        count += 1
    return count / spent


def _options(parser: ArgumentParser) -> None:
    parser.add_function_arguments(doctor)


def _run(options: Namespace) -> None:
    doctor(**values_of(options))


COMMAND = Command(
    order=12,
    about="say what this machine has, and what would be slow or missing",
    example="",
    options=_options,
    run=_run,
)
