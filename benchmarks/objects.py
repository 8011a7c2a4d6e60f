"""Do objects in view stay, and how likely are their tokens to the dynamics?

The first part is the metric "persistency" of `genie evaluate`. The second asks for the frame after
the prompt: how much probability the dynamics give to the token that is there already, at pasted
objects, at objects of the prompts themselves, and everywhere.

python benchmarks/objects.py miner-tiny data/miner --json objects.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _machine import tell
from torch import Tensor

import genie
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation
from genie.plugins import persistency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", nargs="?", help="name or folder; none: only say what there is")
    parser.add_argument("data", nargs="?", help="clip store with held-out frames")
    parser.add_argument("--games", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.world:
        parser.print_help()
        return
    config = replace(EvaluationConfig.quick(), closed_loop_games=4 * options.games)
    world = genie.Genie.from_pretrained(options.world, device="cpu")
    evaluation = Evaluation(world, genie.ClipStore.open(options.data), config)
    objects = persistency.persistency(evaluation)
    found = {"world": Path(options.world).name, "objects": objects}
    tell(found | {"same_token": same_token(evaluation, objects["action"])}, options.json)


@torch.no_grad()
def same_token(evaluation: Evaluation, action: int) -> dict[str, Any]:
    """How likely the next frame has the token of the prompt, given nothing of the next frame."""
    config, player = evaluation.config, evaluation.player
    clips = persistency.standing_prompts(evaluation, "val", config.closed_loop_games // 2)
    prompts = torch.cat(list(clips))
    pasted, places, tried = persistency.paste_objects(prompts, config.seed)
    objects, shown = persistency.see_objects(player, prompts, pasted, places)
    own, there = persistency.own_objects(player.rebuilt(prompts)[:, -1], config.seed)
    side, kept = objects.pieces.shape[1], shown & tried
    before, after = (likely(evaluation.world, part, action) for part in (prompts, pasted))
    return {
        "everywhere": summary(before.flatten()),
        "own objects": summary(on_objects(before, own.places[there], side, there)),
        "pasted objects": summary(on_objects(after, places[kept], side, kept)),
    }


def likely(world: genie.Genie, prompts: Tensor, action: int) -> Tensor:
    """Probability of the prompt's token in the next frame, by row and column of pixels."""
    state = world.start(prompts, list(range(len(prompts))))
    context = world.dynamics.step_context(torch.full((len(prompts),), action), state.dynamics)
    tokens = world.tokenizer.encode(prompts[:, -1:])[:, 0]
    masked = torch.full_like(tokens, world.dynamics.mask_token)
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    logits = world._logits_fn(context, world.config.sampling.guidance)(masked, positions)
    found = logits.float().softmax(-1).gather(-1, tokens[..., None])[..., 0]
    rows, columns = world.dynamics.grid
    cells = found.unflatten(1, (rows, columns)).repeat_interleave(world.config.height // rows, 1)
    return cells.repeat_interleave(world.config.width // columns, 2)


def on_objects(pixels: Tensor, places: Tensor, side: int, kept: Tensor) -> Tensor:
    """The values of the pixels that objects cover."""
    windows = pixels[kept].unfold(1, side, 1).unfold(2, side, 1)
    rows, columns = places.unbind(1)
    return windows[torch.arange(len(places)), rows, columns].flatten()


def summary(values: Tensor) -> dict[str, float]:
    """Median and mean over pixels, and the share where another token is likelier than not."""
    unlike = (values < 0.5).float().mean().item()
    return {"median": values.median().item(), "mean": values.mean().item(), "below_half": unlike}


if __name__ == "__main__":
    main()
