"""Tokens and latent actions of a whole store, computed once and kept in it.

They are computed in pieces. A piece counts once it is safe on the disk, so a run that was killed
goes on after its last one. Each process of a run, on whatever machine, first computes its own share
of the pieces and then those of others that are not there yet. So nobody waits for anybody, and what
a killed process leaves is done by the rest. The last one writes the marker.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genie.data.cache import Rows, Span
from genie.data.store import ClipStore, Episode
from genie.models.backbone import TokenizerBackbone
from genie.models.latent_actions.base import LatentActionModel
from genie.training.distributed import rank_and_size

FRAMES_AT_ONCE = 256
SHORTEST_CHUNK = 64
PIECE_FRAMES = 4096
"""Frames whose results are written at once: so much work is lost to a kill, at most."""
MOST_PIECES = 65536
"""Files of one array. A store so large that it would have more gets larger pieces."""
KEEP_ARRAYS = 4
"""Arrays of each kind that stay in a store; those used longest ago are deleted."""

Compute = Callable[[Tensor, int], np.ndarray]
"""Frames (B,T,H,W,3) and how many of them are past only -> the results of the rest (B,T',...)."""
Piece = Sequence["Chunk"]
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
    store: ClipStore, tokenizer: TokenizerBackbone, clip_frames: int, advance: Advance
) -> tuple[Rows, Rows | None]:
    """Returns the tokens of all frames, encoded now or by an earlier run.

    Where the encoder sees the past, a frame in the middle of an episode and the same frame as a
    prompt have different tokens, and the dynamics must meet both.

    Args:
        store: frames, and where the results are kept.
        tokenizer: in evaluation mode; it runs where its weights are.
        clip_frames: length of the segments of the second array.
        advance: told the share done.

    Returns:
        Two arrays (N,S). The first has every frame encoded with all of the past that the encoder
        can see. The second has every segment of `clip_frames` frames encoded from its own first
        frame, as a prompt is; segments count from the start of an episode. It is None for an
        encoder that sees one frame at a time.
    """
    mark = fingerprint(tokenizer)
    dtype = np.uint16 if tokenizer.vocabulary <= 2**16 else np.int32

    def encode(frames: Tensor, past: int) -> np.ndarray:
        return tokenizer.encode(frames)[:, past:].cpu().numpy().astype(dtype)

    device, past = tokenizer.device, tokenizer.past
    if not past:
        chunks = list(_chunks(_shared(store), size=SHORTEST_CHUNK, past=0))
        return _precomputed(store, f"tokens-{mark}", chunks, encode, device, advance), None
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
    past = actions.past
    size = max(SHORTEST_CHUNK, past)

    def infer(frames: Tensor, past: int) -> np.ndarray:
        rows = np.full((len(frames), frames.shape[1] - past), -1, np.int64)
        if frames.shape[1] > 1:
            rows[:, :-1] = actions.infer(frames)[:, past:].cpu().numpy()
        return rows

    # An action read off two frames alone needs no regard for episodes, so that all chunks are of
    # one shape and share forwards; what it says across a border is dropped below,
    # so the array on disk means nothing there.
    episodes = store.episodes if past > 1 else _shared(store)
    chunks = list(_chunks(episodes, size=size, past=past, ahead=1))
    device = actions.device
    name = f"actions-{fingerprint(actions, *actions.reads)}"
    actions_of_frames = np.array(_precomputed(store, name, chunks, infer, device, advance))
    actions_of_frames[[episode.start + episode.length - 1 for episode in store.episodes]] = -1
    return actions_of_frames


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
) -> Rows:
    cache, pieces = store.cache, _pieces(chunks, max(PIECE_FRAMES, len(store) // MOST_PIECES))
    if cache.has(name):
        cache.touch(name)
    while not cache.has(name):
        for first, rows in _missing(store, name, pieces, compute, device, advance):
            cache.write_piece(name, first, rows)
        with suppress(FileNotFoundError):  # another run has trimmed them meanwhile
            cache.finish(name, [_span(piece) for piece in pieces])
            cache.trim(name.rpartition("-")[0], KEEP_ARRAYS)
    return cache.read(name)


def _pieces(chunks: Iterable[Chunk], frames: int) -> list[Piece]:
    """Chunks that are written together; the same whoever computes them, and where it begins."""
    pieces: list[list[Chunk]] = []
    for chunk in chunks:
        if not pieces or chunk.stop - _span(pieces[-1])[0] > frames:
            pieces.append([])
        pieces[-1].append(chunk)
    return list(pieces)


def _forwards(piece: Piece, total: int) -> Iterator[tuple[list[int], int]]:
    """Groups the chunks of a piece that share a forward: their positions, the length of a window.

    A chunk at the end of an episode has any length. Its window reads on to a power of two, so that
    many chunks share a forward: a GPU takes as long for a few frames as for thousands. The models
    are causal, so what follows a chunk does not change its results.
    """
    longest = max(chunk.end - chunk.first for chunk in piece)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, chunk in enumerate(piece):
        needed = chunk.end - chunk.first
        window = min(longest, 1 << (needed - 1).bit_length(), total - chunk.first)
        groups[chunk.start - chunk.first, window].append(position)
    for (_, window), positions in groups.items():
        clips = max(1, FRAMES_AT_ONCE // window)
        yield from ((positions[i : i + clips], window) for i in range(0, len(positions), clips))


def _span(piece: Piece) -> Span:
    return piece[0].start, piece[-1].stop


def _missing(
    store: ClipStore,
    name: str,
    pieces: Sequence[Piece],
    compute: Compute,
    device: torch.device,
    advance: Advance,
) -> Iterator[tuple[int, np.ndarray]]:
    """Computes the pieces that are not there yet; yields their first rows and their rows."""
    wanted = {_span(piece) for piece in pieces}
    there = store.cache.pieces(name) & wanted
    for piece in _order(pieces, *rank_and_size()):
        if (span := _span(piece)) in there:
            continue
        done = sum(stop - first for first, stop in there)
        rows: list[Any] = [None] * len(piece)
        for positions, window in _forwards(piece, len(store)):
            chunks = [piece[position] for position in positions]
            frames = store.windows([chunk.first for chunk in chunks], window)
            results = compute(
                torch.from_numpy(frames).to(device), chunks[0].start - chunks[0].first
            )
            for position, chunk, result in zip(positions, chunks, results, strict=True):
                rows[position] = result[: chunk.stop - chunk.start]
            done += sum(chunk.stop - chunk.start for chunk in chunks)
            advance(done / len(store))
        if store.cache.has(name):
            return
        yield span[0], np.concatenate(rows)
        there = store.cache.pieces(name) & wanted


def _order(pieces: Sequence[Piece], rank: int, size: int) -> list[Piece]:
    """The share of a process in order, then all others, those of each share from its end.

    So the one who helps and the one whose share it is meet at one piece only. Several who help with
    a share begin with different pieces of it.
    """
    shares = [pieces[len(pieces) * r // size : len(pieces) * (r + 1) // size] for r in range(size)]
    order, later = list(shares[rank]), list[Piece]()
    for owner in (*range(rank + 1, size), *range(rank)):
        for place, piece in enumerate(reversed(shares[owner])):
            first = place % (size - 1) == (rank - owner - 1) % size
            (order if first else later).append(piece)
    return [*order, *later]
