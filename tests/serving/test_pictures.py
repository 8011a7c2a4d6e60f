import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from genie.serving.limits import Limits, Refused
from genie.serving.pictures import FORMATS, read_picture

LIMITS = Limits()


def encoded(format, size=(20, 10), mode="RGB", **options):
    colours = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def png_of(width, height, data=b""):
    """A PNG whose head promises a size, and whose data are what you like."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif_of(frames, size=(16, 16)):
    """A GIF of many frames, of which each takes a few bytes."""
    head = b"GIF89a" + struct.pack("<HH", *size) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    return head + frame * frames + b"\x3b"


def webp_of(width, height):
    """A WebP whose head promises a size of canvas."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


MODES = {
    "PNG": ("RGB", "L", "P", "RGBA", "1", "LA", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("RGB", "L", "P", "RGBA", "1"),
}


@pytest.mark.parametrize(("format", "mode"), [(f, mode) for f in FORMATS for mode in MODES[f]])
def test_known_formats_of_any_mode_are_read(format, mode):
    picture = read_picture(encoded(format, mode=mode), LIMITS)
    assert (picture.shape, picture.dtype) == ((10, 20, 3), np.uint8)


def test_a_picture_is_read_exactly_and_upright():
    data = encoded("PNG")
    np.testing.assert_array_equal(
        read_picture(data, LIMITS), np.asarray(Image.open(io.BytesIO(data)))
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert read_picture(encoded("JPEG", exif=exif), LIMITS).shape == (20, 10, 3)


def test_a_palette_with_transparency_is_read():
    data = encoded("PNG", mode="P", transparency=bytes(range(256)))
    assert read_picture(data, LIMITS).shape == (10, 20, 3)


def test_of_a_moving_picture_the_first_frame_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:], lossless=True)
        assert tuple(read_picture(buffer.getvalue(), LIMITS)[0, 0]) == (255, 0, 0)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script/></svg>'
MALFORMED = {
    "nothing known": (b"hello", 415),
    "one byte": (b"\x89", 415),
    "svg": (SVG, 415),
    "bmp": (encoded("BMP"), 415),
    "tiff": (encoded("TIFF"), 415),
    "pdf": (b"%PDF-1.7\n", 415),
    "50,000 x 50,000": (png_of(50_000, 50_000), 413),
    "just over the bomb warning": (png_of(10_000, 10_000), 413),
    "bomb": (png_of(50_000, 50_000, zlib.compress(bytes(50_000_000))), 413),
    "webp canvas of 2^24 x 2^8": (webp_of(2**24, 2**8), (413, 415, 422)),
    "webp canvas of 16000 x 16000": (webp_of(16_000, 16_000), (413, 415, 422)),
    "gif canvas of 65535 x 65535": (gif_of(1, (65_535, 65_535)), 413),
    "no size": (png_of(0, 0), (415, 422)),
    "truncated png": (encoded("PNG", (200, 200))[:5000], 422),
    "truncated jpeg": (encoded("JPEG", (200, 200))[:5000], 422),
    "truncated webp": (encoded("WEBP", (200, 200))[:5000], (415, 422)),
    "wrong data": (png_of(10, 10, b"not deflated"), 422),
    "too little data": (png_of(10, 10, zlib.compress(b"few")), 422),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_uploads_are_refused_quickly_and_in_little_memory(name):
    data, statuses = MALFORMED[name]
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(Refused, match="send") as refused:
        read_picture(data, LIMITS)
    assert refused.value.status in (statuses if isinstance(statuses, tuple) else (statuses,))
    assert time.monotonic() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_gif_of_a_million_frames_is_read_as_one():
    data = gif_of(500_000)  # under the limit on bytes
    began = time.monotonic()
    assert read_picture(data, LIMITS).shape == (16, 16, 3)
    assert time.monotonic() - began < 1


def test_the_limit_on_pixels_is_exact():
    limits = Limits(megapixels=0.0002)
    assert read_picture(encoded("PNG", (20, 10)), limits).shape == (10, 20, 3)
    with pytest.raises(Refused, match="21 x 10"):
        read_picture(encoded("PNG", (21, 10)), limits)
