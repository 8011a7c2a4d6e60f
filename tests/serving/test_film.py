import numpy as np
import pytest

from genie.data.video import probe, read_video
from genie.serving.film import SIDE, encode_film
from genie.serving.protocol import Codec, encode_picture


@pytest.mark.parametrize(("format", "codec"), [("mp4", Codec.MP4), ("gif", Codec.GIF)])
def test_a_film_shows_the_pictures_enlarged_at_their_rate(tmp_path, format, codec):
    frames = [np.full((24, 25, 3), 40 * i, np.uint8) for i in range(6)]
    found, data = encode_film([encode_picture(frame) for frame in frames], 10.0, format)
    path = tmp_path / f"film.{format}"
    path.write_bytes(data)
    info = probe(path)
    assert found is codec
    assert info.fps == pytest.approx(10)
    shown = np.stack([frame for _, frame in read_video(path)])
    assert shown.shape[0] == 6
    assert min(shown.shape[1:3]) >= SIDE - 24
    assert [round(float(frame.mean()) / 40) for frame in shown] == list(range(6))
