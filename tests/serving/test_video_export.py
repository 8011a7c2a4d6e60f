import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from genie.data.images import encode_picture
from genie.data.video import display_scale, encode, probe, read_video
from genie.serving.video_export import decode_frames


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
