"""Training of the dynamics: masks, context corruption, action dropout and the loss."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from genie.models.copy_head import TokenHead
from genie.models.layers.attention import causal_window_mask
from genie.models.layers.distributed import mean_over_ranks, own_rows, rand_rows, randint_rows

MaskRatio = Literal["uniform", "cosine", "linear"]


def sample_mask(tokens: Int[Tensor, "b t s"], ratio: MaskRatio) -> Bool[Tensor, "b t s"]:
    """Samples a mask: a fraction of the tokens of every frame, at least one.

    Args:
        tokens: of the frames.
        ratio: "uniform" in [0.5, 1], or that of the mask schedule of that name at random progress.

    Returns:
        True where a token is masked.
    """
    b, t, s = tokens.shape
    progress = rand_rows(b, t, 1, device=tokens.device)
    fraction = {
        "uniform": 0.5 + 0.5 * progress,
        "cosine": torch.cos(progress * (math.pi / 2)),
        "linear": 1 - progress,
    }[ratio]
    noise = rand_rows(b, t, s, device=tokens.device)
    return (noise < fraction) | (noise == noise.amin(dim=-1, keepdim=True))


def corrupt_context(
    tokens: Int[Tensor, "b t s"], vocabulary: int, largest: float, levels: int
) -> tuple[Int[Tensor, " b"], Int[Tensor, "b t s"]]:
    """Replaces a fraction of the tokens by random ones.

    Args:
        tokens: of the clips.
        vocabulary: V.
        largest: fraction at the highest level; 0 leaves all tokens as they are.
        levels: number of levels, from 0 to the largest fraction.

    Returns:
        A random level per clip, and the tokens.
    """
    level = randint_rows(tokens[:, 0, 0], levels)
    if largest == 0:
        return torch.zeros_like(level), tokens
    fraction = level[:, None, None] * (largest / (levels - 1))
    wrong = rand_rows(*tokens.shape, device=tokens.device) < fraction
    return level, torch.where(wrong, randint_rows(tokens, vocabulary), tokens)


def with_action_dropout(
    tokens: Int[Tensor, "b t s"],
    actions: Int[Tensor, "b t-1"],
    num_actions: int,
    *,
    everywhere: float,
    static: float,
    hidden: float,
) -> Int[Tensor, "b t-1"]:
    """Replaces some actions by random ones, and hides some.

    Args:
        tokens: of the clips.
        actions: the action between each frame and the next.
        num_actions: A, which also stands for a hidden action.
        everywhere: fraction of all steps that get a random action.
        static: fraction of the steps without a changed token that get a random action.
        hidden: fraction of all steps whose action is hidden.
    """
    if not any((everywhere, static, hidden)):
        return actions
    still = (tokens[:, 1:] == tokens[:, :-1]).all(dim=-1)
    clips, steps = actions.shape
    chance, again = own_rows(
        lambda rows: torch.rand(2, rows, steps, device=actions.device), clips, dim=1
    )
    chosen = (chance < everywhere) | (still & (again < static))
    actions = torch.where(chosen, randint_rows(actions, num_actions), actions)
    if not hidden:
        return actions
    chance = rand_rows(*actions.shape, device=actions.device)
    return actions.masked_fill(chance < hidden, num_actions)


def masked_cross_entropy(
    head: TokenHead,
    x: Float[Tensor, "b t s d"],
    previous: Int[Tensor, "b t s"],
    tokens: Int[Tensor, "b t+1 s"],
    masked: Bool[Tensor, "b t s"],
    *,
    changed_token_weight: float,
    label_smoothing: float,
    weights: Float[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Computes the cross-entropy of masked tokens, with more weight on those that change.

    Few tokens change, and these show what the actions do. A weight alone makes a model expect
    changes too often. So the loss subtracts its logarithm from the logit of copying, which keeps
    logits calibrated (Menon et al. 2021, arXiv 2007.07314). A token whose context was corrupted
    did not change but has to be repaired, so its weight is 1.

    Args:
        head: computes logits from features.
        x: features of frames 1 to T.
        previous: tokens of the frame before each, as the model sees them.
        tokens: of frames 0 to T, without mask or corruption.
        masked: True for the masked tokens of frames 1 to T.
        changed_token_weight: of tokens that differ from the one before.
        label_smoothing: of the cross-entropy.
        weights: of the frames in the loss; all are 1 when left out.

    Returns:
        The loss, and metrics without weights or smoothing: `masked_cross_entropy`,
        `masked_accuracy` and `changed_cross_entropy`.
    """
    rows = _rows(masked)
    targets, previous = _at(tokens[:, 1:], rows), _at(previous, rows)
    logits = head(_at(x, rows), previous)
    asked, true = _at(masked, rows), previous == _at(tokens[:, :-1], rows)
    changed = true & (targets != previous)
    adjustment = -math.log(changed_token_weight) * true[:, None]
    errors = F.cross_entropy(
        head.add_copy_logit(logits, previous, adjustment),
        targets,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    if weights is not None:
        errors = errors * _at(weights[..., None].expand_as(masked), rows)
    # Divided by their number and not by their weight, which depends on the targets: that would
    # take weight off the batches in which much changes, and the adjustment would be too much.
    learns = head.training
    loss = _mean(errors * torch.where(changed, changed_token_weight, 1.0), asked, learns)
    with torch.no_grad():
        plain = F.cross_entropy(logits, targets, reduction="none")
        hits = (logits.argmax(dim=-1) == targets).float()
        logs = {
            "masked_cross_entropy": _mean(plain, asked, learns),
            "masked_accuracy": _mean(hits, asked, learns),
            "changed_cross_entropy": _mean(plain, asked & changed, learns),
        }
    return loss, logs


def two_stream_mask(frames: int, window: int, device: torch.device) -> Bool[Tensor, "n n"]:
    """Makes the attention mask over [clean 0 to T - 2, masked copies of 1 to T - 1].

    Clean frames see the clean frames in their causal window. A masked copy sees itself and the
    clean frames before it in its window.

    Args:
        frames: T.
        window: frames that a frame sees, including itself.
        device: of the mask.

    Returns:
        True where a row may attend to a column, N = 2 (T - 1).
    """
    causal = causal_window_mask(frames, window, device)
    clean_to_clean = causal[:-1, :-1]
    masked_to_clean = causal[1:, :-1] & ~torch.eye(frames, dtype=torch.bool, device=device)[1:, :-1]
    itself = torch.eye(frames - 1, dtype=torch.bool, device=device)
    return torch.cat(
        [
            torch.cat([clean_to_clean, torch.zeros_like(itself)], dim=1),
            torch.cat([masked_to_clean, itself], dim=1),
        ]
    )


def _rows(masked: Tensor) -> tuple[Tensor, ...] | None:
    """Returns the indices of masked tokens, or None to compute the head everywhere.

    On a CPU this saves time. On a GPU it would wait for the number of indices, and a compiled graph
    would break.
    """
    everywhere = masked.device.type != "cpu" or torch.compiler.is_compiling()
    return None if everywhere else masked.nonzero(as_tuple=True)


def _at(values: Tensor, rows: tuple[Tensor, ...] | None) -> Tensor:
    return values.flatten(0, 2) if rows is None else values[rows]


def _mean(values: Tensor, where: Tensor, over_ranks: bool) -> Tensor:
    """Returns the mean over a mask; not a number where the mask is empty.

    Over all processes the count is the mean of theirs, and so is the mean over the mask.
    """
    count = where.sum().float()
    if over_ranks:
        mean_over_ranks(count)
    return (values * where).sum() / count
