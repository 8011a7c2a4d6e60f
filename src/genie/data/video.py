"""Video files, GIFs and pictures as uint8 frames, through PyAV (FFmpeg) and Pillow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genie.config import UserError, require

EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")

Fit = Literal["crop", "letterbox", "resize"]


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video: size in pixels as stored, frames per second."""

    width: int
    height: int
    fps: float


def probe(path: str | Path) -> VideoInfo:
    """Reads size and average frame rate from the head of a video file.

    Raises:
        UserError: the file is missing, empty, broken, or has no video stream.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        fps = _gif_rate(container) if Path(path).suffix.lower() == ".gif" else _rate(stream)
        return VideoInfo(stream.codec_context.width, stream.codec_context.height, fps)


def _rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 25)


def _gif_rate(container: Any) -> float:
    # A GIF states no rate, only how long each picture stays, in hundredths of a second.
    packets = [p for p in container.demux(video=0) if p.pts is not None]
    if len(packets) < 2:
        return 10.0
    seconds = float((packets[-1].pts - packets[0].pts) * packets[0].time_base)
    return round((len(packets) - 1) / seconds, 1) if seconds > 0 else 10.0


def read_video(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "resize",
) -> Iterator[tuple[float, np.ndarray]]:
    """Decodes a video frame by frame, upright, in one thread.

    Args:
        path: any file FFmpeg can read, GIF included.
        height: rows of the frames to return; None keeps the file's own size.
        width: columns of the frames to return.
        fit: how to reach that size: `crop` covers it and cuts the overhang off evenly, `letterbox`
            fits inside and fills with black, `resize` stretches.

    Yields:
        (seconds since the first frame, frame u8 (H,W,3)). Times come from the file's timestamps, so
        a variable frame rate is seen as it is. Rotation and pixel shape are applied.

    Raises:
        UserError: names the file and whether it is missing, empty, without video, or damaged (then
            after the frames before the damage).
    """
    from av.error import FFmpegError

    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        aspect = float(stream.sample_aspect_ratio or 1)
        clock, scale = _Clock(stream), _Scaler()
        try:
            for frame in container.decode(stream):
                time = clock(frame)
                if frame.is_corrupt:
                    raise UserError(
                        f"{path}: damaged from {time:.2f} s on; re-encode the file to use the rest"
                    )
                yield time, _upright(frame, scale, aspect, height, width, fit)
        except FFmpegError as error:
            when = (
                f"from {clock.last:.2f} s on"
                if clock.last is not None
                else "from its first frame on"
            )
            raise UserError(
                f"{path}: damaged {when} ({error.strerror}); re-encode the file"
            ) from None


class _Clock:
    """Seconds of each frame since the first; never goes back, fills in missing timestamps."""

    def __init__(self, stream: Any) -> None:
        self._period = 1 / _rate(stream)
        self._first: float | None = None
        self.last: float | None = None

    def __call__(self, frame: Any) -> float:
        if frame.pts is None:
            time = 0.0 if self.last is None else self.last + self._period
        else:
            absolute = float(frame.pts * frame.time_base)
            self._first = absolute if self._first is None else self._first
            time = absolute - self._first
        self.last = time if self.last is None else max(time, self.last)
        return self.last


def _open(path: str | Path) -> Any:
    import av
    from av.error import FFmpegError

    path = Path(path)
    require(path.exists(), f"{path}: no such file; check the path")
    require(path.is_file(), f"{path}: is a folder, not a video file")
    require(path.stat().st_size > 0, f"{path}: the file is empty; copy it again")
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path}: cannot be read as a video ({reason}); the file is broken or unfinished"
        ) from None
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise UserError(f"{path}: holds no video, only {kinds}")
    return container


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


def _upright(
    frame: Any, scale: _Scaler, aspect: float, height: int | None, width: int | None, fit: Fit
) -> np.ndarray:
    turns = round(frame.rotation / 90) % 4
    sideways = turns % 2 == 1
    rows, columns = frame.height, max(1, round(frame.width * aspect))
    shown = (columns, rows) if sideways else (rows, columns)
    target = (height or shown[0], width or shown[1])
    rows, columns = scaled_size(shown, target, fit)
    stored = (columns, rows) if sideways else (rows, columns)
    image = np.rot90(scale.rgb(frame, *stored), turns)
    return np.ascontiguousarray(_place(image, target))


def scaled_size(size: tuple[int, int], target: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Returns (height, width) to scale a picture to before it is cut or padded to the target."""
    if fit == "resize" or size == target:
        return target
    ratios = (target[0] / size[0], target[1] / size[1])
    ratio = max(ratios) if fit == "crop" else min(ratios)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _place(image: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == target:
        return image
    placed = np.zeros((*target, 3), np.uint8)
    rows = _overlap(image.shape[0], target[0])
    columns = _overlap(image.shape[1], target[1])
    placed[rows[1], columns[1]] = image[rows[0], columns[0]]
    return placed


def _overlap(have: int, want: int) -> tuple[slice, slice]:
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
    return np.ascontiguousarray(_place(frame, (height, width)))


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
        size: (height, width) to scale frames to; None keeps theirs.
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
        preset: str = "veryfast",
    ) -> None:
        require(fps > 0, f"fps must be above 0, got {fps}")
        require(Path(path).parent.is_dir(), f"{Path(path).parent}: no such folder; create it first")
        self.path = Path(path)
        self.frames = 0
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._options = {"crf": str(crf), "preset": preset, "threads": "1"}
        self._fps, self._pixel_format, self._size = fps, pixel_format, size
        self._scale = _Scaler(sharp=True)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, frame: np.ndarray) -> None:
        """Adds one frame, u8 (H,W,3)."""
        import av

        require(
            frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3,
            f"a video frame is uint8 (height, width, 3), got {frame.dtype} {frame.shape}",
        )
        container = self._container or self._start(*(self._size or frame.shape[:2]))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._scale(picture, self._stream.height, self._stream.width, self._pixel_format)
        picture.pts, self.frames = self.frames, self.frames + 1
        container.mux(self._stream.encode(picture))

    def _start(self, height: int, width: int) -> Any:
        import av

        even = self._pixel_format == "yuv420p"
        container_format = {".mkv": "matroska", ".mov": "mov"}.get(self.path.suffix.lower(), "mp4")
        self._container = av.open(str(self._part), "w", format=container_format)
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options=self._options)
        self._stream.width = width + width % 2 if even else width
        self._stream.height = height + height % 2 if even else height
        self._stream.pix_fmt = self._pixel_format
        self._stream.codec_context.time_base = 1 / rate
        self._stream.codec_context.thread_count = 1
        return self._container

    def close(self) -> None:
        """Finishes the file and gives it its name.

        Raises:
            UserError: no frame was written.
        """
        require(self.frames > 0, f"{self.path}: a video needs at least one frame")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._part, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Drops the unfinished file."""
        if self._container is not None:
            with contextlib.suppress(OSError, ValueError):  # on a full disk closing fails too
                self._container.close()
        self._part.unlink(missing_ok=True)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    crf: int = 10,
    pixel_format: str = "yuv444p",
    size: tuple[int, int] | None = None,
) -> Path:
    """Writes frames u8 (H,W,3), or one array (T,H,W,3), to an mp4, or to a GIF by its ending.

    The file appears under its name only when it is whole. See `VideoWriter` for the options.

    Raises:
        UserError: no frames, a frame of the wrong type, or a missing folder.
    """
    path = Path(path)
    if path.suffix.lower() == ".gif":
        return _write_gif(path, frames, fps, size)
    with VideoWriter(path, fps, crf=crf, pixel_format=pixel_format, size=size) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def _write_gif(
    path: Path, frames: Iterable[np.ndarray], fps: float, size: tuple[int, int] | None
) -> Path:
    from PIL import Image

    def enlarged(frame: np.ndarray) -> Image.Image:
        picture = Image.fromarray(np.ascontiguousarray(frame))
        if size is None:
            return picture
        # Colours are chosen while the picture is small: that is most of the work.
        few = picture.convert("P", palette=Image.Palette.ADAPTIVE)
        return few.resize((size[1], size[0]), Image.Resampling.NEAREST)

    frames = list(frames)
    require(len(frames) > 0, f"{path}: a video needs at least one frame")
    require(path.parent.is_dir(), f"{path.parent}: no such folder; create it first")
    pictures = map(enlarged, frames)  # one at a time: enlarged they take much more memory
    # A GIF counts in hundredths of a second: rounding the end times keeps the whole on time.
    ends = np.round(np.arange(len(frames) + 1) * 100 / fps).astype(int)
    durations = [int(d) * 10 for d in np.diff(ends)]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        next(pictures).save(
            part,
            format="GIF",
            save_all=True,
            append_images=pictures,
            duration=durations,
            loop=0,
        )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture of any mode as u8 (H,W,3), upright; transparency lies over black.

    Raises:
        UserError: the file is missing or is not a picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    require(path.is_file(), f"{path}: no such picture; check the path")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from None
    flat = Image.alpha_composite(Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright)
    return np.array(flat.convert("RGB"))
