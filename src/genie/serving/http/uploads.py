"""Pictures from strangers: opened only where they are small and of a known format."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from genie.data.images import rgb
from genie.serving.limits import Limits, RequestRejected

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_SCANS = 64
"""A progressive JPEG has about ten; each one makes a decoder walk over the whole picture."""


def decode_upload(data: bytes, limits: Limits) -> np.ndarray:
    """Decodes an uploaded picture; of a moving one, the first frame.

    Args:
        data: a PNG, JPEG, WebP or GIF file. What it is called does not count.
        limits: how many pixels it may have, which its head says before they are decoded.

    Returns:
        `uint8 (H, W, 3)`, as `genie.data.images.rgb` makes it.

    Raises:
        Refused: it is of another format, too large, or damaged; the message says what to send.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
            if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
                raise RequestRejected(
                    422, "damaged", f"A JPEG may have {MAX_SCANS} scans; save it anew."
                )
            return rgb(image)
    except RequestRejected:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(limits) from None
    except UnidentifiedImageError:
        words = "This is not a picture in PNG, JPEG, WebP or GIF format; send one of these."
        raise RequestRejected(415, "format", words) from None
    except Exception:  # damaged files make the decoders raise whatever they like
        words = "The picture is damaged or unfinished; send it again or save it anew."
        raise RequestRejected(422, "damaged", words) from None


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.megapixels * 1e6:
        raise _too_large(limits, size)


def _too_large(limits: Limits, size: tuple[int, int] | None = None) -> RequestRejected:
    most = f"{limits.megapixels:g} million pixels"
    has = f"This one has {size[0]} x {size[1]}." if size else "This one has many more."
    return RequestRejected(413, "pixels", f"A picture may have {most}; send a smaller one. {has}")
