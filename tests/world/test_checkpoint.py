import errno
import json
import os
from pathlib import Path

import pytest
import torch

from genie.core.config import UserError
from genie.world import checkpoint, weight_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.write_world(tmp_path / "world", {"height": 16}, {"w": torch.arange(6.0)})
    return tmp_path / "world"


def test_there_and_back(folder: Path):
    assert checkpoint.read_config(folder) == {"height": 16}
    assert torch.equal(checkpoint.read_weights(folder)["w"], torch.arange(6.0))
    assert checkpoint.read_shapes(folder) == {"w": (6,)}


def test_weights_of_the_dynamics_alone_are_renamed():
    weights = {"tokenizer.a": 1, "dynamics.a.b": 2, "dynamics_a.b": 3}
    renamed = checkpoint.rename_dynamics(weights, str.upper)
    assert renamed == {"tokenizer.a": 1, "dynamics.A.B": 2, "dynamics_a.b": 3}
    assert list(renamed.values()) == [1, 2, 3]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.CKPT", "state.pkl"])
def test_a_pickle_is_refused(folder: Path, name: str):
    (folder / name).write_bytes(b"anything")
    with pytest.raises(UserError, match="pickle"):
        checkpoint.read_config(folder)


def test_another_version_says_what_to_do(folder: Path):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(UserError, match=r"version 99.*install the matching genie-worlds"):
        checkpoint.read_config(folder)


DEEP, LONG = "[" * 100_000, "1" * 100_000


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "bert"}', DEEP, LONG])
def test_a_foreign_configuration_is_refused(folder: Path, text: str):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        checkpoint.read_config(folder)


def test_missing_folders_and_files_say_what_to_do(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such world folder"):
        checkpoint.read_config(tmp_path / "nothing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="genie train"):
        checkpoint.read_config(folder)


def test_truncated_weights_are_reported(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    for read in (checkpoint.read_weights, checkpoint.read_shapes):
        with pytest.raises(UserError, match="cut short or damaged"):
            read(folder)


def test_a_full_disk_keeps_the_old_world(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("genie.world.checkpoint.save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        checkpoint.write_world(folder, {"height": 32}, {"w": torch.zeros(1)})
    assert checkpoint.read_config(folder) == {"height": 16}
    assert torch.equal(checkpoint.read_weights(folder)["w"], torch.arange(6.0))


def test_weights_that_are_a_pipe_are_refused(folder: Path):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    for read in (checkpoint.read_shapes, checkpoint.read_weights, checkpoint.is_rounded):
        with pytest.raises(UserError, match="is no file, but a pipe"):
            read(folder)


def test_weights_of_too_many_tensors_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weight_files, "MOST_TENSORS", 0)
    with pytest.raises(UserError, match="holds 1 tensors, which no world has"):
        checkpoint.read_weights(folder)


@pytest.mark.parametrize("kind", ["world", "part"])
def test_a_configuration_that_cannot_be_written_keeps_the_old_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    part, new = checkpoint.Part("a mapper", "genie map", "genie-mapper"), {"w": torch.zeros(1)}
    write = checkpoint.write_world if kind == "world" else part.write
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"disk is full|No space left"):
        write(folder, {"height": 32}, new)
    monkeypatch.undo()
    assert checkpoint.read_config(folder) == {"height": 16}
    assert torch.equal(checkpoint.read_weights(folder)["w"], torch.arange(6.0))


def test_equal_weights_make_equal_files_that_others_may_read(tmp_path: Path):
    weights = {name: torch.arange(6.0) for name in "cab"}
    for i in range(8):
        checkpoint.write_world(tmp_path / str(i), {"height": 16}, weights)
        weights = dict(reversed(weights.items()))
    for name in ("model.safetensors", "config.json"):
        files = [tmp_path / str(i) / name for i in range(8)]
        assert len({file.read_bytes() for file in files}) == 1
        assert len({file.stat().st_mode for file in files}) == 1
    usual = tmp_path / "usual"
    usual.touch()
    assert files[0].stat().st_mode == usual.stat().st_mode
