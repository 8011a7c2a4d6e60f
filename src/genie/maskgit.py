"""MaskGIT sampling (Chang et al. 2022, arXiv 2202.04200): all tokens of a frame in a few passes.

Pure functions over a callable that returns logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.config import require

Schedule = Literal["cosine", "linear", "exponential"]
Order = Literal["confidence", "random", "halton"]


@dataclass(frozen=True)
class SamplingConfig:
    """How a frame is drawn.

    Attributes:
        steps: refinement passes over the frame.
        schedule: how many tokens are still masked after each pass; "cosine" and "exponential"
            settle few tokens at first and many at the end.
        order: which tokens are settled first: the most confident, random ones, or those of a
            Halton sequence, which spreads them over the picture (arXiv 2503.17076).
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw from this many likeliest tokens only; 0 means all.
    """

    steps: int = 8
    schedule: Schedule = "cosine"
    order: Order = "random"
    temperature: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        """Refuses values outside their range."""
        require(self.steps >= 1, "steps: must be at least 1")
        require(self.temperature >= 0, "temperature: must not be negative")
        require(self.top_k >= 0, "top_k: must not be negative (0 means all)")


def masked_share(schedule: Schedule, spent: float) -> float:
    """Share of tokens still masked when `spent` in [0, 1] of the passes is done; 1 to 0."""
    if schedule == "cosine":
        return math.cos(spent * math.pi / 2)
    if schedule == "linear":
        return 1 - spent
    return 1 - math.expm1(5 * spent) / math.expm1(5)


def masked_counts(tokens: int, steps: int, schedule: Schedule) -> list[int]:
    """Tokens still masked after each pass: falling by at least one each, 0 at the end.

    More passes than tokens are no use, so there are `min(steps, tokens)`.
    """
    steps = min(steps, tokens)
    counts, left = [], tokens
    for step in range(1, steps + 1):
        wanted = math.floor(tokens * masked_share(schedule, step / steps) + 1e-9)
        left = max(min(wanted, left - 1), steps - step)
        counts.append(left)
    return counts


@cache
def halton_order(grid: tuple[int, int]) -> tuple[int, ...]:
    """Cells of a grid in the order in which a Halton sequence (bases 2 and 3) first visits them."""
    rows, columns = grid
    seen: dict[int, None] = {}
    index = 1
    while len(seen) < rows * columns:
        row, column = int(_radical_inverse(index, 2) * rows), int(_radical_inverse(index, 3) * columns)
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


def draw(
    logits: Float[Tensor, "b s v"],
    uniform: Float[Tensor, "b s"],
    temperature: float,
    top_k: int = 0,
) -> tuple[Int[Tensor, "b s"], Float[Tensor, "b s"]]:
    """Draws a token at each place by inverting the cumulative distribution.

    Args:
        logits: unnormalised log-probabilities.
        uniform: one number in [0, 1) for each place.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only the likeliest tokens count; 0 means all.

    Returns:
        The tokens, and the probability that the model (at temperature 1) gives each.
    """
    probability = logits.float().softmax(dim=-1)
    if temperature == 0:
        tokens = logits.argmax(dim=-1)
    else:
        scaled = logits.float() / temperature
        if 0 < top_k < logits.shape[-1]:
            least = scaled.topk(top_k, dim=-1).values[..., -1:]
            scaled = scaled.masked_fill(scaled < least, -torch.inf)
        cumulative = scaled.softmax(dim=-1).cumsum(dim=-1)
        wanted = uniform[..., None].to(cumulative) * cumulative[..., -1:]
        tokens = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
        tokens = tokens.clamp(max=logits.shape[-1] - 1)
    return tokens, probability.gather(-1, tokens[..., None])[..., 0]


def sample(
    logits_fn: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s v"]],
    grid: tuple[int, int],
    mask_token: int,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    device: torch.device | str = "cpu",
) -> Int[Tensor, "b s"]:
    """Draws all tokens of one frame for each player.

    Args:
        logits_fn: tokens, some of them `mask_token`, to logits over the vocabulary.
        grid: rows and columns of tokens.
        mask_token: the token that stands for "not known yet".
        config: passes, schedule, order, temperature, top-k.
        generators: one CPU generator per player, so that no player's frame depends on the others.
        device: where the tokens live.
    """
    total, players = grid[0] * grid[1], len(generators)
    counts = masked_counts(total, config.steps, config.schedule)
    noise = torch.stack([torch.rand(len(counts) + 1, total, generator=g) for g in generators])
    noise = noise.to(device)
    tokens = torch.full((players, total), mask_token, dtype=torch.int64, device=device)
    fixed = _fixed_priority(config.order, grid, noise[:, -1])
    for step, left in enumerate(counts):
        masked = tokens == mask_token
        drawn, confidence = draw(
            logits_fn(tokens), noise[:, step], config.temperature, config.top_k
        )
        priority = confidence if fixed is None else fixed
        # Settled tokens come first whatever their priority; the last `left` places stay masked.
        ranked = priority.masked_fill(~masked, torch.inf).argsort(dim=-1, descending=True, stable=True)
        settled = torch.zeros_like(masked).scatter_(1, ranked[:, : total - left], True)
        tokens = torch.where(masked & settled, drawn, tokens)
    return tokens


def _fixed_priority(order: Order, grid: tuple[int, int], noise: Tensor) -> Tensor | None:
    if order == "confidence":
        return None
    if order == "random":
        return noise
    cells = torch.tensor(halton_order(grid), device=noise.device)
    priority = torch.empty(len(cells), device=noise.device)
    priority[cells] = torch.arange(len(cells), 0, -1, device=noise.device, dtype=torch.float32)
    return priority.expand_as(noise)
