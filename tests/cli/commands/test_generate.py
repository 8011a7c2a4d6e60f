import json

import numpy as np
import torch
from failing import fails
from PIL import Image

from genie.cli import main


def test_a_missing_gpu_is_said(capsys, monkeypatch, world):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = fails(capsys, "generate", world, "--actions", "1", "--device", "cuda")
    assert "there is no cuda here" in said


def test_a_world_of_another_version_and_a_damaged_one(capsys, tmp_path, world):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((world / "model.safetensors").read_bytes()[:-100])
    (other / "config.json").write_text((world / "config.json").read_text())
    assert "model.safetensors" in fails(capsys, "generate", other, "--actions", "1")
    values = json.loads((world / "config.json").read_text())
    values["version"] = 99
    (other / "config.json").write_text(json.dumps(values))
    assert "version" in fails(capsys, "generate", other, "--actions", "1")


def test_a_world_with_a_pickle_is_refused(capsys, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert "pickle" in fails(capsys, "generate", tmp_path, "--actions", "1")


def test_a_picture_of_another_size_is_noted(capsys, tmp_path, world):
    picture = tmp_path / "wide.png"
    Image.fromarray(np.full((20, 50), 7, np.uint8)).save(picture)
    out = tmp_path / "clip.gif"
    assert (
        main.main(["generate", str(world), str(picture), "--actions", "1", "--out", str(out)]) == 0
    )
    heard = capsys.readouterr()
    assert heard.err.startswith("note: prompt: a picture of 50x20 pixels was cropped and resized")
    assert heard.out.strip() == str(out)
