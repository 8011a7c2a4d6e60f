"""How does the loss of the dynamics fall with parameters, steps and data?

Four sizes of the dynamics are trained for three budgets each, on the tokens and latent actions of a
trained world. The middle size is trained on a part of the videos as well. The loss is the
cross-entropy of masked tokens on held-out clips. A power law a x^-b is fitted to the best losses
over the compute, 6 x parameters x tokens, and to the losses over the videos.

python benchmarks/study_scaling.py --json scaling.json --plot scaling.png

On a GPU, the paper's family:

python benchmarks/study_scaling.py --work runs/scaling --device cuda --preset coinrun \
    --base runs/genres/runs/platform --sizes 18x512 16x768 20x1024 21x1536 \
    --frames 1000000 --steps 12500 50000 200000 --json scaling.json --plot scaling.png
"""

from __future__ import annotations

import argparse
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _study import Game, Results, Row, parser_of, store_of, train

import genie
from genie.core.config import overridden
from genie.data.clips import ClipBatches, select_clips
from genie.evaluation.metrics.formulas import interval_over_episodes
from genie.presets import registry
from genie.training import finetune

GAME = Game("procgen:coinrun")
STEPS, SIZES = (45, 135, 405), ("2x32", "2x64", "3x96", "3x128")
SHARES = (0.1, 0.3, 1.0)
"""Of the training videos."""
FRAMES = 6
"""Of a held-out clip."""


def share_of(share: float, options: argparse.Namespace) -> genie.ClipStore:
    """The store of the first of the training videos, and of all that are held out."""
    whole = store_of("platform", GAME, options)
    if share == 1:
        return whole
    name = f"platform-{share:.0%}"
    videos, links = options.work / "video" / "platform", options.work / "video" / name
    if not links.exists():
        part = links.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(videos / "val", part / "val")
        (part / "train").mkdir()
        films = sorted((videos / "train").glob("*.mp4"))
        for film in films[: max(1, round(share * len(films)))]:
            shutil.copy(film, part / "train")
        part.rename(links)
    return store_of(name, GAME, options)


