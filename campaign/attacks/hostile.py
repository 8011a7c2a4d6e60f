"""Folders and files from someone who means harm: worlds, replays, stores and sidecars."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from campaign.attacks import toys
from campaign.harness import Attack, Fell, Figures

SECONDS, MEGABYTES = 2.0, 2048
Poison = Callable[[Path, random.Random], None]
"""Puts something into a folder."""


class _Bomb:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


MARK = "code ran"


def _pickle(name: str) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        (folder / name).write_bytes(pickle.dumps(_Bomb(folder.parent / MARK)))

    return put


# -- files of any kind ---------------------------------------------------------------------------


def _text(name: str, make: Callable[[random.Random], str | bytes]) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        content = make(dice)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return put


def _changed(name: str, *place: Any, value: Any) -> Poison:
    """Sets a value in a JSON file, at a place in it."""

    def put(folder: Path, dice: random.Random) -> None:
        values = json.loads((folder / name).read_text())
        part = values
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        (folder / name).write_text(json.dumps(values))

    return put


def _huge(name: str) -> Poison:
    """A file of 100 GB that takes no room."""

    def put(folder: Path, dice: random.Random) -> None:
        with (folder / name).open("ab") as file:
            file.truncate(100 * 2**30)

    return put


def _link(name: str, target: str) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return put


def _pipe(name: str) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return put


def _noise(name: str) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        data = bytearray((folder / name).read_bytes())
        for _ in range(dice.randint(1, 200)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        cut = dice.choice((len(data), dice.randrange(len(data))))
        (folder / name).write_bytes(data[:cut])

    return put


def _deep(dice: random.Random) -> str:
    depth = dice.choice((1_000, 100_000, 3_000_000))
    opening, closing = dice.choice((("[", "]"), ('{"a":', "}")))
    return opening * depth + closing * depth


def _long(dice: random.Random) -> str:
    return json.dumps({"names": ["x" * 30_000_000]})


BAD_JSON = {
    "deep": _deep,
    "long": _long,
    "empty": lambda dice: "",
    "bytes": lambda d: d.randbytes(999),
}


# -- weights -------------------------------------------------------------------------------------


def _weights(name: str, change: Callable[[dict[str, Any], random.Random], object]) -> Poison:
    """Changes the header of a file of weights, and leaves its numbers."""

    def put(folder: Path, dice: random.Random) -> None:
        data = (folder / name).read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        change(header, dice)
        text = json.dumps(header).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return put


def _tensor(header: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    return header[dice.choice([name for name in sorted(header) if name != "__metadata__"])]


def _enlarge(header: dict[str, Any], dice: random.Random) -> None:
    tensor = _tensor(header, dice)
    tensor["shape"] = dice.choice(([10**6, 10**6], [2**62, 4], [2**63], [10**12]))


def _enlarge_all(header: dict[str, Any], dice: random.Random) -> None:
    tensor = _tensor(header, dice)
    tensor["shape"], tensor["data_offsets"] = [10**12], [0, 4 * 10**12]


def _overlap(header: dict[str, Any], dice: random.Random) -> None:
    _tensor(header, dice)["data_offsets"] = [0, 10]


def _other_kind(header: dict[str, Any], dice: random.Random) -> None:
    _tensor(header, dice)["dtype"] = dice.choice(("F64", "I8", "BOOL", "X9", "F8_E4M3", "I64"))


def _negative(header: dict[str, Any], dice: random.Random) -> None:
    _tensor(header, dice)["shape"] = dice.choice(([-1], [], [0], "all", None, [1.5], [2**64]))


def _many(header: dict[str, Any], dice: random.Random) -> None:
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header.update({f"a.{i}.row_scale": nothing for i in range(100_000)})


def _length(number: int) -> Callable[[random.Random], bytes]:
    return lambda dice: struct.pack("<Q", number) + b'{"a":1}' + bytes(99)


WEIGHTS: Mapping[str, Callable[[dict[str, Any], random.Random], object]] = {
    "10^12 elements": _enlarge,
    "10^12 elements and bytes": _enlarge_all,
    "overlapping": _overlap,
    "other kind": _other_kind,
    "odd shape": _negative,
    "100,000 tensors": _many,
}


def _of_weights(name: str) -> dict[str, Poison]:
    return {
        **{f"{name}: {kind}": _weights(name, change) for kind, change in WEIGHTS.items()},
        f"{name}: header of 2^63 bytes": _text(name, _length(2**63)),
        f"{name}: header of 99 MB": _text(name, _length(99_000_000)),
        f"{name}: a pickle": _pickle(name),
        f"{name}: noise": _noise(name),
        f"{name}: 100 GB": _huge(name),
        f"{name}: link to a device": _link(name, "/dev/zero"),
        f"{name}: pipe": _pipe(name),
    }


def _of_json(name: str) -> dict[str, Poison]:
    return {
        **{f"{name}: {kind}": _text(name, make) for kind, make in BAD_JSON.items()},
        f"{name}: noise": _noise(name),
        f"{name}: 100 GB": _huge(name),
        f"{name}: link to a device": _link(name, "/dev/zero"),
        f"{name}: pipe": _pipe(name),
        f"{name}: link out": _link(name, "/etc/passwd"),
    }


# -- worlds --------------------------------------------------------------------------------------


def _png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bomb_of(side: int) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        packer = zlib.compressobj(9)
        rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side))
        return _png(side, side, rows + packer.flush())

    return make


def _text_bomb(dice: random.Random) -> bytes:
    body = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    return _png(16, 16, zlib.compress(bytes(16 * 49)), chunk)


def _many_prompts(folder: Path, dice: random.Random) -> None:
    for number in range(3, 5_000):
        os.link(folder / "prompts" / "0.png", folder / "prompts" / f"{number}.png")


NUMBERS = (10**9, 2**63, -1, 0, 1e308, "x", None, [], {}, True, 10**400)
FIELDS: tuple[tuple[str, ...], ...] = (
    ("height",), ("width",), ("fps",), ("num_actions",), ("tokenizer",), ("dynamics",),
    ("tokenizer", "patch"), ("tokenizer", "encoder", "layers"), ("tokenizer", "encoder", "width"),
    ("tokenizer", "encoder", "heads"), ("tokenizer", "encoder", "window"),
    ("tokenizer", "quantizer", "codes"), ("tokenizer", "quantizer", "dim"),
    ("tokenizer", "backbone"), ("actions", "patch"), ("actions", "encoder", "layers"),
    ("actions", "max_displacement"), ("actions", "downsample"), ("dynamics", "layers"),
    ("dynamics", "width"), ("dynamics", "window"), ("sampling", "steps"), ("sampling", "order"),
    ("sampling", "temperature"), ("sampling", "reencode_every"), ("sampling", "top_k"),
)  # fmt: skip


def _configured(folder: Path, dice: random.Random) -> None:
    field = dice.choice(FIELDS)
    _changed("config.json", "config", *field, value=dice.choice(NUMBERS))(folder, dice)


WORLDS: dict[str, Poison] = {
    **_of_weights("model.safetensors"),
    **_of_json("config.json"),
    **_of_json("names.json"),
    **_of_json("actions.json"),
    **_of_json("mapper/config.json"),
    **_of_weights("mapper/model.safetensors"),
    **_of_json("reward/config.json"),
    **_of_weights("reward/model.safetensors"),
    **{
        f"a pickle beside it ({n})": _pickle(n)
        for n in ("a.pt", "b.bin", "optimizer.pkl", "c.CKPT")
    },
    "prompt of 20,000 x 20,000": _text("prompts/0.png", _bomb_of(20_000)),
    "prompt of 13,000 x 13,000": _text("prompts/0.png", _bomb_of(13_000)),
    "prompt claims 2^31 x 2^31": _text("prompts/0.png", lambda dice: _png(2**31 - 1, 2**31 - 1)),
    "prompt with 200 MB of text": _text("prompts/0.png", _text_bomb),
    "prompt is a pickle": _pickle("prompts/0.png"),
    "prompt is /etc/passwd": _link("prompts/0.png", "/etc/passwd"),
    "prompt is a device": _link("prompts/0.png", "/dev/zero"),
    "prompt is a pipe": _pipe("prompts/0.png"),
    "5,000 prompts": _many_prompts,
    "names with control characters": _changed(
        "names.json", "names", value=["\x1b[2J", "a\nb", "\0", "\u202e"]
    ),
    "mapper of 10^9 channels": _changed("mapper/config.json", "config", "width", value=10**9),
    "mapper of 10^6 names": _changed(
        "mapper/config.json", "config", "action_names", value=[f"{i}" for i in range(10**6)]
    ),
    "mapper of names with control characters": _changed(
        "mapper/config.json", "config", "action_names", 0, value="\x1b]0;x\x07\n"
    ),
    "reward model of 10^9 channels": _changed(
        "reward/config.json", "config", "heads", "width", value=10**9
    ),
    "reward model of 10^5 channels": _changed(
        "reward/config.json", "config", "heads", "width", value=10**5
    ),
    **{f"a field of the configuration ({i})": _configured for i in range(40)},
}


def _prepare_world(shared: Path) -> None:
    from dataclasses import asdict

    from genie.models.reward_heads import RewardHeads
    from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
    from genie.world.action_names import write_names
    from genie.world.genie import Genie
    from genie.world.replay import Replay
    from genie.world.reward_model import RewardModel, RewardModelConfig, hashes, new_heads

    folder = shared / "world"
    toys.save_world(folder, 0)
    world = Genie.from_pretrained(folder, "cpu")
    names = ("left", "right", "up", "down")
    write_names(folder, names)
    shutil.copy(
        Path(__file__).parents[2] / "src/genie/world/bundled/coinrun-tiny/actions.json", folder
    )
    about = MapperConfig("network", names, 4, latent_actions_hash(world), 99)
    ActionMapper(about).save_pretrained(folder / "mapper")
    heads: RewardHeads = new_heads(world)
    config = RewardModelConfig(heads.config, hashes(world))
    RewardModel(config, heads).save_pretrained(folder / "reward")
    game = Replay.of_game(world, "world", toys.moving_square(1, 0, toys.SIDE)[0], 1, [0, 1, 2, 3])
    (shared / "game.json").write_text(json.dumps(asdict(game)))
    before = resource.getrusage(resource.RUSAGE_SELF)
    _done(["replay", str(shared / "game.json"), "--world", str(folder), "--out", f"{shared}/a.gif"])
    (shared / "usual").write_text(str(_seconds_since(before)))


def _open_world(folder: Path) -> None:
    """Opens all that can lie in a world's folder, as `genie play` does."""
    from genie.world.action_groups import players_groups
    from genie.world.action_mapper import read_mapper
    from genie.world.action_names import read_names
    from genie.world.genie import Genie
    from genie.world.prompts import load_prompts
    from genie.world.reward_model import RewardModel

    world = Genie.from_pretrained(folder, "cpu")
    size = world.config.height, world.config.width
    read_names(folder, world.config.num_actions)
    players_groups(folder, world.config.num_actions)
    read_mapper(folder, world)
    load_prompts(None, *size, folder)
    RewardModel.from_pretrained(folder, world)


