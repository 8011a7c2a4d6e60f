"""Does a world follow its actions when a game starts from a drawing or a photograph?

Games start from frames of the real game, from drawings with and without an avatar, and from parts
of a photograph. Every action is held from each. The camera of CoinRun follows the avatar, so the
scene scrolls where the avatar goes: a direction is followed where its named action scrolls the
scene that way. Beside it stands how often the other actions do.

python benchmarks/study_prompts.py --json prompts.json --plot prompts.png

On a GPU, with more games, a larger world and pictures of your own:

python benchmarks/study_prompts.py --world coinrun-9m --device cuda --seeds 16 \
    --pictures my-pictures/ --json prompts.json --plot prompts.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from _study import Results, Row
from PIL import Image, ImageDraw
from torch import Tensor

import genie
from genie.evaluation.metrics.formulas import mean_interval
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.models.layers.pixels import psnr
from genie.plugins.scrolling import MIN_DISTANCE, followed, scroll
from genie.world.action_names import read_names
from genie.world.hub import world_folder
from genie.world.prompts import load_prompts

DIRECTIONS = ("left", "right", "jump")
SKIES = ("#9ad0f0", "#f5e6c0", "#d8c8f0", "#ffffff")
GROUNDS = ("#6b4a2b", "#3f7f3f", "#888888", "#c08040")


def drawing(number: int, avatar: bool, side: int) -> np.ndarray:
    """A scene as a child would draw it: sky, ground, two platforms, and perhaps somebody."""
    rng = np.random.default_rng(number)
    picture = Image.new("RGB", (256, 256), SKIES[number % len(SKIES)])
    pen, ground = ImageDraw.Draw(picture), GROUNDS[(number // 2) % len(GROUNDS)]
    line = [(x, 190 + rng.integers(-5, 6)) for x in range(0, 257, 16)]
    pen.polygon([*line, (256, 256), (0, 256)], fill=ground, outline="black")
    for _ in range(2):
        x, y = rng.integers(0, 200), rng.integers(40, 140)
        pen.rectangle((x, y, x + rng.integers(30, 60), y + 14), fill=ground, outline="black")
    if avatar:
        pen.rectangle((116, 148, 140, 188), fill="#3060d0", outline="black")
        pen.ellipse((114, 122, 142, 150), fill="#f0c090", outline="black")
    return np.array(picture.resize((side, side), Image.Resampling.LANCZOS))


def photographs(count: int, side: int) -> list[np.ndarray]:
    """Square parts of the photograph that comes with Matplotlib (public domain)."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        picture = Image.open(file).convert("RGB")
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        edge = int(rng.integers(200, min(picture.size)))
        x, y = (int(rng.integers(0, length - edge + 1)) for length in picture.size)
        part = picture.crop((x, y, x + edge, y + edge))
        found.append(np.array(part.resize((side, side), Image.Resampling.LANCZOS)))
    return found


def prompts_of(world: genie.Genie, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The pictures of each kind, u8 (N,H,W,3)."""
    size, side = (world.config.height, world.config.width), world.config.height
    count, folder = options.prompts, world_folder(options.world)
    kinds = {
        "frames of the game": load_prompts(None, *size, folder)[:count],
        "drawings": [drawing(number, True, side) for number in range(count)],
        "drawings, no avatar": [drawing(number, False, side) for number in range(count)],
        "photographs": photographs(count, side),
    }
    if options.pictures:
        kinds["own pictures"] = load_prompts(options.pictures, *size)
    return {kind: np.stack(list(pictures)) for kind, pictures in kinds.items()}


@torch.no_grad()
def measured(world: genie.Genie, pictures: np.ndarray, options: argparse.Namespace) -> Row:
    """How often each direction is followed, by its own action and by the others."""
    prompts = torch.from_numpy(pictures)[:, None].to(world.device)
    player = RolloutPlayer(world, batch=32)
    held = player.hold_all(prompts, options.seeds, seed=0, steps=options.steps)
    start = player.rebuilt(prompts)
    seen = start[:, None, None].expand(*held.shape[:3], -1, -1, -1, -1)
    games = torch.cat([seen, held], dim=3).flatten(0, 2)
    far = max(1, round(MIN_DISTANCE * min(world.config.height, world.config.width)))
    went = followed(scroll(games), far)
    names = read_names(world_folder(options.world), world.config.num_actions)
    error = ((start.float() - prompts.cpu().float()) / 255).square().mean()
    row: Row = {
        "prompts": len(pictures),
        "reconstruction": float(psnr(error)),
    }
    for direction in DIRECTIONS:
        row[direction] = _beside_others(
            went[direction].float().reshape(held.shape[:3]), names.index(direction)
        )
    return row


def _beside_others(went: Tensor, action: int) -> Row:
    """Shares of games (N, A, R) with an action and with the others, and their difference."""
    others = [other for other in range(went.shape[1]) if other != action]
    own, rest = went[:, action].mean(1), went[:, others].mean((1, 2))
    difference = mean_interval(own - rest)
    return {"share": own.mean().item(), "others": rest.mean().item(), "difference": difference}


def plot(rows: dict[str, Row], pictures: dict[str, np.ndarray], path: Path) -> None:
    """Four pictures of each kind, and how often each direction is followed."""
    import matplotlib.pyplot as plt

    figure, (sheet, bars) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    shown = [np.concatenate(list(pictures[kind][:4]), axis=1) for kind in rows]
    sheet.imshow(np.concatenate(shown))
    height = len(shown[0])
    sheet.set_yticks([height * (i + 0.5) for i in range(len(rows))], list(rows))
    sheet.set_xticks([])
    for number, kind in enumerate(rows):
        parts = [rows[kind][direction]["difference"] for direction in DIRECTIONS]
        places = np.arange(len(DIRECTIONS)) + 0.2 * (number - 1.5)
        means = [part["mean"] for part in parts]
        errors = [[part["mean"] - part["low"] for part in parts]] * 2
        bars.bar(places, means, 0.18, yerr=errors, label=kind)
    bars.set_xticks(range(len(DIRECTIONS)), DIRECTIONS)
    bars.set_title("share of games that go that way: its action less the others", fontsize=10)
    bars.axhline(0, color="gray", linewidth=0.8)
    bars.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="coinrun-tiny")
    parser.add_argument("--prompts", type=int, default=8, help="pictures of each kind")
    parser.add_argument("--seeds", type=int, default=2, help="games of each action and picture")
    parser.add_argument("--steps", type=int, default=12, help="that an action is held for")
    parser.add_argument("--pictures", type=Path, help="folder of pictures of your own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="results; rows that are there are kept")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = genie.Genie.from_pretrained(options.world, device=options.device)
    pictures, results = prompts_of(world, options), Results(options)
    for kind, chosen in pictures.items():
        results.row(kind, lambda given=chosen: measured(world, given, options))
    if options.plot:
        plot(results.rows, pictures, options.plot)


if __name__ == "__main__":
    main()
