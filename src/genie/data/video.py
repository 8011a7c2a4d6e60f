"""Video files, GIFs and pictures as uint8 frames, through PyAV (FFmpeg) and Pillow."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from genie.core.config import require
from genie.core.io import put_in_place
from genie.data.images import over_black, png_archive
from genie.data.streams import frame_rate, moments, open_video

DISPLAY_SIDE = 256
"""Pixels of the longer side of a frame that is enlarged for display."""
MOST_CLIP_PIXELS = 80e6
"""Of all frames of a clip together that others ask for."""

Fit = Literal["crop", "letterbox", "resize"]
Format = Literal["mp4", "gif", "png"]


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video.

    Attributes:
        width: columns in pixels, as stored.
        height: rows in pixels, as stored.
        fps: frames per second, None where it holds a single picture.
    """

    width: int
    height: int
    fps: float | None


def probe(path: str | Path) -> VideoInfo:
    """Reads size and average frame rate from the head of a video file.

    Raises:
        UserError: the file is missing, empty, broken, or has no video stream.
    """
    container, stream = open_video(path)
    with container:
        context = stream.codec_context
        return VideoInfo(context.width, context.height, frame_rate(container, stream))


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: its place in the file.
        time: seconds since the first frame, from the file's timestamps; never falls.
        duration: seconds that it stays, None where the file does not say.
        cut: whether it does not follow from the frame before, because the file is damaged between
            them or its timestamps began again.
        pixels: u8 (H,W,3).
    """

    number: int
    time: float
    duration: float | None
    cut: bool
    pixels: np.ndarray


def read_frames(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "resize",
    span: tuple[float, float] | None = None,
) -> Iterator[Frame]:
    """Decodes a video frame by frame, upright, in one thread.

    The largest video stream that is no attached picture is taken, one flagged as default first.
    Interlaced frames are deinterlaced, rotation, mirroring and pixel shape are applied, and
    transparency lies over black.

    Args:
        path: any file FFmpeg can read, GIF included.
        height: rows of the frames to return; None keeps the file's own size.
        width: columns of the frames to return.
        fit: how to reach that size: `crop` covers it and cuts the overhang off evenly, `letterbox`
            fits inside and fills with black, `resize` stretches.
        span: only the frames from this second to before that one. Numbers and times begin there.

    Raises:
        UserError: names the file and whether it is missing, empty, without video, or damaged. A
            damaged file gives all of its intact frames before.
    """
    paint = _Painter(height, width, fit)
    for moment in moments(path, span):
        pixels = paint(moment.picture, moment.aspect)
        yield Frame(moment.number, moment.time, moment.duration, moment.cut, pixels)


def read_video(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "resize",
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (seconds since the first frame, frame u8 (H,W,3)): the short form of `read_frames`."""
    for frame in read_frames(path, height=height, width=width, fit=fit):
        yield frame.time, frame.pixels


class _Scaler:
    """Converts frames to another size and pixel format, keeping FFmpeg's tables between frames.

    `sharp` repeats pixels when it enlarges by a whole number, as suits the small screen of a game.
    """

    def __init__(self, sharp: bool = False) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._sharp = sharp

    def __call__(self, frame: Any, height: int, width: int, pixel_format: str) -> Any:
        enlarges = self._sharp and height >= 2 * frame.height and height % frame.height == 0
        shrinks = height * width < frame.height * frame.width
        how = "POINT" if enlarges else "AREA" if shrinks else "BICUBIC"
        return self._reformatter.reformat(
            frame, width, height, pixel_format, interpolation=how, threads=1
        )

    def rgb(self, frame: Any, height: int, width: int) -> np.ndarray:
        return self(frame, height, width, "rgb24").to_ndarray()


