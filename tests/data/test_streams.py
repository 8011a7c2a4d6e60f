from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from sample_videos import (
    interlaced,
    moving_square,
    write_encoded,
    write_sound,
    write_timed,
    write_with_cover,
)

from genie.core.config import UserError
from genie.data.streams import MAX_FPS, Moment, _Deinterlacer, moments
from genie.data.video import probe, read_frames, write_video


def test_a_cover_picture_is_never_the_video(tmp_path):
    path, clip = tmp_path / "tagged.mp4", moving_square(20)
    write_with_cover(path, clip)
    with av.open(str(path)) as container:
        first = container.streams[0]
        assert first.disposition & av.stream.Disposition.attached_pic
        assert first.guessed_rate > 1000
    info = probe(path)
    assert (info.height, info.width, info.fps) == (32, 32, 15)
    frames = [frame.pixels for frame in read_frames(path)]
    assert np.abs(np.stack(frames).astype(int) - clip).mean() < 3


def test_sound_with_a_cover_picture_is_no_video(tmp_path):
    write_sound(tmp_path / "plain.mp4")
    with (
        av.open(str(tmp_path / "plain.mp4")) as sound,
        av.open(str(tmp_path / "song.mp4"), "w") as song,
    ):
        copy = song.add_stream_from_template(sound.streams.audio[0])
        cover = song.add_stream("png")
        cover.height, cover.width, cover.pix_fmt = 90, 90, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((90, 90, 3), np.uint8), format="rgb24")
        song.mux(cover.encode(picture))
        for packet in sound.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                song.mux(packet)
    with pytest.raises(UserError, match="holds no video, only a cover picture, audio"):
        probe(tmp_path / "song.mp4")


def test_an_absurd_rate_is_measured_instead(tmp_path):
    times = (np.arange(20) / 1000).tolist()
    write_timed(tmp_path / "fast.mp4", zip(times, moving_square(20), strict=True))
    assert probe(tmp_path / "fast.mp4").fps == MAX_FPS
    write_video(tmp_path / "one.mp4", moving_square(1), 1000)
    assert probe(tmp_path / "one.mp4").fps is None


INTERLACED = [
    ("x.mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "1"}),
    ("x.mpg", "mpeg2video", {"flags": "+ildct+ilme", "b": "8M"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), INTERLACED)
def test_interlaced_frames_are_deinterlaced_as_ffmpeg_does(tmp_path, name, codec, options):
    fields = moving_square(40, height=64, width=64)
    path = write_encoded(tmp_path / name, interlaced(fields), codec, **options)
    got = [frame.pixels for frame in read_frames(path)]
    plain, expected = _decoded(path), _decoded(path, "bwdif=mode=send_frame:deint=interlaced")
    assert len(got) == 20
    assert np.array_equal(got, expected)
    assert _combing(np.stack(got)) < 0.5 * _combing(plain)
    assert [frame.number for frame in read_frames(path)] == list(range(20))


@pytest.mark.parametrize("count", [1, 2])
def test_a_short_interlaced_video_keeps_all_frames(tmp_path, count):
    fields = moving_square(2 * count, height=64, width=64)
    path = write_encoded(tmp_path / "x.mp4", interlaced(fields), **INTERLACED[0][2])
    assert [moment.number for moment in moments(path)] == list(range(count))


@pytest.mark.parametrize("pixels", ["uyvy422", "nv12", "yuv422p10le", "gray", "pal8", "yuva420p"])
def test_any_pixel_format_can_be_deinterlaced(pixels):
    def picture(number: int) -> av.VideoFrame:
        frame = av.VideoFrame(64, 64, pixels)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        return frame

    deinterlacer = _Deinterlacer(picture(0))
    done = [m for n in range(3) for m in deinterlacer(Moment(n, n, None, False, 1, picture(n)))]
    assert [moment.number for moment in [*done, *deinterlacer.rest()]] == [0, 1, 2]


def test_a_video_without_interlacing_is_not_filtered(tmp_path):
    path = write_encoded(tmp_path / "x.mp4", moving_square(10), crf="4")
    assert np.array_equal([frame.pixels for frame in read_frames(path)], _decoded(path))


def _decoded(path, filters: str = "null") -> np.ndarray:
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        stream = container.streams.video[0]
        name, _, options = filters.partition("=")
        graph.link_nodes(
            graph.add_buffer(template=stream), graph.add(name, options), graph.add("buffersink")
        ).configure()
        pictures = []
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            try:
                while True:
                    pictures.append(graph.vpull())
            except (av.BlockingIOError, av.EOFError):
                pass
    return np.stack(
        [
            picture.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
            for picture in pictures
        ]
    )


def _combing(clip: np.ndarray) -> float:
    rows = clip.astype(int)
    return float(np.abs(2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]).mean())


def test_timestamps_that_jitter_are_no_cut(tmp_path):
    path, steps = tmp_path / "x.mkv", np.array([0, 2, 1, 3, 4, 6, 5, 7, 8, 9])
    with (
        av.open(str(write_encoded(tmp_path / "x.avi", moving_square(10), "ffv1"))) as plain,
        av.open(str(path), "w") as container,
    ):
        copy = container.add_stream_from_template(plain.streams.video[0])
        for number, packet in enumerate(p for p in plain.demux(video=0) if p.size):
            packet.time_base, packet.stream = Fraction(1, 1000), copy
            packet.pts, packet.dts = 100 * int(steps[number]), 100 * number - 500
            container.mux(packet)
    read = list(moments(path))
    assert [moment.number for moment in read] == list(range(10))
    assert not any(moment.cut for moment in read)
    expected = np.maximum.accumulate(steps) / 10
    assert [moment.time for moment in read] == pytest.approx(expected, abs=2e-3)


def test_tags_of_another_encoding_are_no_obstacle(tmp_path):
    path = write_encoded(tmp_path / "x.avi", moving_square(10), "mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"Lavf", data.index(b"ISFT"))
    data[at : at + 4] = b"\xe9\xe8\xfc\xdf"
    path.write_bytes(data)
    assert len(list(moments(path))) == 10


def test_each_frame_has_its_duration(tmp_path):
    path = write_encoded(tmp_path / "x.mp4", moving_square(10), crf="4")
    assert [moment.duration for moment in moments(path)] == pytest.approx([1 / 15] * 10, abs=1e-3)
