import io
import threading
import zipfile
from concurrent.futures import CancelledError

import numpy as np
import pytest
from PIL import Image

from genie.data.video import probe, read_video
from genie.serving.protocol import encode_picture
from genie.serving.video_export import decode_frames, display_scale, encode


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_a_video_has_the_frames_enlarged_at_their_rate(tmp_path, format):
    frames = [np.full((24, 25, 3), 40 * i, np.uint8) for i in range(6)]
    pictures = decode_frames([encode_picture(frame) for frame in frames], threading.Event())
    path = tmp_path / f"film.{format}"
    path.write_bytes(encode(pictures, format, 10.0, display_scale(24, 25)))
    info = probe(path)
    assert info.fps == pytest.approx(10)
    shown = np.stack([frame for _, frame in read_video(path)])
    assert shown.shape[0] == 6
    assert shown.shape[1:3] == (240, 250)
    assert [round(float(frame.mean()) / 40) for frame in shown] == list(range(6))


def test_png_frames_are_exact():
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8))
    with zipfile.ZipFile(io.BytesIO(encode(iter(frames), "png", 10, 2))) as archive:
        assert archive.namelist() == [f"{i:04d}.png" for i in range(5)]
        for name, frame in zip(archive.namelist(), frames, strict=True):
            picture = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            np.testing.assert_array_equal(picture[::2, 1::2], frame)


def test_frames_are_decoded_one_at_a_time_until_cancelled():
    frame, unwanted, seen = np.zeros((8, 8, 3), np.uint8), threading.Event(), []
    pictures = [encode_picture(frame)] * 50

    def watched():
        for picture in pictures:
            seen.append(picture)
            if len(seen) == 3:
                unwanted.set()
            yield picture

    with pytest.raises(CancelledError):
        encode(decode_frames(watched(), unwanted), "mp4", 10, 1)
    assert len(seen) == 3
