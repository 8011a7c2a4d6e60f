import errno
import os

import pytest
import torch

from genie.core.config import UserError
from genie.training import checkpointing
from genie.training.checkpointing import previous_path, read_checkpoint, write_checkpoint


def state(step):
    return {"step": step, "weights": {"w": torch.full((300,), float(step))}, "betas": (0.9, 0.99)}


def assert_same(read, step):
    assert read["step"] == step
    assert torch.equal(read["weights"]["w"], state(step)["weights"]["w"])
    assert read["betas"] == (0.9, 0.99)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "stage.ckpt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, state(1))
    write_checkpoint(path, state(2))
    assert_same(read_checkpoint(path), 2)
    assert_same(torch.load(previous_path(path), weights_only=True), 1)
    assert sorted(p.name for p in path.parent.iterdir()) == ["stage.ckpt", "stage.ckpt.previous"]


def test_what_a_killed_run_left_is_written_over(tmp_path, monkeypatch):
    path = tmp_path / "stage.ckpt"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "_verify", killed)
        patch.setattr(type(path), "unlink", lambda *_, **__: None)
        for pid in (1, 2):  # each run is another process
            patch.setattr(os, "getpid", lambda pid=pid: pid)
            with pytest.raises(KeyboardInterrupt):
                write_checkpoint(path, state(1))
    assert len(list(tmp_path.iterdir())) == 1
    write_checkpoint(path, state(2))
    assert [p.name for p in tmp_path.iterdir()] == ["stage.ckpt"]


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_previous(tmp_path, damage):
    path = tmp_path / "stage.ckpt"
    write_checkpoint(path, state(1))
    write_checkpoint(path, state(2))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":  # killed between the two renames
        path.unlink()
        assert_same(read_checkpoint(path), 1)
        return
    path.write_bytes({"truncated": content[:-100], "one bit": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="going on from"):
        assert_same(read_checkpoint(path), 1)


def test_a_bit_that_flips_anywhere_is_noticed(tmp_path):
    path = tmp_path / "stage.ckpt"
    write_checkpoint(path, state(1))
    whole = path.read_bytes()
    for at in [*range(0, len(whole), 97), *range(len(whole) - 67, len(whole))]:
        for bit in (1, 128):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with pytest.raises(UserError, match="no whole checkpoint"):
                read_checkpoint(path)


def test_a_checkpoint_is_flushed_whole_before_it_gets_its_name(tmp_path, monkeypatch):
    path, sync, seen = tmp_path / "stage.ckpt", os.fsync, []

    def noted(descriptor):
        seen.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_checkpoint(path, state(1))
    (file, size), (folder, _) = seen
    assert file == str(tmp_path / ".stage.ckpt.tmp")
    assert size == path.stat().st_size
    assert folder == str(tmp_path)


def test_no_whole_checkpoint_says_what_to_do(tmp_path):
    path = tmp_path / "stage.ckpt"
    write_checkpoint(path, state(1))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"delete stage\.ckpt"):
        read_checkpoint(path)


def test_a_pickle_is_never_executed(tmp_path):
    path = tmp_path / "stage.ckpt"

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    write_checkpoint(path, {"step": Bomb()})
    with pytest.raises(UserError, match="no whole checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "stage.ckpt"
    write_checkpoint(path, state(1))
    for place in ((checkpointing._HashingFile, "_pass"), (os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, full_disk)
            with pytest.raises(UserError, match=r"disk is full.*intact"):
                write_checkpoint(path, state(2))
        assert_same(read_checkpoint(path), 1)
        assert [p.name for p in tmp_path.iterdir()] == ["stage.ckpt"]


def test_another_fault_of_the_disk_is_not_called_full(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UserError, match=r"could not be written .*Input/output error"):
        write_checkpoint(tmp_path / "stage.ckpt", state(1))


def test_a_write_that_does_not_read_back_is_dropped(tmp_path, monkeypatch):
    path = tmp_path / "stage.ckpt"
    write_checkpoint(path, state(1))
    save = checkpointing._save

    def lossy(what, file):
        save(what, file)
        file.seek(200)
        file.write(b"rot")

    monkeypatch.setattr(checkpointing, "_save", lossy)
    with pytest.raises(UserError, match="did not read back"):
        write_checkpoint(path, state(2))
    assert_same(read_checkpoint(path), 1)
