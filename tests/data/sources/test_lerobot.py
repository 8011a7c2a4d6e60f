from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from sample_videos import HERE, moving_square

from genie.core.config import UserError
from genie.data.folders import LocalFolder
from genie.data.prepare import prepare
from genie.data.sources.find import find_videos
from genie.data.store import ClipStore
from genie.data.video import write_video

LENGTHS = (20, 24, 22)
FPS = 10
CAMERAS = ("observation.images.top", "observation.images.wrist")


def clip(number, camera=0):
    return moving_square(LENGTHS[number], seed=10 * camera + number)


def actions(number):
    return np.arange(2 * LENGTHS[number], dtype=np.float32).reshape(-1, 2) + 100 * number


def rows(*numbers):
    """The table of some episodes."""
    lengths = [LENGTHS[number] for number in numbers]
    return pyarrow.table(
        {
            "action": np.concatenate([actions(number) for number in numbers]).tolist(),
            "next.reward": np.concatenate([np.arange(n) / 10 for n in lengths]),
            "episode_index": np.repeat(numbers, lengths),
            "frame_index": np.concatenate([np.arange(n) for n in lengths]),
        }
    )


def write_info(root, version, cameras, **more):
    features = {name: {"dtype": "video", "shape": [32, 32, 3]} for name in cameras}
    features["action"] = {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}}
    info = {"codebase_version": version, "fps": FPS, "chunks_size": 2, "features": features, **more}
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def put(path, content, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pyarrow.Table):
        parquet.write_table(content, path)
    else:
        write_video(path, content, FPS, **options)


