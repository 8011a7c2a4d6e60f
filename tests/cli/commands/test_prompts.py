import shutil

import numpy as np
from failing import fails
from PIL import Image

from genie.cli import main


def test_prompts_replaces_the_prompts_of_a_world(capsys, tmp_path, world, store):
    folder = shutil.copytree(world, tmp_path / "world")
    (folder / "prompts" / "my own.png").write_bytes((folder / "prompts" / "0.png").read_bytes())
    assert main.main(["prompts", str(folder), "--data", str(store.path), "--count", "3"]) == 0
    assert "3 prompts" in capsys.readouterr().out
    names = {path.name for path in (folder / "prompts").iterdir()}
    assert names == {"0.png", "1.png", "2.png", "my own.png"}
    held_out = {frame.tobytes() for frame in store.windows(store.frames_in_split("val"), 1)[:, 0]}
    for i in range(3):
        assert np.asarray(Image.open(folder / "prompts" / f"{i}.png")).tobytes() in held_out


def test_what_it_cannot_write_to_or_read_is_said(capsys, tmp_path, world, store):
    assert "folder of a world" in fails(capsys, "prompts", "coinrun-tiny", "--data", store.path)
    assert "--count" in fails(capsys, "prompts", world, "--data", store.path, "--count", "0")
    assert "store" in fails(capsys, "prompts", world, "--data", tmp_path / "none")
