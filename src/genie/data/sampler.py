"""Which clip at which step: a pure function of seed, step and rank, with nothing to save.

Every epoch visits each clip once in its own order. The order is a keyed permutation of 0..n-1, so
any position is computed alone, at any n, without shuffling a list. The permutation is a Feistel
network with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie.core.config import require

_ROUNDS = 6


@dataclass(frozen=True)
class BatchIndex:
    """Identifies one micro-batch of one batch, on one process.

    Attributes:
        seed: seed of the order of clips.
        step: optimizer step, from 0 on.
        micro_batch: number of the micro-batch within the batch of this process.
        micro_batches: how many the batch of this process is split into (gradient accumulation).
        rank: number of the process.
        world_size: number of processes.
    """

    seed: int
    step: int = 0
    micro_batch: int = 0
    micro_batches: int = 1
    rank: int = 0
    world_size: int = 1

    def clip_starts(self, windows: np.ndarray, batch: int, *, salt: int = 0) -> np.ndarray:
        """Returns the first frames of the clips of this micro-batch.

        Args:
            windows: (n,) first frames of all clips.
            batch: clips per optimizer step, over all processes and micro-batches together.
            salt: another number gives another order of the same clips.

        Raises:
            UserError: the batch does not divide evenly.
        """
        return clips_at(windows, self.clip_numbers(batch), self.seed + salt)

    def clip_numbers(self, batch: int) -> np.ndarray:
        """Returns the running numbers of the clips of this micro-batch, counted from step 0.

        A micro-batch of all processes together has the same clips whatever their number, those of
        the first process first.

        Args:
            batch: clips per optimizer step, over all processes and micro-batches together.

        Raises:
            UserError: the batch does not divide evenly.
        """
        shares = self.micro_batches * self.world_size
        require(
            batch % shares == 0,
            f"batch_size: {batch} clips do not divide into {self.micro_batches} micro-batches on "
            f"{self.world_size} devices; change batch_size, grad_accum_steps or devices",
        )
        first = self.step * batch + self.rank * (batch // self.world_size) + self.micro_batch
        clips = np.arange(batch // shares, dtype=np.int64)
        return first + clips * self.micro_batches


def sample_clips(
    starts: np.ndarray,
    *,
    seed: int,
    step: int,
    rank: int = 0,
    world_size: int = 1,
    batch: int,
) -> np.ndarray:
    """Returns the clips of one batch.

    Args:
        starts: (n,) all clips, such as `ClipStore.window_starts`.
        seed: another seed gives another order.
        step: number of the batch, from 0 on.
        rank: which of the processes asks; ranks get disjoint parts of an epoch.
        world_size: number of processes.
        batch: clips per process and step.

    Returns:
        (batch,) entries of `starts`. A batch at the end of an epoch goes on in the next one.
    """
    require(0 <= rank < world_size, f"rank must be within 0..{world_size - 1}, got {rank}")
    require(step >= 0 and batch > 0, f"step must be 0 or more and batch above 0: {step}, {batch}")
    numbers = (step * world_size + rank) * batch + np.arange(batch, dtype=np.int64)
    return clips_at(starts, numbers, seed)


def clips_at(starts: np.ndarray, numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns the clips with these running numbers, counted from step 0.

    Args:
        starts: (n,) all clips.
        numbers: (b,) running numbers, from 0 on.
        seed: another seed gives another order.
    """
    require(len(starts) > 0, "there are no clips to sample from")
    epochs, positions = np.divmod(numbers, len(starts))
    chosen = np.empty(len(numbers), np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = permute(positions[here], len(starts), key=(seed, int(epoch)))
    return starts[chosen]


def permute(positions: np.ndarray, n: int, key: tuple[int, int]) -> np.ndarray:
    """Maps positions in 0..n-1 through the permutation that the key names; one to one."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = _round_keys(key)
    values = _feistel(positions.astype(np.uint64), half, keys)
    while (outside := values >= n).any():
        values[outside] = _feistel(values[outside], half, keys)
    return values.astype(np.int64)


def _round_keys(key: tuple[int, int]) -> np.ndarray:
    state = np.random.SeedSequence([part % 2**64 for part in key])
    return state.generate_state(_ROUNDS, np.uint64)


def _feistel(values: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
    bits, mask = np.uint64(half), np.uint64(2**half - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(values: np.ndarray) -> np.ndarray:
    # The finaliser of splitmix64 (Steele et al. 2014); unsigned products wrap around.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
