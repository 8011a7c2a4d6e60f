"""Folders of videos of which a fifth is broken, each in another of twenty ways."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from campaign.attacks import toys
from campaign.harness import Attack, Fell, Figures

GOOD = 80
NAMED, MAYBE = True, False
"""Whether a broken video must be named, or may also turn out to be readable."""

Break = Callable[[Path, bytes, random.Random], None]


def _bytes(change: Callable[[bytearray, random.Random], bytes | bytearray | None]) -> Break:
    def write(path: Path, whole: bytes, dice: random.Random) -> None:
        data = bytearray(whole)
        path.write_bytes(change(data, dice) or data)

    return write


def _flip(data: bytearray, dice: random.Random, first: int, last: int, count: int) -> None:
    for _ in range(count):
        data[dice.randrange(first, last)] ^= 1 << dice.randrange(8)


def _flip_pictures(data: bytearray, dice: random.Random) -> None:
    begin = data.index(b"mdat") + 8
    _flip(data, dice, begin, data.index(b"moov"), dice.randint(1, 60))


def _flip_head(data: bytearray, dice: random.Random) -> None:
    _flip(data, dice, data.index(b"moov") + 4, len(data), dice.randint(1, 20))


def _field(box: bytes, offset: int, *values: int) -> Break:
    """Writes 32-bit numbers into a box of the head, from its name on."""

    def change(data: bytearray, dice: random.Random) -> None:
        at = data.index(box) + offset
        data[at : at + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)

    return _bytes(change)


def _claim_size(data: bytearray, dice: random.Random) -> None:
    at = data.index(b"avc1") + 4 + 24
    data[at : at + 4] = struct.pack(">HH", 20_000, 20_000)
    at = data.index(b"tkhd") + 4 + 76
    data[at : at + 8] = struct.pack(">II", 20_000 << 16, 20_000 << 16)


def _gif(width: int, height: int, frames: int = 1) -> Break:
    def write(path: Path, whole: bytes, dice: random.Random) -> None:
        screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
        image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
        path.write_bytes(b"GIF89a" + screen + image * frames + b";")

    return write


def _subtitles(path: Path, whole: bytes, dice: random.Random) -> None:
    lines = (f"{i}\n00:00:{i:02},000 --> 00:00:{i:02},900\nhello {i}\n\n" for i in range(1, 50))
    path.write_text("".join(lines))


def _sound(path: Path, whole: bytes, dice: random.Random) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for number in range(20):
            silence = np.zeros((1, 1024), np.float32)
            sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 44100, 1024 * number
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def _no_frames(path: Path, whole: bytes, dice: random.Random) -> None:
    import av

    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()


def _frames(frames: Callable[[random.Random], np.ndarray]) -> Break:
    def write(path: Path, whole: bytes, dice: random.Random) -> None:
        from genie.data.video import write_video

        write_video(path, frames(dice), 15)

    return write


def _still(dice: random.Random) -> np.ndarray:
    return np.full((40, 32, 32, 3), dice.randrange(256), np.uint8)


def _short(dice: random.Random) -> np.ndarray:
    return toys.moving_square(dice.randint(1, 15), dice.randrange(99))


def _link(target: str) -> Break:
    return lambda path, whole, dice: path.symlink_to(target)


WAYS: dict[str, tuple[bool, Break]] = {
    "empty": (NAMED, lambda path, whole, dice: path.touch()),
    "text": (NAMED, _bytes(lambda data, dice: b"no video" * dice.randint(1, 999))),
    "noise": (NAMED, _bytes(lambda data, dice: dice.randbytes(5000))),
    "cut in the pictures": (NAMED, _bytes(lambda data, dice: data[: len(data) // 2])),
    "cut in the head": (  # before what only describes the video, without which it is whole
        NAMED,
        _bytes(
            lambda data, dice: data[: dice.randrange(data.index(b"moov") + 8, data.rindex(b"udta"))]
        ),
    ),
    "bits of pictures flipped": (MAYBE, _bytes(_flip_pictures)),
    "bits of the head flipped": (MAYBE, _bytes(_flip_head)),
    "head of zeros": (NAMED, _bytes(lambda data, dice: bytes(400) + data[400:])),
    "head of a PNG": (NAMED, _bytes(lambda data, dice: b"\x89PNG\r\n\x1a\n" + data[8:])),
    "no frames": (NAMED, _no_frames),
    "claims 20,000 x 20,000": (MAYBE, _bytes(_claim_size)),
    "endless duration": (MAYBE, _field(b"mvhd", 4 + 12, 1, 0xFFFFFFF0)),
    "lying frame rate": (MAYBE, _field(b"mdhd", 4 + 12, 1)),
    "frames of no duration": (MAYBE, _field(b"mdhd", 4 + 12, 0x7FFFFFFF)),
    "claims 2^31 samples": (MAYBE, _field(b"stsz", 4 + 8, 0x7FFFFFFF)),
    "samples of 2 GB": (MAYBE, _field(b"stsz", 4 + 4, 0x7FFFFFFF)),
    "subtitles only": (NAMED, _subtitles),
    "sound only": (NAMED, _sound),
    "stands still": (NAMED, _frames(_still)),
    "too short": (NAMED, _frames(_short)),
    "link to nowhere": (NAMED, _link("nowhere.mp4")),
    "link to an endless device": (NAMED, _link("/dev/zero")),
    "named pipe": (NAMED, lambda path, whole, dice: os.mkfifo(path)),
    "picture of 65,535 x 65,535": (NAMED, _gif(65_535, 65_535)),
    "10,000 pictures of 2,000 x 2,000": (MAYBE, _gif(2_000, 2_000, 10_000)),
}
ENDINGS = {
    "subtitles only": ".mkv",
    "no frames": ".mkv",
    "picture of 65,535 x 65,535": ".gif",
    "10,000 pictures of 2,000 x 2,000": ".gif",
}


def _prepare(shared: Path) -> None:
    from genie.data.prepare import prepare

    source = toys.make_videos(shared / "videos", GOOD)
    prepare(source, shared / "whole", **toys.HERE)
    table = json.loads((shared / "whole" / "store.json").read_text())
    hashes = {row["source"]: row["hash"] for row in table["episodes"]}
    (shared / "hashes.json").write_text(json.dumps(hashes))


def _break(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    from genie.data.prepare import prepare

    source, broken = own / "videos", {}
    source.mkdir()
    for path in (shared / "videos").iterdir():
        os.link(path, source / path.name)
    whole = (source / "clip-0000.mp4").read_bytes()
    for number, way in enumerate(dice.sample(list(WAYS), 20)):
        name = f"broken-{number:02d}{ENDINGS.get(way, '.mp4')}"
        WAYS[way][1](source / name, whole, dice)
        broken[name] = way
    options = {**toys.HERE, "workers": 2 if dice.random() < 0.3 else 0}
    report = prepare(source, own / "store", **options)
    table = json.loads((own / "store" / "store.json").read_text())
    hashes = {row["source"]: row["hash"] for row in table["episodes"]}
    good = json.loads((shared / "hashes.json").read_text())
    changed = [name for name, mark in good.items() if hashes.get(name) != mark]
    if changed:
        raise Fell(f"{len(changed)} good videos changed, such as {changed[0]}")
    named = report.skipped | report.notes
    for name, way in broken.items():
        if name not in named and (WAYS[way][0] or name not in hashes):
            raise Fell(f"{way}: not named")
        if name in named and len(named[name].splitlines()) != 1:
            raise Fell(f"{way}: {named[name]!r}")
    if left := _children():
        raise Fell(f"processes were left behind: {left}")
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, -1)) / 1024
    if memory > 2048:
        raise Fell(f"{memory:.0f} MB of memory")
    return "all named, the good ones as ever", {"MB": round(memory)}


def _children() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            words = path.with_name("cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and "resource_tracker" not in words:
            found.append(words[:80])
    return found


ATTACKS = (
    Attack(
        "broken-videos",
        "`genie prepare` of 100 videos, 20 of them broken, each in another of 25 ways",
        "all named with a reason; good ones unchanged; memory under 2 GB; no process left",
        50,
        _break,
        _prepare,
        ("genie.data.prepare", "tensorstore", "av"),
        300,
    ),
)
