"""Decoding of uploaded images, with limits on their format and size."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from genie.data.images import rgb
from genie.serving.limits import Limits, RequestRejected

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_SCANS = 64
"""A progressive JPEG has about ten scans; a decoder passes over the whole image for each."""


def decode_upload(data: bytes, limits: Limits) -> np.ndarray:
    """Decodes an uploaded image; of an animation, the first frame.

    Args:
        data: content of a PNG, JPEG, WebP or GIF file.
        limits: maximum number of pixels, compared with the header before decoding.

    Returns:
        `uint8 (H, W, 3)`, as `genie.data.images.rgb` makes it.

    Raises:
        RequestRejected: the image has another format, is too large or is damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > limits.megapixels * 1e6:
                raise _too_large(limits, f"has {image.width} x {image.height}")
            if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
                words = f"A JPEG may have {MAX_SCANS} scans; save it again."
                raise RequestRejected(422, "damaged", words)
            return rgb(image)
    except RequestRejected:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(limits, "has many more") from None
    except UnidentifiedImageError:
        words = "This is not a picture in PNG, JPEG, WebP or GIF format; send one of these."
        raise RequestRejected(415, "format", words) from None
    except Exception:  # decoders raise all kinds of errors for damaged files
        words = "The picture is damaged or incomplete; send it again or save it again."
        raise RequestRejected(422, "damaged", words) from None


def _too_large(limits: Limits, size: str) -> RequestRejected:
    words = f"A picture may have {limits.megapixels:g} million pixels; send a smaller one."
    return RequestRejected(413, "pixels", f"{words} This one {size}.")
