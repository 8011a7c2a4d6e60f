"""What every benchmark writes beside its figures, how it measures, and what the machine can do."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def add_device(parser: ArgumentParser) -> None:
    """The option that says where to measure."""
    parser.add_argument("--device", type=torch.device, default="cpu", help="such as cuda")


def about() -> dict[str, Any]:
    """Commit and machine."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip() or None,
        "machine": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def tell(results: dict[str, Any], path: Path | None) -> None:
    """Prints the results as JSON, and writes them to a file when one is named."""
    print(as_text(results))
    if path:
        path.write_text(as_text(results))


def as_text(results: dict[str, Any]) -> str:
    """Results as JSON, with commit and machine."""
    return json.dumps({**about(), **results}, indent=1) + "\n"


def seconds_of(work: Callable[[], Any], repeats: int, warm_up: int = 1) -> list[float]:
    """How long each of some calls takes, until a GPU has done it, too."""
    for _ in range(warm_up):
        work()
    finish()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        finish()
        spent.append(time.perf_counter() - began)
    return spent


def finish() -> None:
    """Waits for a GPU, where there is one, to have done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(seconds: list[float]) -> dict[str, Any]:
    """Median and quartiles in milliseconds."""
    low, middle, high = (1e3 * float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {"ms": round(middle, 2), "ms_quartiles": [round(low, 2), round(high, 2)]}


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a matrix product, in 1e9."""
    side = 1024 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / float(np.median(seconds_of(lambda: a @ b, 20))) / 1e9


def memory_rate(device: torch.device, megabytes: int = 256) -> float:
    """Bytes per second that a copy reads and writes, in 1e9; more than caches hold."""
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of(lambda: target.copy_(source), 10)
    return 2 * source.nbytes / float(np.median(seconds)) / 1e9


def gigaflops(work: Callable[[], Any]) -> float:
    """Operations of matrix products, convolutions and attention over space in a call."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()  # the fused attention of a CPU would not be counted
    return counter.get_total_flops() / 1e9


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{platform.machine()} {name}".strip()
