"""VQ: a codebook that follows its features (van den Oord et al. 2017, arXiv 1711.00937)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.layers.compile import graph_break
from genie.models.layers.distributed import (
    count_over_ranks,
    rows_over_ranks,
    sum_over_ranks,
)
from genie.models.layers.kmeans import cluster_sums, kmeans, kmeans_plus_plus, nearest
from genie.models.quantizers.base import BaseConfig, Quantized, Quantizer

SMALL_CODEBOOK = 64
"""Codes up to which k-means starts with k-means++ and is tried several times."""

KMEANS_RESTARTS = 4
"""Tries of k-means for a small codebook, of which the best is taken."""

KMEANS_ITERATIONS = 10
"""Lloyd iterations of k-means."""

SAMPLES_PER_CODE = 64
"""Features per code that k-means takes at most."""


@dataclass(frozen=True)
class VQConfig(BaseConfig):
    """Vector quantization with a codebook that is a moving average.

    Attributes:
        kind: "vq".
        codes: size of the vocabulary.
        dim: features of a code.
        ema_decay: decay of the moving averages, per step.
        commitment_weight: weight of the loss that keeps features near their code.
        dead_code_threshold: a code used less than this share of the mean use is moved onto a
            feature of the current batch.
    """

    kind: Literal["vq"] = "vq"
    dim: int = 32
    ema_decay: float = 0.98
    commitment_weight: float = 0.25
    dead_code_threshold: float = 0.05

    can_grow: ClassVar[bool] = True
    only_in_training: ClassVar[frozenset[str]] = frozenset(
        {"ema_decay", "commitment_weight", "dead_code_threshold"}
    )

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(self.dim >= 1, "dim: must be at least 1")
        require_at_most(self, dim=65_536)
        require(0 <= self.ema_decay < 1, "ema_decay: must lie in [0, 1)")

    def build(self) -> VectorQuantizer:
        """Returns a new quantizer of this configuration."""
        return VectorQuantizer(self)


class VectorQuantizer(Quantizer):
    """Takes the nearest entry of a codebook, which follows the features as a moving average.

    Features are normalised to zero mean and unit variance first, so the codebook has a fixed scale.
    The first training batch initializes the codes by k-means. Dead codes are moved onto features of
    the batch. The code is our own because a step of vector-quantize-pytorch took four times as long
    on a CPU (docs/experiments).

    Args:
        config: size of the codebook and how it is learned.

    Attributes:
        codebook: (size, dim), the vectors of the codes.
        usage: (size,), moving average of how often each code is used.
        sums: (size, dim), moving average of the sum of the features of each code.
        placed: whether the codebook is initialized. Saved worlds have the buffers by these names.
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    placed: Tensor

    def __init__(self, config: VQConfig):
        super().__init__()
        self.config, self.size, self.dim = config, config.codes, config.dim
        codebook = F.layer_norm(torch.randn(self.size, self.dim), (self.dim,))
        self.register_buffer("codebook", codebook)
        self.register_buffer("usage", torch.ones(self.size))
        self.register_buffer("sums", self.codebook.clone())
        self.register_buffer("placed", torch.tensor(False))
        self.known_initialized = False  # True saves reading `placed`, which waits for the device

    @property
    def initialized(self) -> bool:
        """True once the codebook has been initialized. Reading it waits for the device."""
        return bool(self.placed)

    def normalise(self, features: Float[Tensor, "*b dim"]) -> Float[Tensor, "*b dim"]:
        """Returns features at the scale of the codebook: zero mean and unit variance."""
        return F.layer_norm(features, (self.dim,))

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features; in training mode it updates the codebook.

        The loss is the commitment loss.
        """
        features = self.normalise(features)
        flat = features.detach().reshape(-1, self.dim).float()
        with torch.autocast(flat.device.type, enabled=False):  # half precision would tie codes
            if self.training:
                self.init_codebook_once(flat, own=True)
            codes = nearest(flat, self.codebook)
            vectors = self.codebook[codes].view_as(features).to(features.dtype)
            if self.training:
                self._update_ema(flat, codes)
        loss = self.config.commitment_weight * F.mse_loss(features, vectors)
        vectors = features + (vectors - features).detach()
        return Quantized(vectors, codes.view(features.shape[:-1]), loss)

    def encode(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """Returns the nearest codes. It learns nothing, in training mode either."""
        flat = self.normalise(features).reshape(-1, self.dim).float()
        with torch.autocast(flat.device.type, enabled=False):
            return nearest(flat, self.codebook).view(features.shape[:-1])

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the codebook entries of codes."""
        return self.codebook[codes]

    def init_codebook_once(self, features: Float[Tensor, "n dim"], own: bool = False) -> None:
        """Initializes the codebook unless that was done already or there are no features.

        Arguments are those of `init_codebook`.
        """
        if not self.known_initialized:
            graph_break(self._init_from_first, features, own)

    def _init_from_first(self, features: Tensor, own: bool) -> None:
        if not self.placed and len(features):
            self.init_codebook(features, own)
        self.known_initialized = bool(self.placed)

    def reset_codebook(self) -> None:
        """Makes the next training step initialize the codebook again."""
        self.placed.fill_(False)
        self.known_initialized = False

    @torch.no_grad()
    def init_codebook(self, features: Float[Tensor, "n dim"], own: bool = False) -> None:
        """Initializes the codebook by k-means.

        Args:
            features: normalised features, at least one. A small codebook takes the best of a few
                tries.
            own: whether they are those of this process, and others have others. Otherwise all
                processes have the same.
        """
        count = count_over_ranks(len(features)) if own else len(features)
        order = torch.randperm(count, device=features.device)[: SAMPLES_PER_CODE * self.size]
        sample = rows_over_ranks(features, order) if own else features[order]
        with torch.autocast(features.device.type, enabled=False):
            tries = KMEANS_RESTARTS if self.size <= SMALL_CODEBOOK else 1
            start = partial(_start, sample, self.size)
            centres = kmeans(sample, start, KMEANS_ITERATIONS, tries)
        self.codebook.copy_(centres)
        mean_usage = count / self.size
        self.usage.fill_(mean_usage)
        self.sums.copy_(self.codebook * mean_usage)
        self.placed.fill_(True)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.known_initialized = not self.placed.is_meta and bool(self.placed)

    @torch.no_grad()
    def _update_ema(self, flat: Tensor, codes: Tensor) -> None:
        counts, sums = cluster_sums(flat, codes, self.size)
        sum_over_ranks(counts)
        sum_over_ranks(sums)
        self.usage.lerp_(counts, 1 - self.config.ema_decay)
        self.sums.lerp_(sums, 1 - self.config.ema_decay)
        mean_usage = self.usage.sum() / self.size
        dead = self.usage < self.config.dead_code_threshold * mean_usage
        count = count_over_ranks(len(flat))
        new = rows_over_ranks(flat, torch.randint(count, (self.size,), device=flat.device))
        self.sums.copy_(torch.where(dead[:, None], new * mean_usage, self.sums))
        self.usage.copy_(torch.where(dead, mean_usage, self.usage))
        self.codebook.copy_(self.sums / self.usage.clamp(min=1e-6)[:, None])


def _start(points: Tensor, size: int) -> Tensor:
    # Only for a small codebook: for many codes random points are a good enough start.
    if len(points) < size:
        points = points[torch.randint(len(points), (size,), device=points.device)]
    return (
        points[:size].clone()
        if size > SMALL_CODEBOOK
        else kmeans_plus_plus(points, points[:1], size)
    )
