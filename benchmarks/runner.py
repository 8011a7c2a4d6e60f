"""Records the scripted runner of CoinRun: play with a purpose, for `recipe.py play`.

`genie.record` replaces a share of its actions by random ones.

python benchmarks/runner.py videos/runner --frames 30000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import genie
from genie.agents.experts.runner import Runner

OPTIONS = {"use_backgrounds": False, "restrict_themes": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="folder; none: only say what there is")
    parser.add_argument("--frames", type=int, default=30_000)
    parser.add_argument("--random_action_prob", type=float, default=0.2)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.out:
        parser.print_help()
        return
    genie.record(
        "procgen:coinrun",
        options.out,
        frames=options.frames,
        policy=Runner(options.seed),
        random_action_prob=options.random_action_prob,
        options=OPTIONS,
        append=options.append,
        seed=options.seed,
    )
    print(f"{options.out}: {coins(options.out):.2f} of the episodes reach the coin")


def coins(folder: Path) -> float:
    """The share of whole training episodes that end with a reward."""
    sides = [json.loads(file.read_text()) for file in folder.glob("train/*.actions.json")]
    ended = [side for side in sides if side.get("terminated")]
    return float(np.mean([sum(side["rewards"]) > 0 for side in ended])) if ended else 0.0


if __name__ == "__main__":
    main()
