"""`genie prompts`: choose the prompts of a world anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genie.cli.commands import Command
from genie.cli.options import world_and_store
from genie.core.config import require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("world", help="folder of a world; its prompts are replaced")
    parser.add_argument("--data", required=True, help="the clip store to choose frames from")
    parser.add_argument(
        "--first",
        choices=["still", "typical"],
        default="still",
        help="the prompt that games start from: the one around which least moves, or the most "
        "typical one, for games in which an avatar that hardly moves is caught",
    )
    parser.add_argument("--count", type=int, default=12, help="how many prompts")


def _run(options: Namespace) -> None:
    from genie.world.choose_prompts import choose_prompts
    from genie.world.prompts import PROMPT_FOLDER, save_prompts

    folder = Path(options.world)
    require(options.count > 0, f"--count: expected at least one prompt, got {options.count}")
    world, store = world_and_store(folder, options.data)
    frames = choose_prompts(store, world.tokenizer, options.count, options.first)
    save_prompts(frames, folder)
    print(f"{folder / PROMPT_FOLDER}: {len(frames)} prompts")


COMMAND = Command(
    order=9,
    about="choose the prompts of a world anew from held-out frames",
    example="",
    options=_options,
    run=_run,
)
