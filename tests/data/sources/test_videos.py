import json
import os

from sample_videos import moving_square

from genie.data.folders import LocalFolder
from genie.data.sources.videos import VideoFiles
from genie.data.video import write_video


def test_a_file_gives_its_frames_its_rate_and_its_labels(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_square(20), 12)
    sidecar = {"action_names": ["noop"], "actions": [0] * 19}
    path.with_suffix(".actions.json").write_text(json.dumps(sidecar))
    source = VideoFiles(LocalFolder(tmp_path))
    assert source.list() == ["a.mp4"]
    assert source.files("a.mp4") == ["a.mp4"]
    assert source.fps("a.mp4") == 12
    frames = list(source.open("a.mp4", height=16, width=16, fit="crop", fps=5))
    assert [frame.number for frame in frames] == list(range(20))
    assert frames[-1].time == 19 / 12  # its own times, not those of the store
    assert frames[0].pixels.shape == (16, 16, 3)
    assert source.labels("a.mp4").actions == [0] * 19


def test_what_is_no_file_is_left_out_and_named(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(20), 12)
    (tmp_path / "deep").mkdir()
    os.mkfifo(tmp_path / "deep" / "pipe.mkv")
    (tmp_path / "nowhere.mp4").symlink_to("gone.mp4")
    (tmp_path / "device.gif").symlink_to("/dev/zero")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / ".hidden.mp4").symlink_to("gone.mp4")
    source = VideoFiles(LocalFolder(tmp_path))
    assert sorted(source.list()) == ["a.mp4", "link.mp4"]
    reason = "is a link to nowhere, a pipe or a device"
    assert source.left_out() == dict.fromkeys(
        ("deep/pipe.mkv", "nowhere.mp4", "device.gif"), reason
    )
