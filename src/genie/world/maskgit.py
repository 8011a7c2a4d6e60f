"""MaskGIT sampling (Chang et al. 2022, arXiv 2202.04200): a frame's tokens in a few steps.

Pure functions over a callable that returns logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.core.config import require
from genie.world import rng

MaskSchedule = Literal["cosine", "linear", "exponential"]
Order = Literal["confidence", "random", "halton"]


@dataclass(frozen=True)
class SamplingConfig:
    """How the tokens of a frame are sampled.

    Attributes:
        steps: number of MaskGIT steps per frame.
        mask_schedule: how many tokens are still masked after each step. "cosine" and "exponential"
            keep few tokens at first and many at the end.
        order: tokens that are kept first: the most confident, random ones, or those of a Halton
            sequence, which spreads them over the frame (arXiv 2503.17076).
        temperature: divides the logits; 0 takes the most likely token.
        top_k: sample from this many of the most likely tokens only; 0 means all.
        guidance: strength g of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).
            The logits are (1 + g) times those with the action, less g times those with an unknown
            action. Above 0 each step runs the model twice, and the world must be trained with
            `dynamics.unconditional_fraction`.
        reencode_every: the drawn pixels of every so many frames are encoded again, and the dynamics
            remember these tokens instead of the sampled ones. 0 never does. It is meant against
            drift (`world/reencoding.py`).
    """

    steps: int = 8
    mask_schedule: MaskSchedule = "cosine"
    order: Order = "random"
    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 0.0
    reencode_every: int = 0

    def __post_init__(self) -> None:
        """Raises `UserError` for values outside their range."""
        require(self.steps >= 1, "steps: must be at least 1")
        require(0 <= self.temperature < math.inf, "temperature: must be finite and not negative")
        require(self.top_k >= 0, "top_k: must not be negative (0 means all)")
        require(0 <= self.guidance < math.inf, "guidance: must be finite and not negative")
        require(self.reencode_every >= 0, "reencode_every: must not be negative (0 never)")

    @property
    def model_calls(self) -> int:
        """Number of times that the dynamics run for a frame."""
        return self.steps * (2 if self.guidance > 0 else 1)


def mask_ratio(schedule: MaskSchedule, progress: float) -> float:
    """Returns the fraction of tokens that are still masked, from 1 to 0.

    Args:
        schedule: its shape.
        progress: fraction of the MaskGIT steps that are done, in [0, 1].
    """
    if schedule == "cosine":
        return math.cos(progress * math.pi / 2)
    if schedule == "linear":
        return 1 - progress
    return 1 - math.expm1(5 * progress) / math.expm1(5)


def masked_counts(tokens: int, steps: int, schedule: MaskSchedule) -> list[int]:
    """Returns the number of tokens still masked after each MaskGIT step; the last is 0.

    Every step keeps at least one token, so there are `min(steps, tokens)` steps.

    Args:
        tokens: S.
        steps: MaskGIT steps wanted.
        schedule: how the number falls.
    """
    steps = min(steps, tokens)
    counts, left = [], tokens
    for step in range(1, steps + 1):
        wanted = math.floor(tokens * mask_ratio(schedule, step / steps) + 1e-9)
        left = max(min(wanted, left - 1), steps - step)
        counts.append(left)
    return counts


def step_counts(tokens: int, config: SamplingConfig, first: int = 0) -> list[int]:
    """Returns the number of tokens still masked after each MaskGIT step of a sampling.

    Args:
        tokens: S.
        config: number of steps and schedule.
        first: tokens that are sampled before the others. Both parts then have steps of their own,
            in proportion to their tokens and at least one.
    """
    schedule = config.mask_schedule
    if not first:
        return masked_counts(tokens, config.steps, schedule)
    early = max(1, round(config.steps * first / tokens))
    late = max(1, config.steps - early)
    rest = tokens - first
    counts = [rest + left for left in masked_counts(first, early, schedule)]
    return counts + masked_counts(rest, late, schedule)


@cache
def halton_order(grid: tuple[int, int]) -> tuple[int, ...]:
    """Returns the cells of a grid in the order of a Halton sequence with bases 2 and 3."""
    rows, columns = grid
    seen: dict[int, None] = {}
    index = 1
    while len(seen) < rows * columns:
        row, column = (
            int(_radical_inverse(index, 2) * rows),
            int(_radical_inverse(index, 3) * columns),
        )
        seen.setdefault(row * columns + column)
        index += 1
    return tuple(seen)


def _radical_inverse(index: int, base: int) -> float:
    value, digit = 0.0, 1.0 / base
    while index:
        index, remainder = divmod(index, base)
        value += remainder * digit
        digit /= base
    return value


def sample_tokens(
    logits: Float[Tensor, "b s v"],
    gumbel: Float[Tensor, "b s v"],
    temperature: float | Float[Tensor, ""],
    top_k: int = 0,
) -> Int[Tensor, "b s"]:
    """Samples a token per position: the largest of logits over temperature plus Gumbel noise.

    Rounding hardly changes the result. Tokens differ between two computations of the same logits
    only where the two largest sums are almost equal.

    Args:
        logits: unnormalised log-probabilities.
        gumbel: standard Gumbel noise.
        temperature: divides the logits; 0 takes the most likely token. A tensor must be above 0.
        top_k: only this many of the most likely tokens count; 0 means all.
    """
    choices = logits
    if isinstance(temperature, Tensor) or temperature > 0:
        if 0 < top_k < logits.shape[-1]:
            least = logits.topk(top_k, dim=-1).values[..., -1:]
            choices = logits.masked_fill(logits < least, -torch.inf)
        choices = choices / temperature + gumbel
    return choices.max(dim=-1).indices  # on a CPU argmax takes 2.5 times as long


def sample_tokens_by_key(
    logits: Float[Tensor, "b s v"],
    keys: Int[Tensor, " b"],
    temperature: float | Float[Tensor, ""],
    top_k: int,
) -> Int[Tensor, "b s"]:
    """Calls `sample_tokens` with noise that depends on each player's key.

    Args:
        logits: unnormalised log-probabilities.
        keys: one per player.
        temperature, top_k: as of `sample_tokens`.
    """
    logits = logits.float()
    return sample_tokens(logits, rng.gumbel(keys, tuple(logits.shape[1:])), temperature, top_k)


def guided(
    given: Float[Tensor, "b s v"],
    unknown: Float[Tensor, "b s v"],
    guidance: float | Float[Tensor, ""],
) -> Float[Tensor, "b s v"]:
    """Moves logits with an action away from those without; see `SamplingConfig.guidance`.

    Args:
        given: logits where the action is known.
        unknown: logits where it is not.
        guidance: 0 returns `given`.
    """
    return torch.lerp(unknown, given, 1 + guidance)


def confidence(logits: Float[Tensor, "b s v"], tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """Returns the log-probability of tokens at temperature 1."""
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(dim=-1)


def sample(
    logits_fn: Callable[[Int[Tensor, "b s"], Int[Tensor, "b n"]], Float[Tensor, "b n v"]],
    grid: tuple[int, int],
    mask_token: int,
    config: SamplingConfig,
    keys: Int[Tensor, " b"],
    token_sampler: Callable[..., Int[Tensor, "b n"]] = sample_tokens_by_key,
    *,
    first: int = 0,
) -> Int[Tensor, "b s"]:
    """Samples all tokens of one frame for each player.

    In a fixed order, a MaskGIT step computes only the positions that it keeps, so each token is
    sampled once. By confidence, each step samples all tokens that are masked.

    Args:
        logits_fn: tokens, some of them `mask_token`, and masked positions, to logits over the
            vocabulary at those positions.
        grid: rows and columns of tokens.
        mask_token: V, which stands where a token is not known yet.
        config: steps, mask schedule, order, temperature and top-k.
        keys: one per player; they determine all random numbers.
        token_sampler: `sample_tokens_by_key` compiled, or itself. It gets the temperature as a
            tensor, so that one graph takes any; at 0 it is not used.
        first: so many tokens, from the first on, are sampled before the others.
    """
    total, players = grid[0] * grid[1], len(keys)
    tokens = torch.full((players, total), mask_token, device=keys.device)
    rng.prepare_counters((total * mask_token + 1) // 2, keys.device)  # for all logits of a frame
    ranked = fixed_order(config.order, grid, keys, first)
    temperature: float | Tensor = config.temperature
    if temperature > 0:
        temperature = torch.full((), temperature, dtype=torch.float32, device=keys.device)
    else:
        token_sampler = sample_tokens_by_key
    kept = 0
    counts = step_counts(total, config, first)
    for number, left in enumerate(counts, start=1):
        positions = step_positions(tokens, mask_token, ranked, kept, left, first)
        logits = logits_fn(tokens, positions)
        sampled = token_sampler(logits, keys + number, temperature, config.top_k)
        if ranked is None:
            scores = confidence(logits.float(), sampled)
            best = scores.argsort(dim=-1, descending=True, stable=True)
            best = best[:, : total - kept - left]
            positions, sampled = positions.gather(1, best), sampled.gather(1, best)
        tokens = tokens.scatter(1, positions, sampled)
        kept = total - left
    return tokens


def fixed_order(
    order: Order, grid: tuple[int, int], keys: Int[Tensor, " b"], first: int = 0
) -> Int[Tensor, "b s"] | None:
    """All positions in the order in which they are sampled, or None where confidence decides.

    Args:
        order: of the sampling.
        grid: rows and columns of tokens.
        keys: one per player; they decide a random order.
        first: so many positions, from the first on, come before the others.
    """
    if order == "confidence":
        return None
    if order == "random":
        ranked = rng.random_bits(keys, grid[0] * grid[1]).argsort(dim=-1, stable=True)
    else:
        ranked = _halton_positions(grid, keys.device).expand(len(keys), -1)
    if not first:
        return ranked
    return ranked.gather(1, (ranked >= first).int().argsort(dim=-1, stable=True))


def step_positions(
    tokens: Int[Tensor, "b s"],
    mask_token: int,
    ranked: Int[Tensor, "b s"] | None,
    kept: int,
    left: int,
    first: int = 0,
) -> Int[Tensor, "b n"]:
    """The positions that a MaskGIT step samples: the next ones of a fixed order, or all masked.

    Args:
        tokens: of the frame so far.
        mask_token: stands where a token is masked.
        ranked: what `fixed_order` returns.
        kept: number of tokens that are not masked.
        left: number of tokens that are masked after this step.
        first: as of `sample`; while some of these are masked, no others are sampled.
    """
    if ranked is not None:
        return ranked[:, kept : tokens.shape[1] - left]
    masked_first = (tokens != mask_token).int().argsort(dim=-1, stable=True)
    return masked_first[:, : (first if kept < first else tokens.shape[1]) - kept]


@cache
def _halton_positions(grid: tuple[int, int], device: torch.device) -> Int[Tensor, " s"]:
    return torch.tensor(halton_order(grid), device=device)
