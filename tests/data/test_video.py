from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_videos import (
    moving_square,
    show_as,
    write_encoded,
    write_sound,
    write_timed,
)

from genie.core.config import UserError
from genie.data.images import read_image
from genie.data.video import (
    Resizer,
    VideoWriter,
    choose_scale,
    encode,
    fit_frame,
    probe,
    read_video,
    write_video,
)


def frames_of(path: Path, **options) -> np.ndarray:
    return np.stack([frame for _, frame in read_video(path, **options)])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_what_was_written_is_read(tmp_path, ending):
    clip = moving_square(20)
    path = write_video(tmp_path / f"clip.{ending}", clip, fps=15, crf=4)
    times, frames = zip(*read_video(path), strict=True)
    assert np.allclose(times, np.arange(20) / 15, atol=1e-3)
    assert np.abs(np.stack(frames).astype(int) - clip).mean() < 3
    assert probe(path).fps == pytest.approx(15)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_small_sharp_things_survive(tmp_path):
    clip = np.zeros((4, 16, 16, 3), np.uint8)
    clip[:, 5, 5], clip[:, 5, 6], clip[:, 9, 3] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    frames = frames_of(write_video(tmp_path / "dots.mp4", clip, fps=15, crf=4)).astype(int)
    assert frames[-1, 5, 5, 0] > 200 > 60 > frames[-1, 5, 5, 2]
    assert frames[-1, 5, 6, 2] > 200 > 60 > frames[-1, 5, 6, 0]


def test_pixel_format_of_browsers_takes_odd_sizes(tmp_path):
    clip = moving_square(5, height=31, width=33)
    path = write_video(tmp_path / "odd.mp4", clip, fps=15, pixel_format="yuv420p")
    assert (probe(path).height, probe(path).width) == (32, 34)


def test_written_larger_without_blur(tmp_path):
    clip = np.zeros((3, 16, 16, 3), np.uint8)
    clip[:, :, 8:] = 255
    frames = frames_of(write_video(tmp_path / "x.mp4", clip, fps=5, crf=1, scale=4))
    assert frames.shape == (3, 64, 64, 3)
    assert np.abs(frames[:, :, 31].astype(int)).max() < 20
    assert frames[:, :, 32].min() > 235


@pytest.mark.parametrize("size", [(20, 20), (32, 32), (12, 10)])
def test_frames_are_scaled_as_in_videos(tmp_path, size):
    ramp = np.linspace(0, 255, 16 * 16 * 3).reshape(1, 16, 16, 3).astype(np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 10, crf=0, size=size) as video:
        video.write(ramp[0])
    found = Resizer(*size)(ramp)
    assert found.shape == (1, *size, 3)
    (written,) = (frame for _, frame in read_video(tmp_path / "a.mp4"))
    assert np.abs(found[0].astype(int) - written).max() <= 6  # it went by way of YUV
    assert Resizer(16, 16)(ramp) is ramp


def test_gif_in_and_out(tmp_path):
    clip = moving_square(15)
    path = write_video(tmp_path / "clip.gif", clip, fps=15)
    times, frames = zip(*read_video(path), strict=True)
    assert np.stack(frames).tolist() == clip.tolist()
    assert np.allclose(times, np.arange(15) / 15, atol=0.011)
    assert probe(path).fps == pytest.approx(15, abs=0.3)


def test_variable_frame_rate_is_seen_in_the_times(tmp_path):
    wanted = [0.0, 0.04, 0.1, 0.5, 0.55, 1.2]
    write_timed(tmp_path / "vfr.mp4", zip(wanted, moving_square(6), strict=True))
    assert [t for t, _ in read_video(tmp_path / "vfr.mp4")] == pytest.approx(wanted, abs=2e-3)


def test_rotation_is_applied(tmp_path):
    clip = np.zeros((4, 16, 32, 3), np.uint8)
    clip[:, :4, :4] = 255
    path = write_video(tmp_path / "phone.mp4", clip, fps=15)
    show_as(path, 0, 1, -1, 0)
    frame = frames_of(path)[0]
    assert frame.shape == (32, 16, 3)
    assert frame[1, -2].min() > 200
    assert frame[1, 1].max() < 60
    assert frames_of(path, height=8, width=8, fit="crop").shape == (4, 8, 8, 3)


