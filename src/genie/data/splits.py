"""Which episodes are trained on, which are held out: pure functions of paths and pixel hashes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from genie.data.store import Episode

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_sources(names: Sequence[str], val_fraction: float) -> list[str]:
    """Returns `train`, `val` or `test` for each video.

    Folders of these names decide where some hold out videos; else a hash of the path does. With two
    or more videos at least one is held out (unless `val_fraction` is 0) and one is trained on.
    """
    folders = [_split_folder(name) for name in names]
    if "val" in folders:
        return [folder or "train" for folder in folders]
    free = [n for n, folder in enumerate(folders) if folder != "test"]
    ranks = {n: _hash_share(names[n]) for n in free}
    held = {n for n in free if ranks[n] < val_fraction}
    if val_fraction > 0 and len(free) > 1:
        held |= set() if held else {min(free, key=ranks.__getitem__)}
        held -= {max(free, key=ranks.__getitem__)} if len(held) == len(free) else set()
    return [
        "test" if n not in ranks else "val" if n in held else "train" for n in range(len(names))
    ]


def _split_folder(name: str) -> str | None:
    folders = [part.lower() for part in Path(name).parts[:-1]]
    return next((_SPLITS[folder] for folder in folders if folder in _SPLITS), None)


def _hash_share(name: str) -> float:
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


def merge_duplicates(episodes: Sequence[Episode]) -> tuple[list[Episode], dict[str, str]]:
    """Puts episodes of equal pixels into one split, so that nothing held out is trained on.

    Where folders name the split of a copy, that decides, `train` before `val` before `test`; else
    copies are trained on, unless nothing would be left to hold out.

    Returns:
        The episodes, and for each video whose folder could not be honoured, why.
    """
    alike: dict[str, list[Episode]] = {}
    for row in episodes:
        alike.setdefault(row.hash, []).append(row)
    named = _named_splits({row.source for row in episodes})
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


def _named_splits(sources: Iterable[str]) -> dict[str, str]:
    """The splits of the videos whose folders decide, as in `split_sources`."""
    folders = {name: _split_folder(name) for name in sources}
    deciding = _SPLITS.values() if "val" in folders.values() else ("test",)
    return {name: folder for name, folder in folders.items() if folder and folder in deciding}


def _common_split(rows: Sequence[Episode], named: dict[str, str]) -> str:
    wanted = {named[row.source] for row in rows if row.source in named}
    wanted = wanted or {row.split for row in rows}
    return next(split for split in ("train", "val", "test") if split in wanted)
