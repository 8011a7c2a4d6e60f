"""Which episodes are trained on, which are held out: pure functions of paths and pixel hashes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from genie.data.store import Episode


def split_sources(stated: Mapping[str, str | None], val_fraction: float) -> dict[str, str]:
    """Returns `train`, `val` or `test` for each video.

    The sources decide where they hold out videos; else a hash of the name does. With two or more
    videos at least one is held out (unless `val_fraction` is 0) and one is trained on.

    Args:
        stated: the split that the source states for each video, or None, by its name.
        val_fraction: fraction of the videos to hold out.
    """
    if "val" in stated.values():
        return {name: split or "train" for name, split in stated.items()}
    ranks = {name: _hash_fraction(name) for name, split in stated.items() if split != "test"}
    free = list(ranks)
    held = {name for name in free if ranks[name] < val_fraction}
    if val_fraction > 0 and len(free) > 1:
        held |= set() if held else {min(free, key=ranks.__getitem__)}
        held -= {max(free, key=ranks.__getitem__)} if len(held) == len(free) else set()
    return {
        name: "test" if name not in ranks else "val" if name in held else "train" for name in stated
    }


def _hash_fraction(name: str) -> float:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def hold_out_tail(
    episodes: Sequence[Episode], val_fraction: float, min_frames: int
) -> list[Episode]:
    """With one video only, holds out its end: a share of the frames, `min_frames` at the least.

    Where no episode can be cut in two there, the last of several is held out whole.
    """
    frames = sum(row.length for row in episodes)
    cut = frames - max(min_frames, round(frames * val_fraction))
    rows: list[Episode] = []
    for row in episodes:
        head, tail = cut - row.start, row.start + row.length - cut
        if row.start >= cut > 0:
            rows.append(replace(row, id=len(rows), split="val"))
        elif tail <= 0 or min(head, tail) < min_frames:
            rows.append(replace(row, id=len(rows)))
        else:
            rows.append(replace(row, id=len(rows), length=head, hash=f"{row.hash}-head"))
            rest = replace(row, start=cut, length=tail, split="val", hash=f"{row.hash}-tail")
            rows.append(replace(rest, id=len(rows)))
    if len(rows) > 1 and all(row.split == "train" for row in rows):
        rows[-1] = replace(rows[-1], split="val")
    return rows


def merge_duplicates(
    episodes: Sequence[Episode], stated: Mapping[str, str | None]
) -> tuple[list[Episode], dict[str, str]]:
    """Puts episodes of equal pixels into one split, so that nothing held out is trained on.

    Where the sources state the split of a copy, that decides, `train` before `val` before `test`.
    Else copies are trained on, unless nothing would be left to hold out.

    Args:
        episodes: of all videos.
        stated: as for `split_sources`.

    Returns:
        The episodes, and for each video whose stated split could not be kept, why.
    """
    alike: dict[str, list[Episode]] = {}
    for row in episodes:
        alike.setdefault(row.hash, []).append(row)
    named = _deciding(stated)
    splits = {digest: _common_split(rows, named) for digest, rows in alike.items()}
    if "val" not in splits.values() and list(splits.values()).count("train") > 1:
        free = (d for d, rows in alike.items() if not any(row.source in named for row in rows))
        held = [d for d in free if "val" in {row.split for row in alike[d]}]
        splits |= dict.fromkeys(held[:1], "val")
    lost: Counter[str] = Counter()
    for row in episodes:
        if named.get(row.source, splits[row.hash]) != splits[row.hash]:
            lost[row.source] += row.length
    notes = {
        name: f"{frames} frames left out of {named[name]}: the same pictures are in another split"
        for name, frames in lost.items()
    }
    return [replace(row, split=splits[row.hash]) for row in episodes], notes


def _deciding(stated: Mapping[str, str | None]) -> dict[str, str]:
    """The stated splits that decide, as in `split_sources`."""
    deciding = ("train", "val", "test") if "val" in stated.values() else ("test",)
    return {name: split for name, split in stated.items() if split and split in deciding}


def _common_split(rows: Sequence[Episode], named: dict[str, str]) -> str:
    wanted = {named[row.source] for row in rows if row.source in named}
    wanted = wanted or {row.split for row in rows}
    return next(split for split in ("train", "val", "test") if split in wanted)
