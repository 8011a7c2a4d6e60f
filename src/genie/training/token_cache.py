"""Tokens and latent actions of a whole store, computed once and kept in it.

They are computed in pieces. A piece counts once it is safe on the disk, so a run that was killed
goes on after its last one. Each process of a run goes through the pieces in an order of its own and
leaves out those that are there: so all share the work, and none depends on another.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from genie.core.config import UserError
from genie.data.store import ClipStore, Episode, Span
from genie.models.latent_actions import LatentActionModel
from genie.models.layers.transformer import TransformerConfig
from genie.models.tokenizer import VideoTokenizer

FRAMES_AT_ONCE = 256
SHORTEST_CHUNK = 64
PIECE_FRAMES = 4096
"""Frames whose results are written at once: so much work is lost to a kill, at most."""
KEEP_ARRAYS = 4
"""Arrays of each kind that stay in a store; those used longest ago are deleted."""
TIMEOUT_SECONDS = 900.0
"""Seconds without progress after which the process that joins the pieces counts as dead."""
POLL_SECONDS = 1.0

Compute = Callable[[Tensor, "Chunk"], np.ndarray]
Batch = list["Chunk"]
Piece = list[Batch]
Advance = Callable[[float], None]
"""Told the share of the store that is done; may raise to stop."""


@dataclass(frozen=True)
class Chunk:
    """Frames to run through a model.

    Attributes:
        first: first frame that is read.
        start: first frame whose result is kept; those before it are its past.
        stop: frame after the last one that is kept.
        end: frame after the last one that is read.
    """

    first: int
    start: int
    stop: int
    end: int


def fingerprint(*models: nn.Module) -> str:
    """Returns twelve hexadecimal digits that change when any weight or buffer does."""
    sha = hashlib.sha256()
    for model in models:
        for name, value in model.state_dict().items():
            content = value.detach().cpu().contiguous().reshape(-1)
            sha.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            sha.update(content.view(torch.uint8).numpy().tobytes() if content.numel() else b"")
    return sha.hexdigest()[:12]


def precompute_tokens(
    store: ClipStore, tokenizer: VideoTokenizer, clip_frames: int, advance: Advance
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the tokens of all frames, encoded now or by an earlier run.

    Where the encoder sees the past, a frame in the middle of an episode and the same frame as a
    prompt have different tokens, and the dynamics must meet both.

    Args:
        store: frames, and where the results are kept.
        tokenizer: in evaluation mode; it runs where its weights are.
        clip_frames: length of the segments of the second array.
        advance: told the share done.

    Returns:
        Two arrays (N,S): every frame encoded with all of the past that the encoder can see, and
        every segment of `clip_frames` frames, counted from the start of its episode, encoded from
        its own first frame; the second is None for an encoder that sees one frame at a time.
    """
    mark = fingerprint(tokenizer)
    dtype = np.uint16 if tokenizer.vocabulary <= 2**16 else np.int32

    def encode(frames: Tensor, chunk: Chunk) -> np.ndarray:
        skip = chunk.start - chunk.first
        return tokenizer.encode(frames)[:, skip:].flatten(0, 1).cpu().numpy().astype(dtype)

    device = tokenizer.to_code.weight.device
    if tokenizer.spatial_encoder:
        chunks = list(_chunks(_shared(store), size=SHORTEST_CHUNK, past=0))
        return _precomputed(store, f"tokens-{mark}", chunks, encode, device, advance), None
    past = receptive_field(tokenizer.config.encoder)
    long = list(_chunks(store.episodes, size=max(SHORTEST_CHUNK, past), past=past))
    short = list(_chunks(store.episodes, size=clip_frames, past=0))
    whole = _precomputed(store, f"tokens-whole-{mark}", long, encode, device, advance)
    name = f"tokens-fresh{clip_frames}-{mark}"
    return whole, _precomputed(store, name, short, encode, device, advance)


def precompute_actions(
    store: ClipStore, actions: LatentActionModel, advance: Advance
) -> np.ndarray:
    """Returns the latent action from each frame to the next, inferred now or by an earlier run.

    Every transition sees all of the past that the encoder can see, as when actions are inferred
    from a whole clip.

    Returns:
        int64 (N,); -1 at the last frame of each episode.
    """
    # The differences to frames before reach further back than the attention does.
    past = receptive_field(actions.config.encoder) + actions.config.num_frame_differences
    size = max(SHORTEST_CHUNK, past)

    def infer(frames: Tensor, chunk: Chunk) -> np.ndarray:
        skip, kept = chunk.start - chunk.first, chunk.stop - chunk.start
        row = np.full((len(frames), kept), -1, np.int64)
        if frames.shape[1] > 1:
            inferred = actions.infer(frames)[:, skip:].cpu().numpy()
            row[:, : inferred.shape[1]] = inferred
        return row.reshape(-1)

    # An action read off two frames alone needs no regard for episodes, so that all chunks are of
    # one shape and share forwards; what it says across a border is dropped below,
    # so the array on disk means nothing there.
    episodes = store.episodes if past > 1 else _shared(store)
    chunks = list(_chunks(episodes, size=size, past=past, ahead=1))
    device = actions.to_latent.weight.device
    name = f"actions-{fingerprint(actions)}"
    derived = np.array(_precomputed(store, name, chunks, infer, device, advance))
    derived[[episode.start + episode.length - 1 for episode in store.episodes]] = -1
    return derived


