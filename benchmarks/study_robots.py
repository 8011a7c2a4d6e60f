"""Do the latent actions of a robot arm name directions?

A MuJoCo arm under a fixed camera is recorded with continuous actions, the velocities of its hand.
A world is trained on the videos alone. Then the true velocity is predicted from the latent action
by the mean of each code. R² is measured on held-out episodes, beside shuffled codes and beside as
many codes placed on the true velocities by k-means, which is the most that so many codes can tell.

MUJOCO_GL=egl python benchmarks/study_robots.py --json robots.json --plot robots.png

On a GPU, at the paper's sizes:

MUJOCO_GL=egl python benchmarks/study_robots.py --work runs/robots --device cuda --preset coinrun \
    --frames 1000000 --steps 300000 300000 200000 --clips 512 --json robots.json --plot robots.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from _study import STAGES, Game, Results, Row, parser_of, quality, store_of, train

import genie
from genie.core.config import overridden
from genie.data.clips import select_clips
from genie.models.layers.kmeans import kmeans_plus_plus, lloyd
from genie.presets import registry
from genie.world.config import GenieConfig

ARM = Game("gym:arm:Arm-v0", {"max_episode_frames": 100, "num_envs": 4}, side=128)
STEPS = (150, 120, 120)
DRAWS = 500
"""Of the bootstrap over episodes."""
Transitions = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Latent actions (N,), true actions (N,D) and episodes (N,) of some steps."""


def vectors_of(store: genie.ClipStore, videos: Path) -> np.ndarray:
    """The true actions (frames, D) from each frame to the next, of the videos' sidecars."""
    frames, rows = store.source_frames, list[np.ndarray]()
    for episode in store.episodes:
        assert episode.sidecar is not None
        known = np.array(json.loads((videos / episode.sidecar).read_text())["actions"])
        inside = frames[episode.start : episode.start + episode.length]
        rows.append(known[np.minimum(inside, len(known) - 1)])
    return np.concatenate(rows)


@torch.no_grad()
def transitions(
    world: genie.Genie, store: genie.ClipStore, vectors: np.ndarray, split: str, clips: int
) -> Transitions:
    """Steps of clips of nine frames of a split."""
    starts = select_clips(store, split, 9, clips, 0)
    frames = torch.from_numpy(np.array(store.windows(starts, 9)))
    latent = torch.cat([world.actions.infer(part.to(world.device)) for part in frames.split(16)])
    rows = starts[:, None] + np.arange(8)
    ends = np.array([episode.start for episode in store.episodes])
    owner = np.searchsorted(ends, rows, side="right") - 1
    return latent.cpu().numpy().ravel(), vectors[rows].reshape(rows.size, -1), owner.ravel()


def means_of(codes: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
    """The mean vector (count, D) of each code; that of all where a code does not occur."""
    found = [vectors[codes == code] for code in range(count)]
    return np.stack([part.mean(0) if len(part) else vectors.mean(0) for part in found])


def explained(predicted: np.ndarray, vectors: np.ndarray, episodes: np.ndarray) -> Row:
    """R² with its interval of 95 %, a bootstrap over episodes."""
    error = ((predicted - vectors) ** 2).sum(1)
    total = ((vectors - vectors.mean(0)) ** 2).sum(1)
    each = np.stack(
        [[part[episodes == e].sum() for e in np.unique(episodes)] for part in (error, total)]
    )
    drawn = np.random.default_rng(0).integers(each.shape[1], size=(DRAWS, each.shape[1]))
    spread = 1 - each[0][drawn].sum(1) / each[1][drawn].sum(1)
    low, high = np.quantile(spread, (0.025, 0.975)).tolist()
    return {"r2": float(1 - error.sum() / total.sum()), "low": low, "high": high}


def directions(known: Transitions, judged: Transitions, count: int) -> Row:
    """R² of the true actions from the codes, beside shuffled ones and the best codes there are."""
    codes, vectors, _ = known
    means = means_of(codes, vectors, count)
    shuffled = np.random.default_rng(0).permutation(codes)
    generator = torch.Generator().manual_seed(0)
    points = torch.from_numpy(vectors).float()
    centres = lloyd(points, kmeans_plus_plus(points, points[:1], count, generator), 20).numpy()
    nearest = ((judged[1][:, None] - centres) ** 2).sum(-1).argmin(1)
    true, episodes = judged[1], judged[2]
    return {
        "latent": explained(means[judged[0]], true, episodes),
        "shuffled": explained(means_of(shuffled, vectors, count)[judged[0]], true, episodes),
        "ceiling": explained(centres[nearest], true, episodes),
        "means": means.tolist(),
        "share": [float((judged[0] == code).mean()) for code in range(count)],
        "steps": len(true),
    }


def config_of(preset: str) -> GenieConfig:
    """The preset's world with frames twice as large and as many tokens."""
    world = registry.get(preset).world
    sizes = {"height": ARM.side, "width": ARM.side}
    patches = {"patch": 2 * world.tokenizer.patch}
    shown = {"downsample": 2 * world.actions.downsample}
    return overridden(world, {**sizes, "tokenizer": patches, "actions": shown})


def named(options: argparse.Namespace) -> Row:
    """Trains tokenizer and latent actions, and says what the codes tell of the true actions."""
    store = store_of("arm", ARM, options)
    config, stages = config_of(options.preset), STAGES[:2]
    world = train("arm", store, options, stages=stages, world=config)
    vectors = vectors_of(store, options.work / "video" / "arm")
    known, judged = (
        transitions(world, store, vectors, split, 6 * options.clips) for split in ("train", "val")
    )
    return directions(known, judged, world.config.num_actions)


def played(options: argparse.Namespace) -> Row:
    """Trains the dynamics as well, and says how good the world is."""
    store = store_of("arm", ARM, options)
    return quality(train("arm", store, options, world=config_of(options.preset)), store, options)


def plot(found: Row, path: Path) -> None:
    """An arrow for each code, as long as the mean velocity, and R² beside its bounds."""
    import matplotlib.pyplot as plt

    figure, (arrows, bars) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for code, (x, y) in enumerate(found["means"]):
        arrows.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": f"C{code}"})
        arrows.text(x, y, f"{code} ({found['share'][code]:.0%})", color=f"C{code}")
    arrows.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="velocity of the hand, x", ylabel="y")
    arrows.set_title("mean true action of each latent action")
    for number, key in enumerate(("shuffled", "latent", "ceiling")):
        part = found[key]
        error = [[part["r2"] - part["low"]], [part["high"] - part["r2"]]]
        bars.bar(number, part["r2"], yerr=np.maximum(error, 0))
    bars.set_xticks(range(3), ("shuffled codes", "latent actions", "k-means of\ntrue actions"))
    bars.set_title("R² of the true action on held-out episodes")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = parser_of(__doc__, "runs/robots", STEPS)
    parser.set_defaults(frames=6000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options)
    found = results.row("directions", lambda: named(options))
    if options.plot:
        plot(found, options.plot)
    results.row("quality", lambda: played(options))


if __name__ == "__main__":
    main()
