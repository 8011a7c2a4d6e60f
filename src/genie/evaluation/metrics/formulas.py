"""The figures of a report as pure functions of frames, codes and labels.

Letters: B clips, T frames, H W C pixels. Frames are uint8 with channels last; errors are those of
`squared_error`, so that a PSNR is `10 * log10(1 / error)`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genie.models.layers.pixels import moving_pixels, psnr, squared_error, ssim

if TYPE_CHECKING:
    from genie.models.external_networks import NetworkFile

# --- errors of frames -----------------------------------------------------------------------


DRAWS = 1000
"""Of a bootstrap."""
ERRORS = {
    "psnr": "PSNR, mean over frames (dB)",
    "psnr_mean_error": "PSNR of the mean error (dB)",
    "psnr_moving": "PSNR on moving pixels (dB)",
    "ssim": "SSIM",
}
"""The figures of `FrameErrors.summary`, as the page calls them."""


@dataclass(frozen=True)
class FrameErrors:
    """What is wrong with predicted frames, clip by clip and frame by frame.

    Small enough to keep for every clip, so that frames are dropped batch by batch.

    Attributes:
        error: mean squared error of each frame.
        moving_error: squared errors summed over the pixels that moved.
        moving_count: how many pixels moved.
        similarity: structural similarity; NaN where it was not asked for.
        perceptual: distance by a network; NaN where there is none.
    """

    error: Float[Tensor, "B T"]
    moving_error: Float[Tensor, "B T"]
    moving_count: Float[Tensor, "B T"]
    similarity: Float[Tensor, "B T"]
    perceptual: Float[Tensor, "B T"]

    @classmethod
    def between(
        cls,
        real: UInt8[Tensor, "B T H W C"],
        predicted: UInt8[Tensor, "B T H W C"],
        moving: Bool[Tensor, "B T H W"],
        chosen: Sequence[int] | None = None,
        distance: NetworkFile | None = None,
    ) -> FrameErrors:
        """Compares frames.

        Args:
            real: what happened.
            predicted: what is compared with it.
            moving: the pixels that moved.
            chosen: the only frame indices for what is slower, SSIM and the network.
            distance: a network that compares two frames.
        """
        error = squared_error(real, predicted)
        similarity, perceptual = torch.full((2, *real.shape[:2]), torch.nan)
        chosen = list(range(real.shape[1]) if chosen is None else chosen)
        if chosen:
            pair = real[:, chosen], predicted[:, chosen]
            similarity[:, chosen] = ssim(*pair).cpu()
            if distance is not None:
                found = distance.distance(*(part.flatten(0, 1) for part in pair)).cpu()
                perceptual[:, chosen] = found.unflatten(0, (len(real), len(chosen)))
        return cls(
            error.mean((-2, -1)).cpu(),
            (error * moving).sum((-2, -1)).cpu(),
            moving.sum((-2, -1)).float().cpu(),
            similarity,
            perceptual,
        )

    @classmethod
    def cat(cls, parts: Sequence[FrameErrors]) -> FrameErrors:
        """Joins the errors of several batches of clips."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def at(self, frames: slice) -> FrameErrors:
        """Returns the errors of some frames of every clip."""
        return FrameErrors(*(getattr(self, f.name)[:, frames] for f in fields(self)))

    def psnr(self) -> Float[Tensor, "B T"]:
        """Returns the PSNR of each frame in dB."""
        return psnr(self.error)

    def moving_psnr(self) -> Float[Tensor, "B T"]:
        """Returns the PSNR over the moving pixels of each frame; NaN where nothing moved."""
        return psnr(self.moving_error / self.moving_count)

    def summary(self) -> dict[str, float]:
        """Returns the four figures quoted together, since the first alone misleads.

        `psnr` is the mean over frames, which frames that stand still dominate. `psnr_mean_error` is
        the PSNR of the mean error, which the worst frames dominate. `psnr_moving` is the PSNR of
        the mean error over moving pixels only, and `ssim` the mean structural similarity.
        """
        moved = self.moving_count.sum()
        return {
            "psnr": self.psnr().mean().item(),
            "psnr_mean_error": psnr(self.error.mean()).item(),
            "psnr_moving": psnr(self.moving_error.sum() / moved).item() if moved else math.nan,
            "ssim": self.similarity.nanmean().item(),
        }

    def intervals(self, episodes: Int[Tensor, " B"]) -> dict[str, list[float]]:
        """Returns 95 % intervals of the four figures of `summary`, low and high.

        Percentiles of a bootstrap over episodes: clips of one episode are drawn together, since
        they resemble each other (Efron and Tibshirani 1993). NaN for a single episode.

        Args:
            episodes: which episode each clip is from, the same for all its clips.
        """
        _, owner = episodes.unique(return_inverse=True)
        known = ~self.similarity.isnan()
        counted = (
            torch.ones_like(self.error), self.psnr(), self.error, self.moving_error,
            self.moving_count, known, self.similarity.nan_to_num() * known,
        )  # fmt: skip
        columns = torch.stack([part.double().sum(1) for part in counted], 1)
        count = int(owner.max()) + 1
        sums = columns.new_zeros(count, len(counted)).index_add_(0, owner, columns)
        weights = bootstrap_weights(count, [0, 14], DRAWS).double()
        frames, decibels, error, moved, moving, compared, similarity = (weights @ sums).unbind(1)
        drawn = {
            "psnr": decibels / frames,
            "psnr_mean_error": psnr(error / frames),
            "psnr_moving": psnr(moved / moving),
            "ssim": similarity / compared,
        }
        limits = torch.tensor([0.025, 0.975]).double()
        return {
            name: values.nanquantile(limits).tolist() if count > 1 else [math.nan, math.nan]
            for name, values in drawn.items()
        }