class Resizer:
    """Scales frames as `VideoWriter` does, so that a game looks as in its recorded videos.

    Args:
        height, width: wanted, in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size, self._scale = (height, width), _Scaler(sharp=True)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Returns frames u8 (N,H,W,3) in the size wanted; those that have it are left alone."""
        import av

        if frames.shape[1:3] == self._size or not len(frames):
            return frames
        pictures = (av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames)
        return np.stack([self._scale.rgb(picture, *self._size) for picture in pictures])


class _Painter:
    """Makes upright pixels of one size from decoded frames."""

    def __init__(self, height: int | None, width: int | None, fit: Fit) -> None:
        self._height, self._width = height, width
        self._fit: Fit = fit
        self._scale, self._blend = _Scaler(), _Scaler()

    def __call__(self, frame: Any, aspect: float) -> np.ndarray:
        """Returns a frame, whose pixels are `aspect` times as wide as high, as u8 (H,W,3)."""
        turn = _orientation(frame)
        rows, columns = frame.height, max(1, round(frame.width * aspect))
        shown = (columns, rows) if turn.transposed else (rows, columns)
        target = (self._height or shown[0], self._width or shown[1])
        rows, columns = scaled_size(shown, target, self._fit)
        stored = (columns, rows) if turn.transposed else (rows, columns)
        image = turn.apply(self._scale.rgb(self._opaque(frame), *stored))
        return np.ascontiguousarray(_paste(image, target))

    def _opaque(self, frame: Any) -> Any:
        import av

        if not _is_transparent(frame.format.name):
            return frame
        # Before scaling, or the colours of transparent pixels would bleed into their neighbours.
        colours = self._blend(frame, frame.height, frame.width, "rgba").to_ndarray()
        return av.VideoFrame.from_ndarray(over_black(colours), format="rgb24")


@cache
def _is_transparent(pixel_format: str) -> bool:
    from av import VideoFormat

    layout = VideoFormat(pixel_format)
    return layout.has_palette or any(part.is_alpha for part in layout.components)


class _Orientation(NamedTuple):
    """How a stored picture is shown: rows and columns change places, then each may be mirrored."""

    transposed: bool
    rows_mirrored: bool
    columns_mirrored: bool

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Returns the picture (H,W,3), or (W,H,3) where it is transposed, as it is shown."""
        image = image.swapaxes(0, 1) if self.transposed else image
        return image[:: -1 if self.rows_mirrored else 1, :: -1 if self.columns_mirrored else 1]


def _orientation(frame: Any) -> _Orientation:
    """Reads the display matrix of a frame, rounded to the nearest of the eight orientations."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Orientation(False, False, False)
    # The column shown is a x + c y, the row b x + d y, for the stored column x and row y.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Orientation(False, d < 0, a < 0)
    return _Orientation(True, b < 0, c < 0)