def _attack_world(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    kind = dice.choice(list(WORLDS))
    folder = shutil.copytree(shared / "world", own / "world")
    WORLDS[kind](folder, dice)
    command = ["generate", str(folder), "--frames", "2", "--out", str(own / "clip.gif")]
    if "mapper" in kind:
        command += ["--actions", "left,right"]
    inside = (
        any(word in kind for word in ("names", "actions.json", "reward")) or dice.random() < 0.3
    )
    usual = float((shared / "usual").read_text())
    return _harmless(kind, own, (lambda: _open_world(folder)) if inside else command, usual)


# -- worlds in parts -----------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"
OUT = "model-00001-of-00001.safetensors"
Where = dict[str, Any]
"""The file of each tensor by an index."""


def _mapped(change: Callable[[Where, random.Random], Where]) -> Poison:
    """Changes which tensors the index says to be in which part."""

    def put(folder: Path, dice: random.Random) -> None:
        values = json.loads((folder / INDEX).read_text())
        values["weight_map"] = change(values["weight_map"], dice)
        (folder / INDEX).write_text(json.dumps(values))

    return put


def _one(*files: Any) -> Poison:
    """A tensor lies in another file by the index."""

    def change(where: Where, dice: random.Random) -> Where:
        return where | {dice.choice(sorted(where)): dice.choice(files)}

    return _mapped(change)


def _a_part(make: Callable[[str], Poison]) -> Poison:
    """Does something to one of the parts."""

    def put(folder: Path, dice: random.Random) -> None:
        name = dice.choice(sorted(path.name for path in folder.glob("model-*-of-*")))
        make(name)(folder, dice)

    return put


def _all_parts(make: Callable[[str], Poison]) -> Poison:
    def put(folder: Path, dice: random.Random) -> None:
        for path in sorted(folder.glob("model-*-of-*")):
            make(path.name)(folder, dice)

    return put


def _many_files(count: int) -> Callable[[Where, random.Random], Where]:
    def change(where: Where, dice: random.Random) -> Where:
        files = (f"model-{i % 100_000:05}-of-{i // 100_000:05}.safetensors" for i in range(count))
        return {f"t{i}": file for i, file in enumerate(files)}

    return change


def _parts_that_are_there(folder: Path, dice: random.Random) -> None:
    """An index of 255 parts, all of which are the same file."""
    part = next(folder.glob("model-*-of-*"))
    files = [f"model-{i:05}-of-00255.safetensors" for i in range(255)]
    for file in files:
        os.link(part, folder / file)
    _mapped(lambda where, _: {f"t{i}": file for i, file in enumerate(files)})(folder, dice)


def _exchanged(folder: Path, dice: random.Random) -> None:
    first, second = dice.sample(sorted(folder.glob("model-*-of-*")), 2)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _in_two_parts(folder: Path, dice: random.Random) -> None:
    """A tensor lies in a second part as well, with other numbers."""
    from safetensors.torch import load_file, save_file

    first, second = dice.sample(sorted(folder.glob("model-*-of-*")), 2)
    name, tensor = dice.choice(sorted(load_file(first).items(), key=lambda item: item[0]))
    save_file(load_file(second) | {name: tensor + 1}, second)
    if dice.random() < 0.5:  # the index says so, by a key that is there twice
        text = (folder / INDEX).read_text()
        key = f'"{name}": "{first.name}"'
        (folder / INDEX).write_text(text.replace(key, f'{key}, "{name}": "{second.name}"'))


def _linked_parts(folder: Path, dice: random.Random) -> None:
    """Parts that lie outside: the Hub's cache has them like this, with the right content."""
    outside = folder.parent / "outside"
    outside.mkdir()
    for path in folder.glob("model-*-of-*"):
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)


