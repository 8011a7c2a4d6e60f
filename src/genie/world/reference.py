"""The slow twin of play: it runs the whole game in each MaskGIT step, without any cache."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.models.backbone import TokenizerBackbone
from genie.models.dynamics import Dynamics
from genie.models.latent_actions.base import LatentActionModel
from genie.world import maskgit, rng
from genie.world.maskgit import SamplingConfig
from genie.world.reencoding import reencoded


@torch.no_grad()
def generate_reference(
    models: tuple[TokenizerBackbone, LatentActionModel, Dynamics],
    frames: UInt8[Tensor, "b t h w 3"],
    actions: Int[Tensor, "b n"],
    seeds: Int[Tensor, " b"],
    sampling: SamplingConfig,
) -> UInt8[Tensor, "b n h w 3"]:
    """Plays actions from prompts. Tests compare it with stepping with the cache.

    Args:
        models: of the world.
        frames: the prompts.
        actions: to play.
        seeds: one per player; they determine all random numbers.
        sampling: how tokens are sampled.

    Returns:
        The frames that the actions lead to, without the prompts.
    """
    tokenizer, latent_actions, dynamics = models
    tokens, start = tokenizer.encode(frames), frames.shape[1]
    drawn, every = tokens, sampling.reencode_every
    played = latent_actions.infer(frames) if start > 1 else actions[:, :0]
    for t in range(actions.shape[1]):
        past = tokens
        played = torch.cat([played, actions[:, t : t + 1]], dim=1)

        def logits(
            masked: Tensor, positions: Tensor, past: Tensor = past, played: Tensor = played
        ) -> Tensor:
            clip = torch.cat([past, masked[:, None]], dim=1)
            given = dynamics.logits(clip, played)[:, -1]
            if sampling.guidance > 0:
                none = torch.full_like(played[:, -1:], dynamics.num_actions)
                unknown = dynamics.logits(clip, torch.cat([played[:, :-1], none], dim=1))[:, -1]
                given = maskgit.guided(given, unknown, sampling.guidance)
            return given.take_along_dim(positions[..., None], 1)

        keys = rng.make_keys(seeds, tokens.shape[1])
        first = tokenizer.coarse_tokens
        sampled = maskgit.sample(
            logits, dynamics.grid, dynamics.mask_token, sampling, keys, first=first
        )
        drawn = torch.cat([drawn, sampled[:, None]], dim=1)
        if every:
            number = torch.full_like(seeds, tokens.shape[1])
            sampled = reencoded(tokenizer, sampled, tokenizer.decode(drawn)[:, -1], number, every)
        tokens = torch.cat([tokens, sampled[:, None]], dim=1)
    return tokenizer.decode(drawn)[:, start:]
