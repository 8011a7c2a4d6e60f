"""Games that a policy plays in a world: many at once, each branched from a real frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.agents.agent import last_frames
from genie.data.store import ClipStore
from genie.models.policy_network import PolicyNetwork
from genie.world import maskgit, rng
from genie.world.genie import Genie
from genie.world.reencoding import reencoded
from genie.world.state import State

SHARE = 16
"""Games that a CPU thread plays together. Larger shares are not faster."""
Outcomes = Callable[[State, Int[Tensor, " b"]], tuple[Float[Tensor, " b"], Float[Tensor, " b"]]]
"""Takes games and actions; returns expected rewards, and the probabilities of the end."""


@dataclass(frozen=True)
class Dreams:
    """A batch of imagined games of H steps.

    Attributes:
        frames: the last frames that a policy saw before the first step, then those of the dream.
        features: of the dynamics, before each step and after the last.
        actions: latent actions that were taken.
        log_probs: their log-probabilities when they were taken.
        rewards: expected rewards of the steps.
        going: probability that the game goes on after each step.
    """

    frames: UInt8[Tensor, "b frames h w 3"]
    features: Float[Tensor, "b moments s f"]
    actions: Int[Tensor, "b steps"]
    log_probs: Float[Tensor, "b steps"]
    rewards: Float[Tensor, "b steps"]
    going: Float[Tensor, "b steps"]

    @property
    def horizon(self) -> int:
        """H, number of steps."""
        return self.actions.shape[1]

    def stacks(self) -> UInt8[Tensor, "b steps t h w 3"]:
        """Returns what the policy saw at each step."""
        seen = self.frames.shape[1] - self.horizon
        return self.frames[:, :-1].unfold(1, seen, 1).movedim(-1, 2)

    def reached(self) -> Float[Tensor, "b steps"]:
        """Returns the probability that a game has not ended before each step."""
        return torch.cat([torch.ones_like(self.going[:, :1]), self.going[:, :-1]], 1).cumprod(1)


class RealStarts:
    """Real frames to branch games from.

    Args:
        store: where they are.
        frames: how many of the last frames a game starts with.
        split: of the store.
    """

    def __init__(self, store: ClipStore, frames: int, split: str = "train"):
        self._store, self._frames = store, frames
        self._windows = store.window_starts(frames, split)

    def sample(self, count: int, seed: int) -> UInt8[Tensor, "b t h w 3"]:
        """Returns clips of real frames, all moments of all episodes alike."""
        chosen = np.random.default_rng([seed, 24]).choice(self._windows, count)
        return torch.from_numpy(np.array(self._store.windows(chosen, self._frames)))


def imagine(
    world: Genie,
    outcomes: Outcomes,
    policy: PolicyNetwork,
    clips: UInt8[Tensor, "b t h w 3"],
    horizon: int,
    seed: int = 0,
) -> Dreams:
    """Plays games in a world.

    No end is sampled. A game goes on, and what comes after an end that was likely counts less
    (Hafner et al. 2023, arXiv 2301.04104).

    On a CPU, `SHARE` games at a time are played by a thread, and as many threads work as PyTorch
    has. What is dreamt does not depend on their number.

    Args:
        world: that is played.
        outcomes: of steps, such as a `RewardModel` gives them.
        policy: chooses latent actions.
        clips: the real frames that games start with.
        horizon: steps of each game.
        seed: of all that is sampled.

    Returns:
        What was seen and done.
    """
    shares = clips.split(SHARE if world.device.type == "cpu" else len(clips))
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(shares),), generator=generator).tolist()
    threads = min(torch.get_num_threads(), len(shares))

    def play(clips: Tensor, seed: int) -> Dreams:
        return _play(world, outcomes, policy, clips, horizon, seed)

    # Threads that share an operation wait for each other; those with their own games do not.
    with _single_threads(threads) as each:
        parts = list(each(play, shares, seeds))
    return Dreams(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Dreams))
    )


@contextmanager
def _single_threads(count: int) -> Iterator[Callable[..., Iterable[Dreams]]]:
    """Yields a `map` that works on so many threads; operations on each use one CPU thread."""
    if count == 1:
        yield map
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


@torch.no_grad()
def _play(
    world: Genie,
    outcomes: Outcomes,
    policy: PolicyNetwork,
    clips: UInt8[Tensor, "b t h w 3"],
    horizon: int,
    seed: int,
) -> Dreams:
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(clips),), generator=generator)
    state = world.start(clips.numpy(), seeds.tolist())
    frames = list(last_frames(clips, policy.config.frames).unbind(1))
    features, steps = [state.dynamics.features.cpu()], []
    for _ in range(horizon):
        stack = torch.stack(frames[-policy.config.frames :], dim=1)
        log_probs = action_logits(policy, stack, world.dtype).log_softmax(-1)
        actions = torch.multinomial(log_probs.exp(), 1, generator=generator)
        chosen = actions[:, 0].to(world.device)
        rewards, ends = outcomes(state, chosen)
        steps.append((actions[:, 0], log_probs.gather(1, actions)[:, 0], rewards, 1 - ends))
        state = next_state(world, state, chosen)
        frames.append(state.frames.cpu())
        features.append(state.dynamics.features.cpu())
    parts = (torch.stack([part.cpu() for part in each], 1) for each in zip(*steps, strict=True))
    return Dreams(torch.stack(frames, 1), torch.stack(features, 1), *parts)


def action_logits(
    policy: PolicyNetwork, stacks: UInt8[Tensor, "b t h w 3"], dtype: torch.dtype
) -> Float[Tensor, "b a"]:
    """Returns logits of the latent actions, computed in float32 or, faster, in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return policy(stacks).float()


@torch.no_grad()
def next_state(world: Genie, state: State, actions: Int[Tensor, " b"]) -> State:
    """Plays an action like `Genie.step`, with random numbers that take less time.

    The tokens have the same distribution, but the frames of a seed are others.
    """
    sampling, context = world.config.sampling, world.dynamics.step_context(actions, state.dynamics)
    tokens = maskgit.sample(
        world._logits_fn(context, sampling.guidance),
        world.dynamics.grid,
        world.dynamics.mask_token,
        sampling,
        rng.make_keys(state.seed, state.time),
        sample_by_cumulation,
        first=world.tokenizer.coarse_tokens,
    )
    frames, decoder = world.tokenizer.decode_step(tokens, state.decoder)
    tokens = reencoded(world.tokenizer, tokens, frames, state.time, sampling.reencode_every)
    dynamics = world.dynamics.commit(tokens, context)
    return replace(state, frames=frames, dynamics=dynamics, decoder=decoder)


def sample_by_cumulation(
    logits: Float[Tensor, "b s v"],
    keys: Int[Tensor, " b"],
    temperature: float | Float[Tensor, ""],
    top_k: int,
) -> Int[Tensor, "b s"]:
    """Samples a token per position with one random number each, where Gumbel noise takes V.

    Args:
        logits: unnormalised log-probabilities.
        keys: one per player.
        temperature, top_k: as of `maskgit.sample_tokens`; temperatures are above 0.
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    ends = (logits.float() / temperature).softmax(-1).cumsum(-1)
    drawn = rng.integers(keys, logits.shape[1], 2**24).float() / 2**24
    wanted = (drawn * ends[..., -1])[..., None]
    return torch.searchsorted(ends, wanted, right=True)[..., 0].clamp_max(logits.shape[-1] - 1)