LARGE = {"x": "x" * 90_000_000}
PARTS: dict[str, Poison] = {
    **_of_json(INDEX),
    "a file outside": _one(f"../{OUT}", f"/tmp/{OUT}", "/etc/passwd", f"..\\{OUT}", f"a/../{OUT}"),
    "a file of another kind": _one(
        "config.json", "a.pt", "", "\0", f"{OUT}\n", "\x1b[2J", "." * 999
    ),
    "no names of files": _one(None, 7, [OUT], {"a": OUT}, True, 1e300),
    "a part that is not here": _one(OUT, "model-99999-of-99999.safetensors"),
    "another part": _mapped(lambda where, dice: where | {min(where): where[max(where)]}),
    "all in one part": _mapped(lambda where, dice: dict.fromkeys(where, min(where.values()))),
    "nothing": _mapped(lambda where, dice: {}),
    "one tensor less": _mapped(lambda where, dice: dict(sorted(where.items())[1:])),
    "names of tensors with control characters": _mapped(
        lambda where, dice: {f"\x1b[2J\n{name}": file for name, file in where.items()}
    ),
    "a name of a tensor of 3 MB": _mapped(
        lambda where, dice: where | {"x" * 3_000_000: min(where.values())}
    ),
    "10^6 parts": _mapped(_many_files(10**6)),
    "60,000 parts": _mapped(_many_files(60_000)),
    "16,000 parts": _mapped(_many_files(16_000)),
    "255 parts that are one file": _parts_that_are_there,
    "a map that is none": _mapped(lambda where, dice: dice.choice(([], "x", None, 7, [where]))),
    "no map": _text(INDEX, lambda dice: '{"metadata": {"total_size": 99}}'),
    **{
        f"a size of {value}": _changed(INDEX, "metadata", "total_size", value=value)
        for value in (-1, 0, 10**18, 1e308, 10**400, "much", None, [[]], True)
    },
    "metadata that are none": _changed(INDEX, "metadata", value=[1, "x"]),
    "deep metadata": _text(
        INDEX, lambda dice: '{"metadata": ' + "[" * 10**6 + "]" * 10**6 + ', "weight_map": {}}'
    ),
    "a part is missing": _a_part(lambda name: lambda folder, dice: (folder / name).unlink()),
    "parts are exchanged": _exchanged,
    "a tensor in two parts": _in_two_parts,
    "parts behind links": _linked_parts,
    "a part is a link to itself": _a_part(lambda name: _link(name, name)),
    "a part is a link to /etc/passwd": _a_part(lambda name: _link(name, "/etc/passwd")),
    "the index is a link to itself": _link(INDEX, INDEX),
    "the index is a link to nowhere": _link(INDEX, "nowhere"),
    "a single file that is a pickle beside it": _pickle("model.safetensors"),
    "a whole header of 90 MB": _a_part(
        lambda name: _weights(name, lambda header, dice: header.update(__metadata__=LARGE))
    ),
    "headers of 99 MB each": _all_parts(lambda name: _text(name, _length(99_000_000))),
    "all parts take 100 GB": _all_parts(_huge),
    "an index of the mapper": _text(f"mapper/{INDEX}", lambda dice: "[" * 10**6),
    "an index of the mapper that names its folder's parent": _text(
        f"mapper/{INDEX}", lambda dice: json.dumps({"weight_map": {"a": f"../{OUT}"}})
    ),
    **{
        f"a part: {kind.partition(': ')[2]}": _a_part(
            lambda name, kind=kind: _of_weights(name)[kind.replace("NAME", name)]
        )
        for kind in _of_weights("NAME")
    },
}