# What lies at the top left and at the top right of the picture shown, of the stored corners
# top left (1), top right (2), bottom left (3) and bottom right (4).
ORIENTATIONS = {
    (1, 0, 0, 1): (1, 2),
    (0, 1, -1, 0): (3, 1),  # by 90 degrees clockwise
    (-1, 0, 0, -1): (4, 3),
    (0, -1, 1, 0): (2, 4),
    (-1, 0, 0, 1): (2, 1),  # mirrored, as front cameras do
    (1, 0, 0, -1): (3, 4),
    (0, 1, 1, 0): (1, 3),
    (0, -1, -1, 0): (4, 2),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_orientations_of_a_display_matrix(tmp_path, matrix):
    clip = np.zeros((3, 16, 32, 3), np.uint8)
    for number, (rows, columns) in enumerate(
        [(slice(0, 8), slice(0, 16)), (slice(0, 8), slice(16, 32)), (slice(8, 16), slice(0, 16))]
    ):
        clip[:, rows, columns] = 60 * (number + 1)
    clip[:, 8:, 16:] = 240
    path = write_video(tmp_path / "phone.mp4", clip, fps=15, crf=4)
    show_as(path, *matrix)
    frame = frames_of(path)[0]
    assert frame.shape == ((32, 16, 3) if matrix[0] == 0 else (16, 32, 3))
    shown = (round(frame[2, 2, 0] / 60), round(frame[2, -3, 0] / 60))
    assert shown == ORIENTATIONS[matrix]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("clear.mov", "qtrle", "argb"), ("clear.gif", None, None)]
)
def test_transparent_pixels_of_videos_lie_over_black(tmp_path, name, codec, pixels):
    clip = np.zeros((4, 16, 16, 4), np.uint8)
    clip[:, :, 8:] = (200, 100, 50, 255)
    clip[:, :, :8, :3] = 255  # white, but not to be seen
    if codec:
        write_encoded(tmp_path / name, clip, codec, pixels=pixels)
    else:
        first, *rest = [Image.fromarray(frame) for frame in clip]
        first.save(tmp_path / name, save_all=True, append_images=rest, duration=100, disposal=2)
    for size in (16, 4):
        frame = frames_of(tmp_path / name, height=size, width=size)[0].astype(int)
        assert frame[:, : size // 2].max() == 0
        assert np.abs(frame[:, size // 2 :] - (200, 100, 50)).max() < 4


def test_a_gif_in_the_store_is_that_of_a_prompt(tmp_path):
    picture = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    picture.paste((200, 100, 50, 255), (4, 4, 12, 12))
    moved = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    moved.paste((200, 100, 50, 255), (2, 4, 10, 12))
    path = tmp_path / "x.gif"
    picture.save(path, save_all=True, append_images=[moved], duration=100, disposal=2)
    first, second = frames_of(path)
    assert np.array_equal(first, read_image(path))
    assert second[5, 5].tolist() == [200, 100, 50]
    assert second[5, 11].max() == second[0].max() == 0


def test_half_transparent_pixels_of_a_video_are_as_dark_as_of_a_picture(tmp_path):
    clip = np.zeros((2, 16, 16, 4), np.uint8)
    clip[..., :3], clip[..., 3] = (200, 100, 50), np.linspace(0, 255, 16).round()
    write_encoded(tmp_path / "half.mov", clip, "qtrle", pixels="argb")
    Image.fromarray(clip[0]).save(tmp_path / "half.png")
    assert np.array_equal(frames_of(tmp_path / "half.mov")[0], read_image(tmp_path / "half.png"))


@pytest.mark.parametrize(
    ("fit", "corner", "centre"), [("crop", 200, 200), ("letterbox", 0, 200), ("resize", 200, 200)]
)
def test_ways_to_fit(tmp_path, fit, corner, centre):
    clip = np.full((2, 16, 32, 3), 200, np.uint8)
    frame = frames_of(write_video(tmp_path / "x.mp4", clip, fps=5), height=8, width=8, fit=fit)[0]
    assert frame.shape == (8, 8, 3)
    assert abs(int(frame[0, 0, 0]) - corner) < 6
    assert abs(int(frame[4, 4, 0]) - centre) < 6
    assert np.abs(fit_frame(clip[0], 8, 8, fit).astype(int) - frame).max() < 6


def test_crop_takes_the_middle():
    frame = np.zeros((8, 24, 3), np.uint8)
    frame[:, 8:16] = 255
    assert fit_frame(frame, 8, 8, "crop").min() == 255


def test_each_kind_of_bad_file_is_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all " * 100)
    write_sound(tmp_path / "sound.mp4")
    whole = write_video(tmp_path / "whole.mp4", moving_square(40), fps=15)
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:1500])
    expected = {
        "missing.mp4": "no such file",
        "empty.mp4": "empty",
        "text.mp4": "cannot be read as a video",
        "sound.mp4": "holds no video, only audio",
        "cut.mp4": "cannot be read as a video",
    }
    for name, reason in expected.items():
        with pytest.raises(UserError, match=reason) as caught:
            list(read_video(tmp_path / name))
        assert name in str(caught.value)


def test_frames_before_the_damage_are_given(tmp_path):
    path = write_video(
        tmp_path / "torn.mkv", moving_square(200, height=64, width=64), fps=15, crf=1
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    got = []
    with pytest.raises(UserError, match=r"torn\.mkv: damaged from"):
        got.extend(frame for _, frame in read_video(path))
    assert 20 < len(got) < 200


def test_an_unfinished_video_leaves_nothing(tmp_path):
    def failing():
        yield from moving_square(3)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_video(tmp_path / "x.mp4", failing(), fps=15)
    with pytest.raises(UserError, match="at least one frame"):
        write_video(tmp_path / "x.mp4", [], fps=15)
    with pytest.raises(UserError, match="uint8"):
        write_video(tmp_path / "x.mp4", [np.zeros((4, 4, 3))], fps=15)
    with pytest.raises(UserError, match="create it first"):
        VideoWriter(tmp_path / "nowhere" / "x.mp4", fps=15)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["mp4", "gif", "png"])
def test_a_clip_in_memory_needs_no_temporary_file(format, monkeypatch, tmp_path):
    frames = [np.full((16, 16, 3), 40 * value, np.uint8) for value in range(6)]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))  # there is no such folder
    data = encode(frames, format, 10, 2)
    if format != "png":
        path = tmp_path / f"clip.{format}"
        path.write_bytes(data)
        shown = frames_of(path)
        assert shown.shape == (6, 32, 32, 3)
        assert np.abs(shown.mean((1, 2, 3)) - np.arange(6) * 40).max() < 3
        with pytest.raises(UserError, match="at least one frame"):
            encode([], format, 10, 2)


def test_the_scale_is_chosen_and_bounded():
    assert choose_scale(None, 10, 64, 64) == 4
    assert choose_scale(None, 10, 360, 640) == 1
    assert choose_scale(8, 100, 64, 64) == 8
    with pytest.raises(UserError, match="at most 8"):
        choose_scale(9, 300, 64, 64)
