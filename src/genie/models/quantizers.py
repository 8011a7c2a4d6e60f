"""Turning features into codes: one interface over VQ with a moving-average codebook, FSQ, LFQ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Real
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.layers.compile import graph_break
from genie.models.layers.kmeans import cluster_sums, kmeans, kmeans_plus_plus, nearest

# Levels per dimension that Mentzer et al. 2023 (arXiv 2309.15505, table 1) give for a size.
FSQ_LEVELS = {
    8: (4, 2),
    64: (8, 8),
    240: (8, 6, 5),
    1000: (8, 5, 5, 5),
    4375: (7, 5, 5, 5, 5),
    15360: (8, 8, 8, 6, 5),
    64000: (8, 8, 8, 5, 5, 5),
}

HANDFUL = 64
"""Codes up to which k-means is started with care."""

RESTARTS = 4
"""Starts of k-means for so few codes, of which the best is taken."""

ROUNDS = 10
"""Of k-means."""


@dataclass(frozen=True)
class QuantizerConfig:
    """Which codes, and how they are learned.

    Attributes:
        kind: "vq" (van den Oord et al. 2017, codebook as moving average), "fsq" (finite scalar
            quantisation, Mentzer et al. 2023) or "lfq" (lookup-free, Yu et al. 2023).
        codes: size of the vocabulary. FSQ takes the sizes of its paper, LFQ powers of two.
        dim: features per code; for "vq" only.
        ema_decay: of the moving averages, per step ("vq").
        commitment_weight: weight of the loss that keeps features near their code ("vq", "lfq").
        dead_code_threshold: a code used less than this share of its fair part is moved onto a
            feature of the batch at hand ("vq").
        entropy_weight: weight of the loss that spreads use over the codes ("lfq").
    """

    kind: Literal["vq", "fsq", "lfq"] = "vq"
    codes: int = 1024
    dim: int = 32
    ema_decay: float = 0.98
    commitment_weight: float = 0.25
    dead_code_threshold: float = 0.05
    entropy_weight: float = 0.1

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.codes >= 2, "codes: must be at least 2")
        require(self.dim >= 1, "dim: must be at least 1")
        require_at_most(self, codes=2**20, dim=65_536)
        require(0 <= self.ema_decay < 1, "ema_decay: must lie in [0, 1)")
        if self.kind == "fsq":
            sizes = ", ".join(map(str, FSQ_LEVELS))
            require(self.codes in FSQ_LEVELS, f"codes: FSQ has sizes {sizes}; got {self.codes}")
        if self.kind == "lfq":
            power = self.codes & (self.codes - 1) == 0
            require(power, f"codes: LFQ needs a power of two, got {self.codes}")


class Quantized(NamedTuple):
    """What a quantizer returns: vectors (..., dim) that pass gradients, codes (...), and a loss."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module):
    """Features (..., dim) to codes (...) in 0 ... size - 1, and codes back to vectors.

    Attributes:
        size: number of codes.
        dim: features per code.
    """

    size: int
    dim: int

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes; while training also learns the codebook."""
        raise TypeError("a Quantizer is one of VectorQuantizer, FiniteScalarQuantizer, LookupFree")

    def assign(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """The codes of features; learns nothing, whatever the mode."""
        return self(features).codes

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """The vectors that codes stand for."""
        raise TypeError("a Quantizer is one of VectorQuantizer, FiniteScalarQuantizer, LookupFree")


class VectorQuantizer(Quantizer):
    """Nearest entry of a codebook that follows its features as a moving average.

    Features are normalised to zero mean and unit variance first, so the codebook has a fixed scale.
    The first training batch places the codes by k-means; codes that fall out of use are moved onto
    features of the batch. Own code because vector-quantize-pytorch took four times as long a step
    on a CPU (docs/experiments).
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    placed: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config, self.size, self.dim = config, config.codes, config.dim
        self.register_buffer(
            "codebook", F.layer_norm(torch.randn(self.size, self.dim), (self.dim,))
        )
        self.register_buffer("usage", torch.ones(self.size))
        self.register_buffer("sums", self.codebook.clone())
        self.register_buffer("placed", torch.tensor(False))
        self.known_placed = False  # True saves a look at `placed`, which waits for the device

    def normalise(self, features: Tensor) -> Tensor:
        """Brings features to the scale of the codebook."""
        return F.layer_norm(features, (self.dim,))

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes; while training moves the codebook. The loss is the commitment loss."""
        features = self.normalise(features)
        flat = features.detach().reshape(-1, self.dim).float()
        with torch.autocast(flat.device.type, enabled=False):  # half precision would tie codes
            if self.training:
                self.place_once(flat)
            codes = nearest(flat, self.codebook)
            vectors = self.codebook[codes].view_as(features).to(features.dtype)
            if self.training:
                self._follow(flat, codes)
        loss = self.config.commitment_weight * F.mse_loss(features, vectors)
        vectors = features + (vectors - features).detach()
        return Quantized(vectors, codes.view(features.shape[:-1]), loss)

    def assign(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """The nearest codes; learns nothing, whatever the mode."""
        flat = self.normalise(features).reshape(-1, self.dim).float()
        with torch.autocast(flat.device.type, enabled=False):
            return nearest(flat, self.codebook).view(features.shape[:-1])

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """The codebook entries."""
        return self.codebook[codes]

    def place_once(self, features: Float[Tensor, "n dim"]) -> None:
        """Places the codes (`place`) unless that was done, or there are no features."""
        if not self.known_placed:
            graph_break(self._place_first, features)

    def _place_first(self, features: Tensor) -> None:
        if not self.placed and len(features):
            self.place(features)
        self.known_placed = bool(self.placed)

    def unplace(self) -> None:
        """Has the codes placed anew with the next features."""
        self.placed.fill_(False)
        self.known_placed = False

    @torch.no_grad()
    def place(self, features: Float[Tensor, "n dim"]) -> None:
        """Puts the codes where normalised features lie, by k-means.

        For a handful of codes the best of a few starts is taken.
        """
        sample = features[torch.randperm(len(features), device=features.device)[: 64 * self.size]]
        with torch.autocast(features.device.type, enabled=False):
            starts = RESTARTS if self.size <= HANDFUL else 1
            centres = kmeans(sample, lambda: _start(sample, self.size), ROUNDS, starts)
        self.codebook.copy_(centres)
        _same_on_all_ranks(self.codebook)
        fair = len(features) / self.size
        self.usage.fill_(fair)
        self.sums.copy_(self.codebook * fair)
        self.placed.fill_(True)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.known_placed = not self.placed.is_meta and bool(self.placed)

    @torch.no_grad()
    def _follow(self, flat: Tensor, codes: Tensor) -> None:
        counts, sums = cluster_sums(flat, codes, self.size)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.usage.lerp_(counts, 1 - self.config.ema_decay)
        self.sums.lerp_(sums, 1 - self.config.ema_decay)
        fair = self.usage.sum() / self.size
        dead = self.usage < self.config.dead_code_threshold * fair
        fresh = flat[torch.randint(len(flat), (self.size,), device=flat.device)]
        _same_on_all_ranks(fresh)
        self.sums.copy_(torch.where(dead[:, None], fresh * fair, self.sums))
        self.usage.copy_(torch.where(dead, fair, self.usage))
        self.codebook.copy_(self.sums / self.usage.clamp(min=1e-6)[:, None])


class FiniteScalarQuantizer(Quantizer):
    """FSQ of vector-quantize-pytorch behind our interface: rounds a few bounded numbers."""

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        from vector_quantize_pytorch import FSQ

        levels = FSQ_LEVELS[config.codes]
        with torch.device("cpu"):  # it reads its levels while being built, so not on "meta"
            self.quantize = FSQ(list(levels))
        self.size, self.dim = config.codes, len(levels)

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes; there is nothing to learn but what comes before, so the loss is zero."""
        vectors, codes = self.quantize(features.reshape(1, -1, self.dim))
        return Quantized(
            vectors.view_as(features),
            codes.view(features.shape[:-1]).long(),
            features.new_zeros(()),
        )

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """The grid points that codes stand for, in [-1, 1]."""
        return self.quantize.indices_to_codes(codes.reshape(1, -1)).view(*codes.shape, self.dim)


