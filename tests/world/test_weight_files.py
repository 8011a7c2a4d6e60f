import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genie.core.config import UserError
from genie.world import checkpoint, weight_files
from genie.world.weight_files import INDEX, WEIGHTS

OLD = {"a": torch.arange(6.0), "b": torch.ones(2, 3), "placed": torch.tensor(True)}
NEW = {name: -value.float() for name, value in OLD.items()}
SMALL, LARGE = 24, 10**9
"""Bytes of a file: each tensor has its own, or all have one."""


def write(folder: Path, weights: dict[str, Tensor], most: int | str = SMALL) -> Path:
    checkpoint.write_world(folder, {"height": 16}, weights, max_shard_size=most)
    return folder


def same(folder: Path, weights: dict[str, Tensor]) -> bool:
    found = checkpoint.read_weights(folder)
    assert checkpoint.read_shapes(folder) == {n: tuple(w.shape) for n, w in found.items()}
    return found.keys() == weights.keys() and all(
        torch.equal(found[name], value) for name, value in weights.items()
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "world", OLD)


def test_parts_and_an_index_as_the_hub_has_them(folder: Path):
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"] == {"total_size": 49}
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(folder / file)[name], OLD[name])
    start = next(iter(index["weight_map"].values())).partition("-0000")[0]
    parts = [f"{start}-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert names(folder) == ["config.json", *parts, INDEX]
    assert same(folder, OLD)
    assert weight_files.size_of(folder) == sum((folder / part).stat().st_size for part in parts)


def test_equal_weights_make_equal_files(folder: Path, tmp_path: Path):
    again = write(tmp_path / "again", dict(reversed(OLD.items())))
    assert names(again) == names(folder)
    assert all((again / n).read_bytes() == (folder / n).read_bytes() for n in names(folder))
    assert weight_files.digest_of(again) == weight_files.digest_of(folder)
    other = write(tmp_path / "other", NEW)
    assert weight_files.digest_of(other) != weight_files.digest_of(folder)


def test_matrices_of_8_bits_and_their_scales_may_lie_in_different_parts(tmp_path: Path):
    weights = {"m": torch.randn(40, 30, generator=torch.Generator().manual_seed(0))}
    for name, most in (("one", LARGE), ("parts", 1000)):
        checkpoint.write_world(tmp_path / name, {}, weights, ["m"], most)
    one, parts = tmp_path / "one", tmp_path / "parts"
    assert len(weight_files.files_of(parts)) == 2
    assert checkpoint.is_rounded(parts)
    assert same(parts, checkpoint.read_weights(one))
    pairs = zip(checkpoint.read_integers(one), checkpoint.read_integers(parts), strict=True)
    assert all(torch.equal(a[i], b[i]) for a, b in pairs for i in (0, 1))


@pytest.mark.parametrize("before", [SMALL, LARGE])
@pytest.mark.parametrize("after", [SMALL, LARGE])
def test_a_save_removes_what_does_not_count_any_more(tmp_path: Path, before: int, after: int):
    folder = write(write(tmp_path / "world", OLD, before), NEW, after)
    assert names(folder) == names(write(tmp_path / "fresh", NEW, after))
    assert same(folder, NEW)


def test_a_single_file_beside_an_index_does_not_count(folder: Path, tmp_path: Path):
    single = write(tmp_path / "single", NEW, LARGE)
    (folder / WEIGHTS).write_bytes((single / WEIGHTS).read_bytes())
    assert same(folder, OLD)


class Killed(BaseException):
    """In the place of SIGKILL."""


def stop_at(number: int, with_: BaseException, function: Callable[..., None]):
    """Returns a function that stops at one call, counted from 0."""
    calls = iter(range(99))

    def call(*arguments: object, **options: object) -> None:
        if next(calls) == number:
            raise with_
        function(*arguments, **options)

    return call


@pytest.mark.parametrize("before", [SMALL, LARGE])
@pytest.mark.parametrize("after", [SMALL, LARGE])
def test_a_save_that_is_killed_or_finds_no_room_never_mixes_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
):
    files = 5 if after == SMALL else 2
    for number in range(files + 1):
        for error in (Killed(), OSError(errno.ENOSPC, "No space left on device")):
            folder = write(tmp_path / f"{number}{type(error).__name__}", OLD, before)
            with monkeypatch.context() as patch:
                if number < files:  # before a rename, or between the last one and the removals
                    patch.setattr("genie.core.io.os.replace", stop_at(number, error, os.replace))
                else:
                    patch.setattr(weight_files, "remove_others", stop_at(0, error, print))
                with pytest.raises((Killed, UserError)):
                    write(folder, NEW, after)
            new = same(folder, NEW)
            assert new or same(folder, OLD)
            # The rename of the index, or of a single file where there was no index, decides.
            decided = number >= files - 1 and (before, after) != (SMALL, LARGE)
            assert new == (decided and (number == files or isinstance(error, Killed)))
            assert same(write(folder, NEW, after), NEW)


def test_a_disk_that_is_full_at_the_second_part_keeps_the_old_world(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    there, full = names(folder), OSError(errno.ENOSPC, "No space left on device")
    save = stop_at(1, full, checkpoint.save_file)
    monkeypatch.setattr("genie.world.checkpoint.save_file", save)
    with pytest.raises(UserError, match="the disk is full"):
        write(folder, NEW)
    assert names(folder) == there
    assert same(folder, OLD)


INDICES = {
    "nothing": "",
    "deep": "[" * 100_000,
    "a list": "[]",
    "no map": "{}",
    "a map of numbers": '{"weight_map": {"a": 1}}',
    "a path out": '{"weight_map": {"a": "../model-00001-of-00001.safetensors"}}',
    "another file": '{"weight_map": {"a": "/etc/passwd"}}',
    "too many tensors": json.dumps({"weight_map": dict.fromkeys(map(str, range(17_000)), "")}),
    "too large": " " * 2**22 + "{}",
    "too many parts": json.dumps(
        {"weight_map": {f"{i}": f"model-{i:05}-of-00300.safetensors" for i in range(300)}}
    ),
    "a part that is not here": '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
}


@pytest.mark.parametrize("text", INDICES.values(), ids=INDICES)
def test_a_hostile_index_is_refused_in_one_sentence(folder: Path, text: str):
    (folder / INDEX).write_text(text)
    for read in (checkpoint.read_shapes, checkpoint.read_weights, weight_files.files_of):
        with pytest.raises(UserError, match=r"model\.safetensors\.index\.json: "):
            read(folder)


def test_parts_that_are_damaged_exchanged_or_no_files_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second, _ = weight_files.files_of(folder)
    content = first.read_bytes()
    monkeypatch.setattr(weight_files, "MOST_HEADER_BYTES", 10)
    with pytest.raises(UserError, match="the headers of its weights hold"):
        checkpoint.read_shapes(folder)
    monkeypatch.undo()
    first.write_bytes(content[:-7])
    with pytest.raises(UserError, match=f"{first.name}: cut short or damaged"):
        checkpoint.read_weights(folder)
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=f"{first.name}: holds other weights than"):
        checkpoint.read_weights(folder)
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(UserError, match=f"names {first.name}, which is no file here"):
        checkpoint.read_weights(folder)


def test_limits_that_are_no_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"max_shard_size.*give bytes"):
        write(tmp_path, OLD, "much")
    assert len(weight_files.divided(OLD, "1KB")) == 1
    monkeypatch.setattr(weight_files, "MOST_PARTS", 2)
    with pytest.raises(UserError, match="makes 3 files, at most 2"):
        write(tmp_path, OLD)
    assert not names(tmp_path)