def receptive_field(config: TransformerConfig) -> int:
    """Returns how many frames back a stack of windowed attention can see."""
    return config.layers * (config.window - 1)


def _shared(store: ClipStore) -> list[Episode]:
    return [Episode(0, "", "", 0, len(store), "")]


def _chunks(
    episodes: Sequence[Episode], *, size: int, past: int, ahead: int = 0
) -> Iterator[Chunk]:
    for episode in episodes:
        end = episode.start + episode.length
        for start in range(episode.start, end, size):
            stop = min(start + size, end)
            yield Chunk(max(episode.start, start - past), start, stop, min(stop + ahead, end))


def _precomputed(
    store: ClipStore,
    name: str,
    chunks: Sequence[Chunk],
    compute: Compute,
    device: torch.device,
    advance: Advance,
) -> np.ndarray:
    rank, pieces = rank_zero_only.rank, _pieces(chunks)
    if rank == 0 and store.has_cached(name):
        store.touch_cached(name)
        store.drop_pieces(name)  # of a process that was late
    while not store.has_cached(name):
        for first, rows in _missing(store, name, pieces, compute, device, advance, rank):
            store.write_piece(name, first, rows)
        if rank == 0:
            with suppress(FileNotFoundError):  # another run has joined or trimmed them meanwhile
                store.join_pieces(name, [_span(piece) for piece in pieces])
                store.trim_cached(name.rpartition("-")[0], KEEP_ARRAYS)
        else:
            _wait_for_first_process(store, name, advance)
    return store.cached(name)


def _wait_for_first_process(store: ClipStore, name: str, advance: Advance) -> None:
    parent, seen, since = os.getppid(), None, time.monotonic()
    while not store.has_cached(name):
        advance(0.0)
        now, sizes = time.monotonic(), _sizes(store.path / "derived")
        if sizes != seen:
            seen, since = sizes, now
        if now - since > TIMEOUT_SECONDS or os.getppid() != parent:
            raise UserError(
                f"{name}: the first process, which joins the pieces, has failed or hangs; see what "
                "it said, then run the same command again"
            )
        time.sleep(POLL_SECONDS)


def _sizes(folder: Path) -> dict[str, int]:
    try:
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    except FileNotFoundError:  # not begun, or a file was renamed meanwhile
        return {}


def _batches(chunks: Iterable[Chunk]) -> Iterator[Batch]:
    """Neighbours of the same shape, which share a forward; the order of frames is kept."""
    for (_, _, length), same in groupby(chunks, _shape):
        alike = list(same)
        clips = max(1, FRAMES_AT_ONCE // length)
        yield from (alike[i : i + clips] for i in range(0, len(alike), clips))


def _pieces(chunks: Iterable[Chunk]) -> list[Piece]:
    """Batches that are written together; the same whoever computes them, and where it begins."""
    pieces: list[Piece] = []
    for batch in _batches(chunks):
        if not pieces or batch[-1].stop - _span(pieces[-1])[0] > PIECE_FRAMES:
            pieces.append([])
        pieces[-1].append(batch)
    return pieces


def _span(piece: Piece) -> Span:
    return piece[0][0].start, piece[-1][-1].stop


def _missing(
    store: ClipStore,
    name: str,
    pieces: Sequence[Piece],
    compute: Compute,
    device: torch.device,
    advance: Advance,
    rank: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Computes the pieces that are not there yet; yields their first rows and their rows."""
    wanted = {_span(piece) for piece in pieces}
    there = store.pieces(name) & wanted
    for piece in _order_of(rank, pieces):
        if (span := _span(piece)) in there:
            continue
        done, rows = sum(stop - first for first, stop in there), []
        for batch in piece:
            frames = store.windows([chunk.first for chunk in batch], _shape(batch[0])[-1])
            rows.append(compute(torch.from_numpy(frames).to(device), batch[0]))
            advance((done + batch[-1].stop - span[0]) / len(store))
        if store.has_cached(name):
            return
        yield span[0], np.concatenate(rows)
        there = store.pieces(name) & wanted


def _order_of(rank: int, pieces: Sequence[Piece]) -> Sequence[Piece]:
    return pieces if rank == 0 else random.Random(rank).sample(pieces, len(pieces))


def _shape(chunk: Chunk) -> tuple[int, int, int]:
    return chunk.start - chunk.first, chunk.stop - chunk.start, chunk.end - chunk.first