class LookupFree(Quantizer):
    """LFQ of vector-quantize-pytorch behind our interface: one bit per feature."""

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        from vector_quantize_pytorch import LFQ

        self.size, self.dim = config.codes, config.codes.bit_length() - 1
        self.quantize = LFQ(
            dim=self.dim,
            codebook_size=config.codes,
            entropy_loss_weight=config.entropy_weight,
            commitment_loss_weight=config.commitment_weight,
        )

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes; the loss is commitment plus entropy."""
        vectors, codes, loss = self.quantize(features.reshape(1, -1, self.dim))
        return Quantized(
            vectors.view_as(features), codes.view(features.shape[:-1]).long(), loss.sum()
        )

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """The corners of the cube that codes stand for."""
        return self.quantize.indices_to_codes(codes.reshape(1, -1)).view(*codes.shape, self.dim)


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer that a configuration names."""
    kinds = {"vq": VectorQuantizer, "fsq": FiniteScalarQuantizer, "lfq": LookupFree}
    return kinds[config.kind](config)


def perplexity(counts: Real[Tensor, " size"]) -> Float[Tensor, ""]:
    """Effective number of codes in use: 1 when all are the same, `size` when equally frequent.

    Args:
        counts: how often each code occurs.
    """
    share = counts / counts.sum().clamp(min=1)
    return torch.exp(-torch.special.xlogy(share, share).sum())


def _start(points: Tensor, size: int) -> Tensor:
    # k-means++ for a handful of codes; many codes are served well enough by random points.
    if len(points) < size:
        points = points[torch.randint(len(points), (size,), device=points.device)]
    return points[:size].clone() if size > HANDFUL else kmeans_plus_plus(points, points[:1], size)


def mean_over_ranks(values: Tensor) -> None:
    """Replaces a tensor by its mean over all processes; alone it stays as it is."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()


def _same_on_all_ranks(values: Tensor) -> None:
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(values, src=0)
