import io
import os
import threading
import zipfile
from concurrent.futures import CancelledError

import numpy as np
import pytest
from PIL import Image

from genie.core.config import UserError
from genie.data import images
from genie.data.images import (
    Codec,
    decode_pictures,
    encode_picture,
    over_black,
    png,
    png_archive,
    read_image,
    rgb,
)
from genie.data.video import display_scale, encode, probe, read_video

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def kept(image: Image.Image, format: str, **options) -> Image.Image:
    """A picture as it comes back from a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(file)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "CMYK"])
def test_colours_are_kept(mode):
    np.testing.assert_array_equal(rgb(Image.fromarray(COLOURS).convert(mode)), COLOURS)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_colours_of_other_spaces_are_kept_but_for_rounding(mode):
    found = rgb(Image.fromarray(COLOURS).convert(mode)).astype(int)
    assert np.abs(found - COLOURS).max() <= 8


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "RGBa"])
def test_grey_is_kept(mode):
    image = Image.fromarray(GREY)
    for step in {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa")}.get(mode, (mode,)):
        image = image.convert(step)
    np.testing.assert_array_equal(rgb(image), GREY[..., None].repeat(3, -1))


def test_one_bit_is_black_and_white():
    bits = GREY > 100
    np.testing.assert_array_equal(rgb(Image.fromarray(bits))[..., 0], bits * 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_grey_are_rounded_to_eight(format, order):
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], order)
    image = Image.frombytes("I;16" if order == "<u2" else "I;16B", (6, 1), deep.tobytes())
    pictures = [image] if (order, format) == (">u2", "PNG") else [image, kept(image, format)]
    for picture in pictures:
        assert picture.mode.startswith("I;16")
        assert rgb(picture)[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255]
    eight = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(rgb(kept(eight, format))[..., 2], GREY)


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_other_modes_are_refused_with_advice(mode):
    with pytest.raises(UserError, match=f"mode {mode}; save it with 8 bits"):
        rgb(Image.new(mode, (2, 2)))


def test_all_orientations_come_upright():
    marked = np.zeros((16, 24, 3), np.uint8)
    marked[:8, :8] = 255  # the upper left corner
    turned = {
        1: marked,
        2: marked[:, ::-1],
        3: marked[::-1, ::-1],
        4: marked[::-1],
        5: marked.transpose(1, 0, 2),
        6: np.rot90(marked, 1),
        7: marked[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(marked, -1),
    }
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format in ("JPEG", "PNG", "WEBP"):
            image = kept(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif)
            found = rgb(image)
            assert found.shape == marked.shape
            assert np.abs(found.astype(int) - marked).mean() < 3, (orientation, format)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_transparent_pixels_are_black_and_half_transparent_ones_between(mode):
    if mode in ("RGBA", "LA"):
        image = Image.new("L", (2, 1), 255).convert(mode)
        image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
        image = kept(image, "PNG")
    elif mode == "P":
        image = Image.frombytes("P", (2, 1), bytes([0, 1]))
        image.putpalette([255] * 6)
        image = kept(image, "GIF", transparency=0)
    else:
        deep = mode == "I;16"
        values = np.array([[40_000, 65_535]], np.uint16) if deep else np.array([[7, 255]], np.uint8)
        image = Image.fromarray(values)
        image = image.convert(mode) if mode == "RGB" else image
        clear = (7, 7, 7) if mode == "RGB" else int(values[0, 0])
        image = kept(image, "PNG", transparency=clear)
    assert rgb(image)[0].tolist() == [[0] * 3, [255] * 3]
    half = np.array([[[255, 255, 255, 128]]], np.uint8)
    assert rgb(Image.fromarray(half)).tolist() == over_black(half).tolist() == [[[128] * 3]]


def test_clips_with_alpha_are_laid_over_black_like_pictures():
    clip = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 4), np.uint8)
    expected = np.stack([rgb(Image.fromarray(frame)) for frame in clip])
    np.testing.assert_array_equal(over_black(clip), expected)


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_what_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: (there is no such|not a readable) picture"):
        read_image(path)
    with pytest.raises(UserError, match="not a readable picture"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="it is no file"):
        read_image(tmp_path / "pipe.png")
    Image.new("F", (2, 2)).save(tmp_path / "b.tif")
    with pytest.raises(UserError, match=r"b\.tif: a picture of mode F; save it"):
        read_image(tmp_path / "b.tif")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_countless_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("1", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"not a readable picture .*exceeds limit"):
        read_image(tmp_path / "a.png")


def test_png_keeps_every_pixel():
    with Image.open(io.BytesIO(png(COLOURS)), formats=["PNG"]) as image:
        np.testing.assert_array_equal(rgb(image), COLOURS)


def test_an_archive_has_the_exact_frames_in_order():
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8))
    with zipfile.ZipFile(io.BytesIO(png_archive(iter(frames), 2))) as archive:
        assert archive.namelist() == [f"{i:04d}.png" for i in range(5)]
        for name, frame in zip(archive.namelist(), frames, strict=True):
            picture = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            np.testing.assert_array_equal(picture[::2, 1::2], frame)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 99)
    Image.new("RGB", (11, 9)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (9, 11, 3)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: a picture of 10 x 10 pixels; at most 99"):
        read_image(tmp_path / "a.png")


def test_small_pictures_are_lossless_and_large_ones_jpeg():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (64, 128, 3), np.uint8)
    codec, data = images.encode_picture(small)
    assert codec is Codec.WEBP
    np.testing.assert_array_equal(images.decode_picture((codec, data)), small)
    smooth = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (90, 160, 3)).copy()
    codec, data = images.encode_picture(smooth)
    assert codec is Codec.JPEG
    decode_frames = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(decode_frames.astype(int) - smooth).max() < 8


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_a_video_has_the_frames_enlarged_at_their_rate(tmp_path, format):
    frames = [np.full((24, 25, 3), 40 * i, np.uint8) for i in range(6)]
    pictures = decode_pictures([encode_picture(frame) for frame in frames], threading.Event())
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
        encode(decode_pictures(watched(), unwanted), "mp4", 10, 1)
    assert len(seen) == 3