def errors_by_side(
    batches: Iterable[tuple[UInt8[Tensor, "B T H W C"], Mapping[str, Tensor]]],
    chosen: Sequence[int] | None = None,
    distance: NetworkFile | None = None,
) -> dict[str, FrameErrors]:
    """Compares several predictions with real frames, and drops the frames batch by batch.

    Args:
        batches: real frames, and by side what is compared with them. Those pixels have moved that
            differ from the side `copy_last_frame`.
        chosen: as for `FrameErrors.between`.
        distance: the same.
    """
    found: dict[str, list[FrameErrors]] = defaultdict(list)
    for real, sides in batches:
        moving = moving_pixels(real, sides["copy_last_frame"])
        for side, predicted in sides.items():
            found[side].append(FrameErrors.between(real, predicted, moving, chosen, distance))
    return {side: FrameErrors.cat(parts) for side, parts in found.items()}


# --- uncertainty ----------------------------------------------------------------------------


def bootstrap_weights(count: int, seed: Sequence[int], draws: int) -> Int[Tensor, "draws count"]:
    """Returns how often each of `count` episodes is drawn, each time as many as there are."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.multinomial(count, [1 / count] * count, draws))


def mean_interval(values: Float[Tensor, " n"]) -> dict[str, float]:
    """Returns mean, standard error and 95 % confidence interval of independent values.

    NaN values are left out and the rest counted. The interval is Student's, so that it stays honest
    for a handful of clips; it is NaN for fewer than two.
    """
    values = values[~values.isnan()].double()
    count = len(values)
    mean = values.mean().item() if count else math.nan
    stderr = values.std().item() / math.sqrt(count) if count > 1 else math.nan
    half = stderr * student_quantile(count - 1) if count > 1 else math.nan
    return {"mean": mean, "stderr": stderr, "low": mean - half, "high": mean + half, "clips": count}


def interval_over_episodes(
    values: Float[Tensor, " n"], episodes: Int[Tensor, " n"]
) -> dict[str, float]:
    """Returns the interval of the means of the episodes: clips of one episode resemble each other.

    Args:
        values: one per clip; NaN values are left out.
        episodes: which episode each clip is from.

    Returns:
        As `mean_interval`, with the number of `episodes` beside that of `clips`.
    """
    known = ~values.isnan()
    values, episodes = values[known].double(), episodes[known]
    means = [values[episodes == episode].mean() for episode in episodes.unique()]
    found = mean_interval(torch.stack(means) if means else values)
    return found | {"clips": len(values), "episodes": len(means)}


def student_quantile(freedom: int) -> float:
    """Returns the 97.5 % quantile of Student's t distribution.

    Exact for 1 and 2 degrees of freedom. Otherwise the expansion in powers of `1 / freedom`
    (Abramowitz and Stegun 26.7.5), right to 0.5 %.
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (4 * 0.975 * (1 - 0.975)))
    z = 1.959963984540054  # of the normal distribution
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


# --- codes and labels -----------------------------------------------------------------------


def code_counts(codes: Int[Tensor, "*shape"], size: int) -> Int[Tensor, " size"]:
    """Counts how often each of `size` codes occurs."""
    return torch.bincount(codes.flatten().cpu(), minlength=size)


def entropy(counts: Tensor) -> float:
    """Returns the entropy in nats of a table of counts of any shape."""
    share = counts.double().flatten() / counts.sum()
    share = share[share > 0]
    return -(share * share.log()).sum().item() + 0.0


def contingency(
    latent: Int[Tensor, " n"], true: Int[Tensor, " n"], latents: int, truths: int
) -> Int[Tensor, "latents truths"]:
    """Counts how often each latent action stands beside each true one."""
    return code_counts(latent * truths + true, latents * truths).reshape(latents, truths)


def mutual_information(table: Tensor) -> float:
    """Returns the mutual information in nats of the rows and columns of a table of counts."""
    return max(0.0, entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table))


def normalised_mutual_information(table: Tensor) -> float:
    """Returns mutual information over the mean of the two entropies, 0 to 1; 0 for constants."""
    mean = (entropy(table.sum(0)) + entropy(table.sum(1))) / 2
    return mutual_information(table) / mean if mean > 0 else 0.0


def purity(table: Tensor) -> float:
    """Returns the share explained by giving each row its most common column."""
    return (table.amax(1).sum() / table.sum()).item()


def agreement(table: Tensor) -> dict[str, float]:
    """Returns the three figures that say how well rows and columns agree."""
    return {
        "mutual_information": mutual_information(table),
        "normalised_mutual_information": normalised_mutual_information(table),
        "purity": purity(table),
    }


def macro_f1(table: Int[Tensor, "truths truths"]) -> float:
    """Returns the mean F1 of the true actions that occur, from true (rows) against read actions.

    F1 is the harmonic mean of precision and recall; every action counts alike, however rare.
    """
    return macro_f1_each(table).item()


def macro_f1_each(tables: Int[Tensor, "*tables truths truths"]) -> Float[Tensor, "*tables"]:
    """Returns `macro_f1` of each of many tables."""
    occur = tables.sum(-1) > 0
    diagonal = tables.diagonal(dim1=-2, dim2=-1)
    f1 = 2 * diagonal / (tables.sum(-2) + tables.sum(-1)).clamp_min(1)
    return (f1 * occur).sum(-1) / occur.sum(-1)


def action_map(table: Int[Tensor, "latents truths"]) -> Int[Tensor, " latents"]:
    """Returns the true action that stands most often beside each latent one.

    A latent action that does not occur in the table of counts gets the commonest true action.
    """
    return torch.where(table.sum(1) > 0, table.argmax(1), table.sum(0).argmax())
