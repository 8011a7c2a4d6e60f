from __future__ import annotations

import http.server
import json
import pickle
import threading
from functools import partial

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sample_videos import HERE, moving_square
from test_prepare import content

from genie.core.config import UserError
from genie.data import folders
from genie.data.folders import RemoteFolder, folder_at
from genie.data.merge import merge
from genie.data.prepare import prepare
from genie.data.video import write_video

ADDRESS = "memory://bucket/videos"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos, one with true actions, one broken, and what is hidden."""
    folder = tmp_path_factory.mktemp("folders") / "videos"
    (folder / "a" / ".git").mkdir(parents=True)
    for number, name in enumerate(("a/one.mp4", "two.mp4", ".hidden.mp4", "a/.git/x.mp4")):
        write_video(folder / name, moving_square(30 + number, seed=number), 15)
    (folder / "broken.mp4").write_text("not a video")
    sidecar = {"actions": [0, 1] * 15, "action_names": ["left", "up"]}
    (folder / "two.actions.json").write_text(json.dumps(sidecar))
    return folder


@pytest.fixture
def address(videos, monkeypatch):
    monkeypatch.setattr(folders, "FIRST_WAIT", 0.0)
    system = fsspec.filesystem("memory")
    system.put(str(videos), "/bucket/videos", recursive=True)
    yield ADDRESS
    system.rm("/bucket", recursive=True)


def test_an_address_gives_the_store_of_the_folder(videos, address, tmp_path):
    prepare(videos, tmp_path / "local", **HERE)
    report = prepare(address, tmp_path / "remote", **HERE)
    assert report.used == 2
    assert "cannot be read as a video" in report.skipped["broken.mp4"]
    assert not report.skipped["broken.mp4"].count("/")
    assert content(tmp_path / "remote") == content(tmp_path / "local")
    assert prepare(address, tmp_path / "remote", **HERE).complete_before
    parts = [tmp_path / f"part-{n}" for n in (1, 2)]
    for number, part in enumerate(parts, start=1):
        prepare(address, part, shard=f"{number}/2", **HERE)
    merge(tmp_path / "merged", parts, progress=False)
    assert content(tmp_path / "merged") == content(tmp_path / "local")
    fsspec.filesystem("memory").pipe("/bucket/videos/a/one.mp4", b"other")
    with pytest.raises(UserError, match="other videos"):
        prepare(address, tmp_path / "remote", **HERE)


def test_failed_requests_are_repeated_and_then_named(address, tmp_path, monkeypatch):
    get, fetched = MemoryFileSystem.get_file, []

    def failing(self, path, local, **options):
        fetched.append(path)
        assert len(list(tmp_path.glob(".out.*.fetched/*"))) == 1
        if path.endswith("one.mp4") or (path.endswith("two.mp4") and fetched.count(path) < 3):
            raise ConnectionError("the line was cut")
        return get(self, path, local, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", failing)
    report = prepare(address, tmp_path / "out", fps=15, **HERE)
    assert report.skipped["a/one.mp4"] == "cannot be fetched (the line was cut)"
    assert report.used == 1
    assert fetched.count("/bucket/videos/a/one.mp4") == folders.TRIES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_fetched_is_removed(address, tmp_path):
    left, other = tmp_path / ".out.1.fetched", tmp_path / ".other.1.fetched"
    for folder in (left, other):
        (folder / "fetched-x" / "a").mkdir(parents=True)
    prepare(address, tmp_path / "out", **HERE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "out"]


def test_a_folder_that_is_in_use_stays_as_it_is(address, tmp_path):
    """Though files are fetched before anything else, for the rate and for tables."""
    (tmp_path / "out" / "frames").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(UserError, match="holds other files"):
            prepare(address, tmp_path / "out", **HERE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frames"]


def test_files_to_keep_are_fetched_once(address, tmp_path, monkeypatch):
    folder = pickle.loads(pickle.dumps(folder_at(address, tmp_path)))
    for _ in range(2):
        with folder.fetched("two.mp4", keep=True) as here:
            assert (here / "two.mp4").stat().st_size == folder.stats(["two.mp4"])[0][0]
        monkeypatch.setattr(RemoteFolder, "_fetch", None)
    monkeypatch.undo()
    with folder.fetched("a/one.mp4", "nothing", keep=True) as other:
        assert not here.exists()
        assert [path.name for path in other.rglob("*.*")] == ["one.mp4"]
    with folder.open("broken.mp4") as file:
        assert file.seek(4) == 4
        assert file.read() == b"a video"


def test_images_at_an_address_are_a_video(address, tmp_path):
    from PIL import Image

    run = tmp_path / "run"
    run.mkdir()
    for number, frame in enumerate(moving_square(20)):
        Image.fromarray(frame).save(run / f"{number:03}.png")
    (run / "007.png").write_bytes(b"damaged")
    fsspec.filesystem("memory").put(str(run), "/bucket/run", recursive=True)
    report = prepare("memory://bucket/run", tmp_path / "out", min_frames=8, **HERE)
    (note,) = report.notes.values()
    assert "memory://bucket/run/007.png: not a readable picture" in note


def test_pages_that_list_files_are_read(videos, tmp_path):
    handler = partial(_Quiet, directory=str(videos))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    folder = folder_at(f"http://127.0.0.1:{server.server_port}/", tmp_path)
    names = ["a/one.mp4", "broken.mp4", "two.actions.json", "two.mp4"]
    assert sorted(folder.files()) == names
    sizes = [(videos / name).stat().st_size for name in names]
    assert [size for size, _ in folder.stats(names)] == sizes
    with folder.fetched("a/one.mp4", "gone.mp4") as here:
        assert (here / "a/one.mp4").read_bytes() == (videos / "a/one.mp4").read_bytes()
        assert not (here / "gone.mp4").exists()
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        prepare(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="other:// is not known"):
        prepare("other://bucket", tmp_path / "out")
    with pytest.raises(UserError, match="memory://empty: holds no video"):
        prepare("memory://empty", tmp_path / "out")
    monkeypatch.setattr(fsspec.core, "url_to_fs", _lacking)
    with pytest.raises(UserError, match=r"Install s3fs; .*genie-worlds\[cloud\]"):
        prepare("s3://bucket", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _lacking(_: str) -> None:
    raise ImportError("Install s3fs")
