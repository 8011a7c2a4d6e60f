"""What a disk holds after a power cut, from what was recorded of the operations before it.

The rules are those of POSIX and no better:

- Of a file only what it held when it was last synced is there; of one that never was, nothing.
- A name that was made, changed or removed is certain when its folder was synced afterwards. Of the
  changes that were not, a random number survives, the oldest ones.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Disk:
    """Names and contents that survive a power cut.

    Attributes:
        names: path to the file behind it; "" is a folder.
        contents: what each file holds.
    """

    names: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """Returns what a folder holds, all of which is taken to be safe."""
        disk = cls()
        for path in [folder, *folder.rglob("*")]:
            node = "" if path.is_dir() else str(path.stat().st_ino)
            disk.names[str(path)] = node
            if node:
                disk.contents[node] = path.read_bytes()
        return disk

    def after(self, log: Path, dice: random.Random) -> Disk:
        """Returns what is left of this and of the operations that were recorded since."""
        disk = Disk(dict(self.names), dict(self.contents))
        path = log / "operations"
        rows = [row.split("\t") for row in path.read_text().splitlines()] if path.exists() else []
        rows = _completed(rows)
        for op, node, number, *_ in rows:
            if op == "sync":
                disk.contents[node] = (log / number).read_bytes()
        for op, node, _, name, other in self._surviving(rows, dice):
            disk._apply(op, node, name, other)
        return disk

    def write(self, folder: Path) -> None:
        """Writes all files of a folder as they are after the cut; what stood there is removed."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, node in sorted(self.names.items()):
            path = Path(name)
            if not path.is_relative_to(folder) or path == folder or not path.parent.is_dir():
                continue
            if node:
                path.write_bytes(self.contents.get(node, b""))
            else:
                path.mkdir(exist_ok=True)

    @staticmethod
    def _surviving(rows: list[list[str]], dice: random.Random) -> list[list[str]]:
        synced = {}
        for place, (op, _, _, name, _) in enumerate(rows):
            if op == "sync-folder":
                synced[name] = place
        changes = [(i, row) for i, row in enumerate(rows) if not row[0].startswith("sync")]
        sure = [all(synced.get(folder, -1) > i for folder in _folders(row)) for i, row in changes]
        lucky = dice.randint(0, sure.count(False))
        kept = []
        for (_, row), certain in zip(changes, sure, strict=True):
            if certain or lucky > 0:
                kept.append(row)
            lucky -= not certain
        return kept

    def _apply(self, op: str, node: str, name: str, other: str) -> None:
        if op == "create":
            self.names[name] = node
            self.contents.setdefault(node, b"")
        elif op == "mkdir":
            self.names[name] = ""
        elif op == "unlink":
            self.names.pop(name, None)
        elif op == "rename" and name in self.names:
            inside = [path for path in self.names if path.startswith(name + os.sep)]
            for path in [name, *inside]:
                self.names[other + path.removeprefix(name)] = self.names.pop(path)


def _completed(rows: list[list[str]]) -> list[list[str]]:
    """Gives each file a number of its own, and adds renames that were not seen.

    The system uses the numbers of removed files again. Some libraries rename by system calls of
    their own: then a file is synced under another name than it was made.
    """
    latest: dict[str, str] = {}
    known: dict[str, str] = {}
    found: list[list[str]] = []
    for place, (op, node, number, name, other) in enumerate(rows):
        if op == "create":
            latest[node] = f"{node}-{place}"
        node = latest.get(node, node)
        if op == "sync" and known.get(node, name) != name:
            found.append(["rename", node, number, known[node], name])
        found.append([op, node, number, name, other])
        if op in ("create", "sync", "rename"):
            known[node] = other or name
    return found


def _folders(row: list[str]) -> set[str]:
    op, _, _, name, other = row
    return {os.path.dirname(path) for path in ((name, other) if op == "rename" else (name,))}