def write_v2(root, cameras=CAMERAS[:1]):
    """Each episode has files of its own."""
    write_info(
        root,
        "v2.1",
        cameras,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    lines = [{"episode_index": n, "length": length} for n, length in enumerate(LENGTHS)]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for number in range(len(LENGTHS)):
        name = f"episode_{number:06d}"
        put(root / f"data/chunk-{number // 2:03d}/{name}.parquet", rows(number))
        for place, camera in enumerate(cameras):
            path = root / f"videos/chunk-{number // 2:03d}/{camera}/{name}.mp4"
            put(path, clip(number, place))


def write_v3(root, cameras=CAMERAS[:1]):
    """Two episodes share a video and a table, in which the second one comes first."""
    write_info(
        root,
        "v3.0",
        cameras,
        splits={"train": "0:2", "val": "2:3"},
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )
    put(root / "data/chunk-000/file-000.parquet", rows(1, 0))
    put(root / "data/chunk-000/file-001.parquet", rows(2))
    seconds = LENGTHS[0] / FPS, (LENGTHS[0] + LENGTHS[1]) / FPS, LENGTHS[2] / FPS
    table = {"episode_index": [0, 1, 2], "data/chunk_index": [0] * 3, "data/file_index": [0, 0, 1]}
    for place, camera in enumerate(cameras):
        at = root / f"videos/{camera}/chunk-000"
        put(at / "file-000.mp4", np.concatenate([clip(0, place), clip(1, place)]))
        put(at / "file-001.mp4", clip(2, place))
        table |= {
            f"videos/{camera}/chunk_index": [0] * 3,
            f"videos/{camera}/file_index": [0, 0, 1],
            f"videos/{camera}/from_timestamp": [0.0, seconds[0], 0.0],
            f"videos/{camera}/to_timestamp": [*seconds],
        }
    put(root / "meta/episodes/chunk-000/file-000.parquet", pyarrow.table(table))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot")
    write_v2(folder / "v2" / "push")
    write_v3(folder / "v3" / "push", CAMERAS)
    return folder


@pytest.mark.parametrize(("version", "camera"), [("v2", None), ("v3", "top"), ("v3", "wrist")])
def test_episodes_are_cut_right_and_keep_their_actions(datasets, tmp_path, version, camera):
    report = prepare(datasets / version, tmp_path / "store", camera=camera, **HERE)
    assert (report.used, report.fps, report.kinds) == (3, FPS, {"LeRobot episodes": 3})
    assert not report.skipped
    store = ClipStore.open(tmp_path / "store")
    vectors, rewards = store.action_vectors(), store.rewards()
    assert store.action_vector_names == ["x", "y"]
    for number, episode in enumerate(store.episodes):
        assert episode.source == f"push/episode_{number:06d}"
        assert episode.length == LENGTHS[number]
        stored = store.read(episode.start, episode.length).astype(int)
        assert np.abs(stored - clip(number, int(camera == "wrist"))).mean() < 4
        inside = slice(episode.start, episode.start + episode.length)
        assert np.array_equal(vectors[inside][:-1], actions(number)[:-1])
        assert np.isnan(vectors[inside][-1]).all()
        assert np.allclose(rewards[inside][:-1], np.arange(episode.length - 1) / 10)
        assert store.source_frames[inside].tolist() == list(range(episode.length))
    if version == "v3":
        assert [episode.split for episode in store.episodes] == ["train", "train", "val"]
    assert store.labels() is None


def test_at_half_the_rate_actions_are_means(datasets, tmp_path):
    prepare(datasets / "v2", tmp_path / "store", fps=FPS / 2, min_frames=8, **HERE)
    vectors = ClipStore.open(tmp_path / "store").action_vectors()
    assert np.array_equal(vectors[:9], actions(0).reshape(10, 2, 2).mean(1)[:9])


def test_one_of_several_cameras_has_to_be_chosen(datasets, tmp_path):
    with pytest.raises(UserError, match=r"v3/push: has several cameras; .*images\.top, .*\.wrist"):
        prepare(datasets / "v3", tmp_path / "store", **HERE)
    with pytest.raises(UserError, match="has no camera 'side'; it has observation"):
        prepare(datasets / "v3", tmp_path / "store", camera="side", **HERE)


def test_datasets_that_cannot_be_read_are_named(datasets, tmp_path):
    source = tmp_path / "data"
    shutil.copytree(datasets / "v2" / "push", source / "good")
    for name in ("old", "pictures", "table", "escaping", "columns"):
        shutil.copytree(datasets / ("v3" if name == "columns" else "v2") / "push", source / name)

    def change(name, **values):
        path = source / name / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    change("old", codebase_version="v1.6")
    change("pictures", features={"a": {"dtype": "image"}})
    change("escaping", video_path="../good/x.mp4")
    (source / "table/meta/episodes.jsonl").write_text('{"length": 3}')
    parquet.write_table(
        pyarrow.table({"a": [1]}), source / "columns/meta/episodes/chunk-000/file-000.parquet"
    )
    (source / "good/videos/chunk-000" / CAMERAS[0] / "episode_000001.mp4").write_bytes(b"broken")
    (source / "other/meta").mkdir(parents=True)
    (source / "other/meta/info.json").write_text("[]")
    write_video(source / "other" / "own.mp4", moving_square(20), FPS)
    report = prepare(source, tmp_path / "store", camera="top", **HERE)
    assert report.used == 3
    assert report.kinds == {"LeRobot episodes": 3, "video files": 1}
    reasons = report.skipped
    assert reasons["old"] == "is of version v1.6; convert it to v2 or v3 by LeRobot"
    assert reasons["pictures"] == "has no camera that is stored as a video"
    assert "damaged table of episodes" in reasons["table"]
    assert "leads elsewhere" in reasons["escaping"]
    assert "damaged table" in reasons["columns"]
    assert "cannot be read as a video" in reasons["good/episode_000001"]
    assert len(reasons) == 6


def test_a_damaged_table_of_actions_is_named(datasets, tmp_path):
    source = tmp_path / "data"
    shutil.copytree(datasets / "v2" / "push", source)
    (source / "data/chunk-000/episode_000000.parquet").write_bytes(b"broken")
    report = prepare(source, tmp_path / "store", **HERE)
    assert "episode_000000.parquet: is damaged" in report.skipped["episode_000000"]


def test_without_pyarrow_the_extra_is_named(datasets, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"genie-worlds\[lerobot\]"):
        find_videos(LocalFolder(datasets / "v2"))
