"""Which genres of games does one recipe learn, and what does a world of a platformer give others?

Every genre is recorded, and a world of one preset is trained on it from nothing, with the same
steps. Then the world of a platformer, `--base`, is tested on each other genre as it is. At last it
is trained on each with the steps that the worlds from nothing had. All are measured on held-out
levels or seeds.

python benchmarks/study_genres.py --json genres.json --plot genres.png

On a GPU, at the paper's sizes; the base is the world of the first genre:

python benchmarks/study_genres.py --work runs/genres --device cuda --preset coinrun \
    --base platform --frames 1000000 --steps 300000 300000 200000 --clips 512 \
    --json genres.json --plot genres.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from _study import Game, Results, Row, parser_of, quality, store_of, train

import genie
from genie.world import bundled

GENRES = {
    "platform": Game("procgen:coinrun"),
    "side-scroller": Game("procgen:starpilot"),
    "top-down": Game("procgen:dodgeball"),
    "puzzle": Game("procgen:heist"),
    "racing": Game("gym:ALE/Enduro-v5"),
    "fighting": Game("gym:ALE/Boxing-v5"),
}
"""The first is what others are transferred from."""
STEPS = (200, 120, 150)
"""Of tokenizer, latent actions and dynamics."""
ARMS = {
    "from nothing": "from nothing",
    "as it is": "platformer, as it is",
    "fine-tuned": "platformer, fine-tuned",
}


def base_of(options: argparse.Namespace) -> str:
    """The world that is transferred: a bundled one, a folder, or that of the first genre."""
    own = options.work / "runs" / options.base
    return options.base if options.base in bundled.names() or not own.exists() else str(own)


def measured(arm: str, genre: str, options: argparse.Namespace) -> Row:
    """Trains and measures a world."""
    store = store_of(genre, GENRES[genre], options)
    if arm == "from nothing":
        world = train(genre, store, options)
    elif arm == "as it is":
        world = genie.Genie.from_pretrained(base_of(options), device=options.device)
    else:
        world = train(f"{genre}-fine-tuned", store, options, base=base_of(options))
    return {"arm": arm, "genre": genre, **quality(world, store, options)}


def plot(rows: dict[str, Row], path: Path) -> None:
    """ΔPSNR, gain and tokenizer of every genre and arm."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    parts = (
        ("delta_psnr", "ΔPSNR at t = 4, dB: how actions are followed"),
        ("gain", "PSNR over copying the prompt at t = 4, dB"),
        ("tokenizer", "tokenizer, PSNR of the mean error, dB"),
    )
    for axis, (key, title) in zip(axes, parts, strict=True):
        for number, (arm, label) in enumerate(ARMS.items()):
            if not (found := [row for row in rows.values() if row["arm"] == arm]):
                continue
            places = [list(GENRES).index(row["genre"]) + 0.27 * (number - 1) for row in found]
            heights, errors = zip(*(_bar(row, key) for row in found), strict=True)
            axis.bar(places, heights, 0.25, label=label, yerr=tuple(zip(*errors, strict=True)))
        axis.set_xticks(range(len(GENRES)), GENRES, rotation=30, ha="right")
        axis.axhline(0, color="gray", linewidth=0.8)
        axis.set_title(title, fontsize=10)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _bar(row: Row, key: str) -> tuple[float, tuple[float, float]]:
    """The height of a bar and its distances to the ends of the interval of 95 %."""
    if key == "delta_psnr":
        part = row[key]
        return part["mean"], (part["mean"] - part["low"], part["high"] - part["mean"])
    value, (low, high) = row[key], row["psnr_interval" if key == "gain" else "tokenizer_interval"]
    middle = row["psnr"] if key == "gain" else value
    return value, (max(0, middle - low), max(0, high - middle))


def main() -> None:
    parser = parser_of(__doc__, "runs/genres", STEPS)
    parser.add_argument("--base", default="coinrun-tiny", help="world of a platformer")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms = options.__dict__.pop("arms")
    results = Results(options)
    for arm in arms:
        for genre in list(GENRES)[arm != "from nothing" :]:
            results.row(f"{genre}, {arm}", lambda a=arm, g=genre: measured(a, g, options))
    if options.plot:
        plot(results.rows, options.plot)


if __name__ == "__main__":
    main()
