import io
import resource
import time

import numpy as np
import pytest
from PIL import Image
from served import MALFORMED, encoded, gif_of

from genie.serving.http.uploads import FORMATS, decode_upload
from genie.serving.limits import Limits, RequestRejected
from genie.world.prompts import load_prompts

LIMITS = Limits()


MODES = {
    "PNG": ("RGB", "L", "P", "RGBA", "1", "LA", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("RGB", "L", "P", "RGBA", "1"),
}


@pytest.mark.parametrize(("format", "mode"), [(f, mode) for f in FORMATS for mode in MODES[f]])
def test_known_formats_of_any_mode_are_read(format, mode):
    picture = decode_upload(encoded(format, mode=mode), LIMITS)
    assert (picture.shape, picture.dtype) == ((10, 20, 3), np.uint8)


def test_an_upload_is_decoded_exactly_and_upright():
    data = encoded("PNG")
    np.testing.assert_array_equal(
        decode_upload(data, LIMITS), np.asarray(Image.open(io.BytesIO(data)))
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert decode_upload(encoded("JPEG", exif=exif), LIMITS).shape == (20, 10, 3)


def test_an_upload_is_decoded_like_a_prompt(tmp_path):
    """What `POST /generate` starts from is what `Genie.generate` starts from."""
    exif = Image.Exif()
    exif[0x0112] = 5
    uploads = {
        "a.jpg": encoded("JPEG", exif=exif),
        "b.png": encoded("PNG", mode="I;16"),
        "c.png": encoded("PNG", mode="P", transparency=bytes(range(256))),
        "d.webp": encoded("WEBP", mode="RGBA"),
        "e.png": encoded("PNG", mode="LA"),
    }
    for name, data in uploads.items():
        (tmp_path / name).write_bytes(data)
        (prompt,) = load_prompts(tmp_path / name, *decode_upload(data, LIMITS).shape[:2])
        np.testing.assert_array_equal(decode_upload(data, LIMITS), prompt)


def test_a_palette_with_transparency_is_read():
    data = encoded("PNG", mode="P", transparency=bytes(range(256)))
    assert decode_upload(data, LIMITS).shape == (10, 20, 3)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:], lossless=True)
        assert tuple(decode_upload(buffer.getvalue(), LIMITS)[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_uploads_are_refused_quickly_and_in_little_memory(name):
    data, statuses = MALFORMED[name]
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(RequestRejected, match="send") as refused:
        decode_upload(data, LIMITS)
    assert refused.value.status in (statuses if isinstance(statuses, tuple) else (statuses,))
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_gif_of_a_million_frames_is_read_as_one():
    data = gif_of(500_000)  # under the limit on bytes
    began = time.process_time()
    assert decode_upload(data, LIMITS).shape == (16, 16, 3)
    assert time.process_time() - began < 1


def test_the_limit_on_pixels_is_exact():
    limits = Limits(megapixels=0.0002)
    assert decode_upload(encoded("PNG", (20, 10)), limits).shape == (10, 20, 3)
    with pytest.raises(RequestRejected, match="21 x 10"):
        decode_upload(encoded("PNG", (21, 10)), limits)


def test_a_jpeg_with_too_many_scans_is_refused():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode_upload(data, Limits()).shape == (16, 16, 3)
    with pytest.raises(RequestRejected, match="64 scans"):
        decode_upload(data[:-2] + 100 * scan + data[-2:], Limits())