def scaled_size(size: tuple[int, int], target: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Returns (height, width) to scale a picture to before it is cut or padded to the target."""
    if fit == "resize" or size == target:
        return target
    ratios = (target[0] / size[0], target[1] / size[1])
    ratio = max(ratios) if fit == "crop" else min(ratios)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _paste(image: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == target:
        return image
    placed = np.zeros((*target, 3), np.uint8)
    rows = _intersection(image.shape[0], target[0])
    columns = _intersection(image.shape[1], target[1])
    placed[rows[1], columns[1]] = image[rows[0], columns[0]]
    return placed


def _intersection(have: int, want: int) -> tuple[slice, slice]:
    size = min(have, want)
    start, offset = (have - size) // 2, (want - size) // 2
    return slice(start, start + size), slice(offset, offset + size)


def fit_frame(frame: np.ndarray, height: int, width: int, fit: Fit = "resize") -> np.ndarray:
    """Brings one frame u8 (H,W,3) to another size the way `read_video` does."""
    import av

    size = scaled_size((frame.shape[0], frame.shape[1]), (height, width), fit)
    if size != frame.shape[:2]:
        frame = _Scaler().rgb(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"), *size
        )
    return np.ascontiguousarray(_paste(frame, (height, width)))


class VideoEncoder:
    """Encodes frames to H.264 as they come.

    Args:
        file: path, or a binary file in memory.
        container: `mp4`, `matroska` or `mov`.
        fps, crf, pixel_format, size, scale, preset: as of `VideoWriter`.
    """

    def __init__(
        self,
        file: str | io.BytesIO,
        container: str,
        fps: float,
        *,
        crf: int = 10,
        pixel_format: str = "yuv444p",
        size: tuple[int, int] | None = None,
        scale: int = 1,
        preset: str = "veryfast",
    ) -> None:
        require(fps > 0, f"fps must be above 0, got {fps}")
        self.frames = 0
        self._file, self._format = file, container
        self._options = {"crf": str(crf), "preset": preset, "threads": "1"}
        self._fps, self._pixel_format = fps, pixel_format
        self._size, self._factor = size, scale
        self._scale = _Scaler(sharp=True)
        self._container: Any = None
        self._stream: Any = None

    def write(self, frame: np.ndarray) -> None:
        """Adds one frame, u8 (H,W,3)."""
        import av

        require(
            frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3,
            f"a video frame is uint8 (height, width, 3), got {frame.dtype} {frame.shape}",
        )
        enlarged = (frame.shape[0] * self._factor, frame.shape[1] * self._factor)
        container = self._container or self._start(*(self._size or enlarged))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._scale(picture, self._stream.height, self._stream.width, self._pixel_format)
        picture.pts, self.frames = self.frames, self.frames + 1
        container.mux(self._stream.encode(picture))

    def _start(self, height: int, width: int) -> Any:
        import av

        even = self._pixel_format == "yuv420p"
        self._container = av.open(self._file, "w", format=self._format)
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options=self._options)
        self._stream.width = width + width % 2 if even else width
        self._stream.height = height + height % 2 if even else height
        self._stream.pix_fmt = self._pixel_format
        self._stream.codec_context.time_base = 1 / rate
        self._stream.codec_context.thread_count = 1
        return self._container

    def close(self) -> None:
        """Finishes the video, which has at least one frame."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def discard(self) -> None:
        """Closes an unfinished video."""
        if self._container is not None:
            with contextlib.suppress(OSError, ValueError):  # on a full disk closing fails too
                self._container.close()


class VideoWriter:
    """Encodes frames to an H.264 mp4 as they come; the file appears under its name only when whole.

    Writes to a hidden file in the same folder and renames it on `close()`. As a context manager it
    closes on success and leaves nothing behind on an exception.

    Args:
        path: file to write, `.mp4`, `.mkv` or `.mov`.
        fps: frames per second.
        crf: constant rate factor, 0 (lossless) to 51; 10 keeps a 64x64 game sharp.
        pixel_format: `yuv444p` keeps the colours of single pixels; `yuv420p` is what every browser
            plays (odd sizes are then stretched by one pixel).
        size: (height, width) to scale frames to; None keeps theirs, times `scale`.
        scale: whole factor by which frames are enlarged.
        preset: x264 speed preset.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        *,
        crf: int = 10,
        pixel_format: str = "yuv444p",
        size: tuple[int, int] | None = None,
        scale: int = 1,
        preset: str = "veryfast",
    ) -> None:
        require(Path(path).parent.is_dir(), f"{Path(path).parent}: no such folder; create it first")
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        container = {".mkv": "matroska", ".mov": "mov"}.get(self.path.suffix.lower(), "mp4")
        self._encoder = VideoEncoder(
            str(self._part), container, fps, crf=crf, pixel_format=pixel_format, size=size,
            scale=scale, preset=preset,
        )  # fmt: skip

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return self._encoder.frames

    def write(self, frame: np.ndarray) -> None:
        """Adds one frame, u8 (H,W,3)."""
        self._encoder.write(frame)

    def close(self) -> None:
        """Finishes the file and gives it its name.

        Raises:
            UserError: no frame was written.
        """
        require(self.frames > 0, f"{self.path}: a video needs at least one frame")
        try:
            self._encoder.close()
            put_in_place(self._part, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Drops the unfinished file."""
        self._encoder.discard()
        self._part.unlink(missing_ok=True)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    crf: int = 10,
    pixel_format: str = "yuv444p",
    scale: int = 1,
) -> Path:
    """Writes frames u8 (H,W,3), or one array (T,H,W,3), to an mp4, or to a GIF by its ending.

    The file appears under its name only when it is whole. See `VideoWriter` for the options.

    Raises:
        UserError: no frames, a frame of the wrong type, or a missing folder.
    """
    path = Path(path)
    if path.suffix.lower() == ".gif":
        return _write_gif(path, frames, fps, scale)
    with VideoWriter(path, fps, crf=crf, pixel_format=pixel_format, scale=scale) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def display_scale(height: int, width: int) -> int:
    """Returns the default factor by which frames are enlarged for display."""
    return max(1, DISPLAY_SIDE // max(height, width))


def choose_scale(scale: int | None, frames: int, height: int, width: int) -> int:
    """Returns the factor by which the frames of a clip are enlarged.

    Raises:
        UserError: the clip would be too large.
    """
    scale = display_scale(height, width) if scale is None else scale
    most = max(1, math.isqrt(int(MOST_CLIP_PIXELS / (frames * height * width))))
    require(scale <= most, f"scale: {scale} is too large for {frames} frames, at most {most}")
    return scale


def encode(frames: Iterable[np.ndarray], format: Format, fps: float, scale: int) -> bytes:
    """Encodes frames, which are taken one at a time.

    Args:
        frames: u8 (H,W,3), at least one.
        format: an mp4 that browsers play, a GIF, or a ZIP archive of numbered PNG images.
        fps: frames per second.
        scale: factor by which the frames are enlarged.

    Raises:
        UserError: there is no frame.
    """
    if format == "png":
        return png_archive(frames, scale)
    video = io.BytesIO()  # no temporary file, which a full disk would fail
    if format == "gif":
        _save_gif(video, frames, fps, scale)
        return video.getvalue()
    # Browsers play 4:2:0 only; enlarged pixels lose nothing by it.
    encoder = VideoEncoder(video, "mp4", fps, scale=scale, pixel_format="yuv420p")
    try:
        for frame in frames:
            encoder.write(frame)
        require(encoder.frames > 0, "a video needs at least one frame")
        encoder.close()
    except BaseException:
        encoder.discard()
        raise
    return video.getvalue()


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float, scale: int) -> Path:
    require(path.parent.is_dir(), f"{path.parent}: no such folder; create it first")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _save_gif(part, frames, fps, scale)
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _save_gif(
    file: Path | io.BytesIO, frames: Iterable[np.ndarray], fps: float, scale: int
) -> None:
    from PIL import Image

    def enlarged(frame: np.ndarray) -> Image.Image:
        picture = Image.fromarray(np.ascontiguousarray(frame))
        if scale == 1:
            return picture
        # Colours are chosen while the picture is small: that is most of the work.
        few = picture.convert("P", palette=Image.Palette.ADAPTIVE)
        return few.resize((few.width * scale, few.height * scale), Image.Resampling.NEAREST)

    frames = list(frames)
    require(len(frames) > 0, "a video needs at least one frame")
    pictures = map(enlarged, frames)  # one at a time: enlarged they take much more memory
    # A GIF counts in hundredths of a second: rounding the end times keeps the whole on time.
    ends = np.round(np.arange(len(frames) + 1) * 100 / fps).astype(int)
    durations = [int(d) * 10 for d in np.diff(ends)]
    next(pictures).save(
        file, format="GIF", save_all=True, append_images=pictures, duration=durations, loop=0
    )
