"""Play a world from Python: load it, start a game from a picture, press buttons, save a clip.

python examples/play_from_python.py runs/coinrun prompt.png --actions 1,1,2,0 --out clip.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from genie import Genie
from genie.data.video import write_video


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    world = Genie.from_pretrained(options.world)
    state = world.start(options.prompt, seed=options.seed)
    frames = [state.frame]
    for action in options.actions:
        frame, state = world.step(state, action)
        frames.append(frame)

    # A state is a value: going on from an old one branches the game.
    for action in range(world.config.num_actions):
        branch, _ = world.step(state, action)
        change = (branch.float() - state.frame.float()).abs().mean()
        print(f"button {action} would change the picture by {change:.1f} of 255")

    write_video(options.out, [frame.cpu().numpy() for frame in frames], world.config.fps)
    print(f"{len(frames)} frames in {options.out}")


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", help="folder of a world, or its id on the Hugging Face hub")
    parser.add_argument("prompt", help="picture to start from")
    parser.add_argument("--actions", type=buttons, default="0,0,1,1", help="such as 0,0,1,1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="clip.mp4")
    return parser.parse_args(args)


def buttons(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
