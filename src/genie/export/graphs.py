"""The graphs of tensors that play needs: a prompt to tokens, the start, a step, its frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor, nn

from genie.world import step
from genie.world.action_mapper import ActionMapper
from genie.world.genie import Genie

CACHE = ("time", "keys", "values")
DECODER = "decoder_"
"""Begins the names of the decoder's tensors. How many there are depends on the tokenizer."""


@dataclass(frozen=True)
class Graph:
    """A module of `genie.world.step` with what an exporter has to know.

    Attributes:
        name: of the graph.
        module: whose `forward` is exported.
        inputs: an example of each input, by name, in the order of `forward`. Their shapes are the
            only ones that the graph takes.
        outputs: names, in the order that `forward` returns them. A name is an input's or an
            output's, so what replaces an input is called `next_` and its name.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class PlayReal(nn.Module):
    """The latent actions that the labelled real actions of a mapper play at a frame."""

    labelled: Tensor

    def __init__(self, mapper: ActionMapper):
        super().__init__()
        self.mapper = mapper
        self.register_buffer("labelled", mapper.labelled_actions)

    def forward(self, frame: UInt8[Tensor, "1 h w 3"]) -> Int32[Tensor, " n"]:
        """Returns a latent action for each of `labelled_names`."""
        return self.mapper.distinct_latents(frame)[0, self.labelled].int()


@torch.no_grad()
def play_graphs(world: Genie, mapper: ActionMapper | None = None) -> list[Graph]:
    """Returns the graphs with which one player plays a world.

    They are `tokenize`, `start` (with a prompt of one frame), `maskgit_step`, `guided_step` where
    the world was trained for guidance, `decode` and `commit`, and `play_real` where the mapper sees
    frames.

    Args:
        world: on the CPU, in float32, not compiled.
        mapper: of its real actions.
    """
    config, sampling = world.config, world.config.sampling
    frame = torch.zeros(1, 1, config.height, config.width, 3, dtype=torch.uint8)
    tokenize = step.EncodePrompt(world.tokenizer)
    start = step.StartGame(world.dynamics, world.tokenizer)
    by_confidence = sampling.order == "confidence"
    step_class = step.ConfidenceStep if by_confidence else step.MaskGITStep
    maskgit = step_class(world.dynamics, sampling.top_k)

    prompt = tokenize(frame)
    time, keys, values, *cached = start(prompt)
    decoder = {f"{DECODER}{number}": tensor for number, tensor in enumerate(cached)}
    tokens = prompt[:, 0]
    fill = torch.ones_like(tokens, dtype=torch.bool)
    game = {
        "action": torch.zeros(1, dtype=torch.int32),
        "previous": tokens,
        **dict(zip(CACHE, (time, keys, values), strict=True)),
    }
    sampled = {
        "tokens": tokens,
        **({"count": time[0]} if by_confidence else {"fill": fill}),
        "noise": torch.zeros(1, tokens.shape[1], world.dynamics.vocabulary),
        "temperature": torch.ones(()),
        **game,
    }
    guided = {**sampled, "guidance": torch.ones(())}
    decoded = {"tokens": tokens, "time": time, **decoder}
    made = [
        Graph("tokenize", tokenize, {"frames": frame}, ("tokens",)),
        Graph("start", start, {"tokens": prompt}, (*CACHE, *decoder)),
        Graph("maskgit_step", maskgit, sampled, ("sampled",)),
        Graph("decode", step.DecodeFrame(world.tokenizer), decoded, ("frame", *_next(decoder))),
        Graph("commit", step.CommitFrame(world.dynamics), {"tokens": tokens, **game}, _next(CACHE)),
    ]
    if config.dynamics.unconditional_fraction > 0:
        made.insert(3, Graph("guided_step", maskgit, guided, ("sampled",)))
    if mapper is not None and mapper.config.kind == "network":
        made.append(Graph("play_real", PlayReal(mapper), {"frame": frame[0]}, ("latents",)))
    return made


def _next(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"next_{name}" for name in names)
