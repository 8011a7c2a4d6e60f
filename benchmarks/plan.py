"""How near the simulated peak of memory is to the one that torch's allocator reports on a CPU.

The real step runs the branches of a GPU, as the simulation does: attention over time by the fused
kernel, and the head of the dynamics at all positions.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from _machine import tell
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from genie.models import masking
from genie.models.layers import attention
from genie.presets import registry
from genie.training.plan import Cluster, StagePlan
from genie.world.genie import Genie

FIXED = 16
"""Bytes of each parameter for weights, average and the two moments of AdamW."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["tiny", "coinrun-fast"])
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--stages", nargs="+", default=["tokenizer", "actions", "dynamics"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [
        compare(preset, stage, options.clips)
        for preset in options.presets
        for stage in options.stages
    ]
    tell({"rows": rows}, options.json)


def compare(preset: str, name: str, clips: int) -> dict[str, object]:
    """Simulated and measured bytes of a stage, and their ratio with what does not change."""
    chosen = registry.get(preset)
    budget = replace(getattr(chosen.train, name), batch_size=clips, grad_accum_steps=1)
    train = replace(chosen.train, precision="32", **{name: budget})
    planned = StagePlan(name, chosen.world, train, Cluster(devices=1))
    world = Genie(chosen.world).train()
    model, frames = getattr(world, name), budget.clip_frames
    size = (clips, frames, world.config.height, world.config.width, 3)
    inputs = (torch.randint(0, 256, size, dtype=torch.uint8),)
    if name == "dynamics":
        shape = (clips, frames, world.tokenizer.tokens_per_frame)
        tokens = torch.randint(0, world.tokenizer.vocabulary, shape)
        inputs = (tokens, torch.zeros(clips, frames - 1, dtype=torch.int64))
    with gpu_branches():
        model.loss(*inputs, progress=1.0)  # places the codes
        measured = peak_of(lambda: two_steps(model, inputs))
    fixed = FIXED * planned.parameters
    ratio = (planned.cost.peak + fixed) / (measured + fixed)
    return {
        "preset": preset,
        "stage": name,
        "clips": clips,
        "fixed": fixed,
        "simulated": planned.cost.peak,
        "measured": measured,
        "ratio": round(ratio, 4),
    }


def two_steps(model: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
    for _ in range(2):
        loss = model.loss(*inputs, progress=1.0)[0]
        model.zero_grad(set_to_none=True)
        loss.backward()


def peak_of(work: Callable[[], None]) -> int:
    """The most bytes that torch's allocator held at once beyond those at the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None
    now = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@contextmanager
def gpu_branches() -> Iterator[None]:
    def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        clips = len(q)
        q, k, v = (y.flatten(0, 1) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return y.unflatten(0, (clips, -1))

    with patch.object(masking, "_rows", lambda _: None), patch.object(attention, "_attend", fused):
        yield


if __name__ == "__main__":
    main()
