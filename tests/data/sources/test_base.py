import json

import pytest

from genie.data.folders import LocalFolder
from genie.data.sources.base import Labels, read_sidecar
from genie.data.sources.videos import VideoFiles

WHOLE = {
    "action_names": ["left", "right"],
    "actions": [0, 1],
    "rewards": [0, 0.5],
    "terminated": True,
    "truncated": False,
}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a.mp4", None),
        ("train/a.mp4", "train"),
        ("x/Valid/y/a.mp4", "val"),
        ("test/a.mp4", "test"),
        ("val.mp4", None),
        ("x/train.mp4/val.mp4", None),
    ],
)
def test_folders_state_the_split(tmp_path, name, split):
    assert VideoFiles(LocalFolder(tmp_path)).split(name) == split


def test_a_sidecar_is_read(tmp_path):
    path = tmp_path / "a" / "x.actions.json"
    path.parent.mkdir()
    path.write_text(json.dumps(WHOLE))
    labels = read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix())
    assert labels == Labels("a/x.actions.json", [0, 1], ["left", "right"], [0.0, 0.5], 1)


def test_what_a_sidecar_lacks_is_unknown(tmp_path):
    path = tmp_path / "x.actions.json"
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels()
    path.write_text("{")
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        sidecar=path.name
    )
    path.write_text(json.dumps({**WHOLE, "actions": [[0.5]], "truncated": None}))
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        path.name, rewards=[0.0, 0.5], end=1
    )
    path.write_text(json.dumps({**WHOLE, "rewards": None}))
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        path.name, [0, 1], ["left", "right"]
    )
    path.write_text(json.dumps({**WHOLE, "actions": [float("inf")]}))
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        path.name, rewards=[0.0, 0.5], end=1
    )
    path.write_text(json.dumps({**WHOLE, "actions": [10**30]}))
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        path.name, rewards=[0.0, 0.5], end=1
    )
    path.write_text(json.dumps({**WHOLE, "rewards": [10**400]}))  # no float is as large
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        path.name, [0, 1], ["left", "right"]
    )
    path.write_text("[" * 100_000)
    assert read_sidecar(LocalFolder(tmp_path), path.relative_to(tmp_path).as_posix()) == Labels(
        sidecar=path.name
    )
