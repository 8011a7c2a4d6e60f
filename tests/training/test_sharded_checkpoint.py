import errno

import pytest
import torch

from genie.core.config import UserError
from genie.training import sharded_checkpoint
from genie.training.checkpointing import previous_path
from genie.training.sharded_checkpoint import (
    HEADER,
    load_sharded,
    read_header,
    read_part,
    write_sharded,
)

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


def write(path, number):
    tensors = {"model": {"weight": torch.full((3,), number)}, "average": {"a.b": torch.ones(2)}}
    write_sharded(path, {"step": int(number)}, tensors)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoints" / "stage.ckpt"
    write(path, 1.0)
    write(path, 2.0)
    return path


def test_it_comes_back_whole_or_in_part(path):
    folder, header = read_header(path)
    assert (folder, header["step"]) == (path, 2)
    values = {"model": {"weight": torch.zeros(3)}}
    load_sharded(folder, values)
    assert values["model"]["weight"].tolist() == [2, 2, 2]
    assert read_part(folder, "average").keys() == {"a.b"}
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_there_is_none_before_the_first(tmp_path):
    assert read_header(tmp_path / "stage.ckpt") is None


@pytest.mark.parametrize("lost", ["header", "byte", "file"])
def test_the_one_before_counts_where_the_newest_is_damaged(path, lost):
    data = next(path.glob("*.distcp"))
    if lost == "header":
        (path / HEADER).unlink()
    elif lost == "file":
        data.unlink()
    else:
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    with pytest.warns(UserWarning, match="going on from"):
        folder, header = read_header(path)
    assert (folder, header["step"]) == (previous_path(path), 1)
    (folder / HEADER).write_text("{")
    with pytest.raises(UserError, match=r"no whole checkpoint .* delete stage\.ckpt\*"):
        read_header(path)


def test_a_full_disk_leaves_the_one_before(path, monkeypatch):
    def save(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sharded_checkpoint.state_dict_saver, "save", save)
    with pytest.raises(UserError, match=r"No space left.*Earlier checkpoints are intact"):
        write(path, 3.0)
    assert read_header(path)[1]["step"] == 2


def test_what_does_not_read_back_gets_no_name(path, monkeypatch):
    monkeypatch.setattr(sharded_checkpoint.state_dict_loader, "load", lambda *_, **__: None)
    with pytest.raises(UserError, match="did not read back"):
        write(path, 3.0)
    monkeypatch.undo()
    assert read_header(path)[1]["step"] == 2