def _prepare_parts(shared: Path) -> None:
    from genie.world.genie import Genie
    from genie.world.weight_files import files_of, size_of

    _prepare_world(shared)
    folder = shared / "world"
    Genie.from_pretrained(folder, "cpu").save_pretrained(
        folder, max_shard_size=size_of(folder) // 5
    )
    assert len(files_of(folder)) > 3


def _attack_parts(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    from genie.training.finetune import open_base_world

    number = int(own.name.rpartition("-")[2])
    kind = list(PARTS)[number % len(PARTS)]
    folder = shutil.copytree(shared / "world", own / "world")
    PARTS[kind](folder, dice)
    command = ["generate", str(folder), "--frames", "2", "--out", str(own / "clip.gif")]
    if "mapper" in kind:
        command += ["--actions", "left,right"]
    usual = float((shared / "usual").read_text())
    trained = number >= len(PARTS) and "mapper" not in kind
    act = (lambda: open_base_world(str(folder), True)) if trained else command
    return _harmless(kind, own, act, usual)


# -- replays -------------------------------------------------------------------------------------

REPLAYS: dict[str, Poison] = {
    **_of_json("game.json"),
    "10^7 actions": _changed("game.json", "actions", value=[0] * 10**7),
    "unknown action": _changed("game.json", "actions", value=[10**9]),
    "actions that are none": _changed("game.json", "actions", value=["x", None, 1.5, [], True]),
    "step 10^9": _changed("game.json", "sampling", 0, "step", value=10**9),
    "sampling of 10^9 steps": _changed(
        "game.json", "sampling", 0, "sampling", "steps", value=10**9
    ),
    "seed": _changed("game.json", "seed", value=10**30),
    "fps": _changed("game.json", "fps", value=1e-300),
    "fps too large": _changed("game.json", "fps", value=1e300),
    "a name that is a path": _changed("game.json", "world", value="../../../etc"),
    "a name with control characters": _changed("game.json", "hash", value="\x1b[2J\n\n"),
    "10^5 prompts": lambda folder, dice: _repeat_prompt(folder, 10**5),
    "a prompt of 100 MB": _changed("game.json", "prompt", value=["A" * 10**8]),
    "a pickle": _pickle("game.json"),
}


def _repeat_prompt(folder: Path, count: int) -> None:
    values = json.loads((folder / "game.json").read_text())
    values["prompt"] *= count
    (folder / "game.json").write_text(json.dumps(values))


def _attack_replay(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    kind = dice.choice(list(REPLAYS))
    (own / "replay").mkdir()
    shutil.copy(shared / "game.json", own / "replay" / "game.json")
    REPLAYS[kind](own / "replay", dice)
    command = ["replay", str(own / "replay" / "game.json"), "--out", str(own / "clip.gif")]
    if "path" not in kind:
        command += ["--world", str(shared / "world")]
    usual = float((shared / "usual").read_text())
    return _harmless(f"replay: {kind}", own, command, usual)


# -- stores --------------------------------------------------------------------------------------

ROW: tuple[Any, ...] = ("episodes", 0)
STORES: dict[str, Poison] = {
    **_of_json("store.json"),
    **_of_json("frames/zarr.json"),
    **{f"{name} is a pickle": _pickle(name) for name in ("labels.npy", "source_frames.npy")},
    "labels of 10^12 rows": _text("labels.npy", lambda dice: _npy("<i8", "(1000000000000,)")),
    "labels are objects": _text("labels.npy", lambda dice: _npy("|O", "(100,)")),
    "labels of another length": _text("labels.npy", lambda dice: _npy("<i8", "(3,)") + bytes(24)),
    "source frames of a wrong kind": _text("source_frames.npy", lambda d: _npy("<c16", "(1,)")),
    "10^12 frames": _changed("store.json", "frames", value=10**12),
    "-1 frames": _changed("store.json", "frames", value=-1),
    "text for frames": _changed("store.json", "frames", value="many"),
    "height 10^9": _changed("store.json", "height", value=10**9),
    "no height": _changed("store.json", "height", value=None),
    "fps 0": _changed("store.json", "fps", value=0),
    "fps text": _changed("store.json", "fps", value="fast"),
    "episode begins at 10^15": _changed("store.json", *ROW, "start", value=10**15),
    "episode of -5 frames": _changed("store.json", *ROW, "length", value=-5),
    "episode of 10^15 frames": _changed("store.json", *ROW, "length", value=10**15),
    "episode of text": _changed("store.json", *ROW, value="x"),
    "episode with an unknown key": _changed("store.json", *ROW, "extra", value=1),
    "no episodes": _changed("store.json", "episodes", value=[]),
    "episodes are none": _changed("store.json", "episodes", value=None),
    "names are none": _changed("store.json", "action_names", value=7),
    "names with control characters": _changed("store.json", "action_names", value=["\x1b[2J"]),
    "prepared is none": _changed("store.json", "prepared", value=None),
    "frames of 10^9 pixels": _changed("frames/zarr.json", "shape", value=[100, 10**9, 10**9, 3]),
    "a chunk of 10^15 bytes": _changed(
        "frames/zarr.json", "chunk_grid", "configuration", "chunk_shape", value=[10**9] * 3 + [3]
    ),
    "another driver": _changed("frames/zarr.json", "zarr_format", value=9),
    "noise in the frames": _noise("frames/c/0/0/0/0"),
    "frames are cut": _text("frames/c/0/0/0/0", lambda dice: dice.randbytes(100)),
    "frames are a pipe": _pipe("frames/c/0/0/0/0"),
    "frames are a device": _link("frames/c/0/0/0/0", "/dev/zero"),
    "frames of 100 GB": _huge("frames/c/0/0/0/0"),
}


def _npy(kind: str, shape: str) -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head = head.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _prepare_store(shared: Path) -> None:
    import numpy as np

    folder = toys.make_store(shared / "store")
    np.save(folder / "labels.npy", np.zeros(123, np.int64))
    np.save(folder / "source_frames.npy", np.zeros(123, np.int32))
    toys.make_videos(shared / "videos", 2)


def _open_store(folder: Path) -> None:
    """Reads all that training and evaluation read of a store."""
    from genie.data.store import ClipStore

    store = ClipStore.open(folder, cache_bytes=0)
    starts = store.window_starts(8, "train")
    store.windows(starts[:: max(1, len(starts) // 8)], 8)
    store.read(0, min(len(store), 64))
    assert len(store.source_frames) == len(store) or store.source_frames.dtype == "int32"
    store.labels("train")
    store.labels()
    repr(store), store.environments, store.num_frames()


def _attack_store(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    kind = dice.choice(list(STORES))
    folder = shutil.copytree(shared / "store", own / "store")
    STORES[kind](folder, dice)
    return _harmless(f"store: {kind}", own, lambda: _open_store(folder))


SIDE: dict[str, Any] = {"actions": [0, 1] * 20, "action_names": ["a", "b"], "rewards": [0.5] * 40}
SIDECARS: dict[str, Poison] = {
    **_of_json("clip-0000.actions.json"),
    **{
        f"{key} {str(value)[:12]}": _changed("clip-0000.actions.json", key, value=value)
        for key in ("actions", "action_names", "rewards", "env", "terminated")
        for value in (
            None,
            -1,
            [],
            {},
            "text",
            [10**30] * 40,
            ["\x1b[2J\n"] * 40,
            [None],
            [[]],
            1e400,
        )
    },
    "10^7 actions": _changed("clip-0000.actions.json", "actions", value=[1] * 10**7),
    "a pickle": _pickle("clip-0000.actions.json"),
}


def _attack_sidecar(shared: Path, own: Path, dice: random.Random) -> tuple[str, Figures]:
    from genie.data.prepare import prepare

    kind = dice.choice(list(SIDECARS))
    folder = shutil.copytree(shared / "videos", own / "videos")
    (folder / "clip-0000.actions.json").write_text(json.dumps(SIDE))
    SIDECARS[kind](folder, dice)

    def go() -> None:
        report = prepare(folder, own / "store", **toys.HERE)
        assert report.episodes == 2, "a video was lost"

    return _harmless(f"sidecar: {kind}", own, go)


# -- what must hold ------------------------------------------------------------------------------


def _seconds_since(before: resource.struct_rusage) -> float:
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def _harmless(
    kind: str, own: Path, act: list[str] | Callable[[], None], usual: float = 0.0
) -> tuple[str, Figures]:
    """Does it, and checks that it ends soon, small, with one sentence or well, and runs no code."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_DATA, (_virtual() + 6 * 2**30, -1))
    began = time.monotonic()
    code, said = _done(act)
    waited = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = _seconds_since(before)
    memory = max(0, after.ru_maxrss - before.ru_maxrss) / 1024
    if (own / MARK).exists():
        raise Fell(f"{kind}: code ran")
    if code not in (0, 2):
        raise Fell(f"{kind}: {said[-300:]}")
    if "out of memory" in said or memory > MEGABYTES:
        raise Fell(f"{kind}: {memory:.0f} MB ({said[-200:]})")
    if seconds > SECONDS + usual:
        raise Fell(
            f"{kind}: {seconds:.1f} s of the processor, {waited:.1f} s in all ({said[-200:]})"
        )
    lines = [line for line in said.splitlines() if line.startswith("genie:")]
    odd = [c for c in said if not c.isprintable() and c != "\n"]
    if code == 2 and (len(lines) != 1 or len(lines[0]) > 1000 or odd):
        raise Fell(f"{kind}: not one sentence: {said[:300]!r}")
    outcome = "refused" if code else "opened"
    return outcome, {"seconds": round(seconds, 2), "MB more": round(memory)}


def _done(act: list[str] | Callable[[], None]) -> tuple[int, str]:
    from genie.cli.main import explain, main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        if isinstance(act, list):
            code = main(act)
        else:
            try:
                act()
                code = 0
            except BaseException as error:
                code, sentence = explain(error)
                said.write(f"genie: {sentence}\n")
    return code, said.getvalue()


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


MODULES = (
    "genie.world.generate", "genie.cli.commands.generate", "genie.data.video", "av",
    "genie.world.action_mapper", "genie.world.reward_model", "jsonargparse", "tensorstore",
    "genie.data.prepare", "PIL.PngImagePlugin", "PIL.GifImagePlugin", "genie.cli.parser",
)  # fmt: skip
BAR = (
    "no code runs; one sentence or no harm; under 2 s of processor time more than for a harmless "
    "one, and 2 GB"
)
ATTACKS = (
    Attack("worlds", f"a hostile world folder is opened ({len(WORLDS)} kinds)", BAR, 200,
           _attack_world, _prepare_world, MODULES, 60),
    Attack("parts", f"a hostile world in parts with an index ({len(PARTS)} kinds) is "
           "played, and trained on", BAR, 2 * len(PARTS),
           _attack_parts, _prepare_parts, (*MODULES, "genie.training.finetune"), 60),
    Attack("replays", f"a hostile replay is played ({len(REPLAYS)} kinds)", BAR, 60,
           _attack_replay, _prepare_world, MODULES, 60),
    Attack("stores", f"a hostile clip store is read ({len(STORES)} kinds)", BAR, 100,
           _attack_store, _prepare_store, MODULES, 60),
    Attack("sidecars", f"a hostile sidecar is prepared ({len(SIDECARS)} kinds)", BAR, 60,
           _attack_sidecar, _prepare_store, MODULES, 60),
)  # fmt: skip