def trained(size: str, steps: int, share: float, options: argparse.Namespace) -> genie.Genie:
    """A world with new dynamics of a size, such as "3x96": layers and width."""
    store, base = share_of(share, options), finetune.config_of(options.base)
    layers, width = map(int, size.split("x"))
    heads = max(1, width // 32)
    sizes: dict[str, Any] = {"layers": layers, "width": width, "heads": heads}
    config = overridden(base, {"dynamics": sizes})
    name = f"scaling-{size}-{steps}-{share:.0%}"
    budget = {"dynamics": steps}
    return train(
        name, store, options, stages=["dynamics"], steps=budget, world=config, earlier=options.base
    )


@torch.no_grad()
def loss_of(world: genie.Genie, store: genie.ClipStore, clips: int) -> Row:
    """The cross-entropy of masked tokens on held-out clips, the same masks for every world."""
    starts = select_clips(store, "val", FRAMES, clips, 0)
    chosen = ClipBatches(store, starts, FRAMES, 1, world.device)
    losses = list[float]()
    for seed, frames in zip(count(), chosen):
        torch.manual_seed(seed)
        tokens, actions = world.tokenizer.encode(frames), world.actions.infer(frames)
        _, logs = world.dynamics.loss(tokens, actions, mask_ratio="cosine")
        losses.append(logs["masked_cross_entropy"].item())
    return {"loss": interval_over_episodes(torch.tensor(losses), chosen.episodes)}


def measured(size: str, steps: int, share: float, options: argparse.Namespace) -> Row:
    """Trains and measures one size for one budget."""
    world, store = trained(size, steps, share, options), share_of(1.0, options)
    stage = registry.get(options.preset).train.dynamics
    parameters = sum(part.numel() for part in world.dynamics.parameters())
    height, width = world.dynamics.grid
    seen = steps * stage.batch_size * stage.clip_frames * height * width
    return {
        "size": size,
        "steps": steps,
        "share": share,
        "parameters": parameters,
        "compute": 6.0 * parameters * seen,
        **loss_of(world, store, options.clips),
    }


def power_law(x: np.ndarray, y: np.ndarray) -> Row:
    """The exponent and the factor of y = a x^-b by least squares of logarithms.

    `stderr` is that of the exponent; two points leave none.
    """
    design = np.stack([np.ones(len(x)), np.log(x)], 1)
    (intercept, slope), residual, *_ = np.linalg.lstsq(design, np.log(y), rcond=None)
    freedom = len(x) - 2
    spread = np.linalg.inv(design.T @ design)[1, 1]
    stderr = float(np.sqrt(residual.sum() / freedom * spread)) if freedom > 0 else None
    return {
        "exponent": -float(slope), "stderr": stderr, "factor": float(np.exp(intercept)),
        "points": len(x),
    }  # fmt: skip


def frontier(rows: list[Row]) -> list[Row]:
    """The rows that no row of less compute beats."""
    best, found = np.inf, list[Row]()
    for row in sorted(rows, key=lambda row: row["compute"]):
        if row["loss"]["mean"] < best:
            best = row["loss"]["mean"]
            found.append(row)
    return found


def fits_of(rows: list[Row]) -> dict[str, Row]:
    """The power laws of compute, over the frontier, and of data."""
    whole = [row for row in rows if row["share"] == 1]
    longest = max(row["steps"] for row in rows)
    sizes = {row["size"] for row in rows if row["share"] < 1}
    parts = [row for row in rows if row["size"] in sizes and row["steps"] == longest]
    found = {"compute": (frontier(whole), "compute"), "data": (parts, "share")}
    return {
        name: power_law(*(np.array(list(column)) for column in _columns(chosen, key)))
        for name, (chosen, key) in found.items()
        if len(chosen) > 1
    }


def _columns(rows: list[Row], key: str) -> tuple[list[float], list[float]]:
    return [row[key] for row in rows], [row["loss"]["mean"] for row in rows]


def plot(rows: list[Row], fits: dict[str, Row], path: Path) -> None:
    """Loss over compute, a line a size, and over data, each with its power law."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    whole = [row for row in rows if row["share"] == 1]
    for size in dict.fromkeys(row["size"] for row in whole):
        own = [row for row in whole if row["size"] == size]
        label = f"{size}, {own[0]['parameters'] / 1e6:.2f}M"
        axes[0].plot(*_columns(own, "compute"), "o-", label=label)
    longest = max(row["steps"] for row in rows)
    sizes = {row["size"] for row in rows if row["share"] < 1}
    parts = [row for row in rows if row["size"] in sizes and row["steps"] == longest]
    axes[1].plot(*_columns(sorted(parts, key=lambda row: row["share"]), "share"), "o-")
    for axis, name, xs in zip(
        axes, ("compute", "data"), (_columns(whole, "compute")[0], SHARES), strict=True
    ):
        if (fit := fits.get(name)) is not None:
            line = np.geomspace(min(xs), max(xs), 20)
            error = "" if fit["stderr"] is None else f" ± {fit['stderr']:.3f}"
            text = f"exponent {fit['exponent']:.3f}{error} (s.e.)"
            axis.plot(line, fit["factor"] * line ** -fit["exponent"], "k--", label=text)
        axis.set(xscale="log", yscale="log", ylabel="cross-entropy of held-out tokens, nats")
        axis.legend(fontsize=8)
    axes[0].set_xlabel("compute: 6 x parameters x tokens")
    axes[1].set_xlabel("share of the training videos")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = parser_of(__doc__, "runs/scaling", STEPS)
    parser.add_argument("--base", default="coinrun-tiny", help="world with the other models")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="layers x width")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, middle = Results(options), options.sizes[len(options.sizes) // 2]
    plan = [(size, steps, 1.0) for steps in options.steps for size in options.sizes]
    plan += [(middle, max(options.steps), share) for share in SHARES if share < 1]
    rows = [
        results.row(f"{size}, {steps} steps, {share:.0%}", lambda p=part: measured(*p, options))
        for part in plan
        for size, steps, share in [part]
    ]
    fits = fits_of(rows)
    results.write(fits=fits)
    if options.plot:
        plot(rows, fits, options.plot)


if __name__ == "__main__":
    main()
