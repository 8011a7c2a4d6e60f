"""What tests send to a server, and how they read its figures."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families


def figures(text):
    """Reads the text of `/metrics`: values by name and labels."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(s.name, *s.labels.values()): s.value for s in samples}


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
