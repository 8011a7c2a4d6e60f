"""The video stream of a file: which one it is, its rate, and its intact frames with their times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genie.core.config import UserError, require

MAX_FPS = 300.0
"""A file that states a higher rate is not believed."""
# Seconds that timestamps may fall without meaning that another recording begins.
_JITTER = 0.25
# Damaged timestamps may count any number of lost frames; a store keeps numbers in 32 bits.
_LAST_NUMBER = 2**31 - 1
_TOLD = 3


class Moment(NamedTuple):
    """One frame of a stream.

    Attributes:
        number: its place in the file; frames lost to damage are counted by their time.
        time: seconds since the first frame; never falls.
        duration: seconds that it stays, None where the file does not say.
        cut: whether it does not follow from the frame before: the file was damaged between them,
            or its timestamps began again.
        aspect: width of its pixels divided by their height.
        picture: the decoded frame, an `av.VideoFrame`, without interlacing.
    """

    number: int
    time: float
    duration: float | None
    cut: bool
    aspect: float
    picture: Any


def open_video(path: str | Path) -> tuple[Any, Any]:
    """Opens a file and returns its PyAV container and its best video stream.

    Raises:
        UserError: the file is missing, empty, broken, or has no video that can be decoded.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    require(path.exists(), f"{path}: no such file; check the path")
    require(path.is_file(), f"{path}: is a folder, not a video file")
    require(path.stat().st_size > 0, f"{path}: the file is empty; copy it again")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path}: cannot be read as a video ({reason}); the file is broken or unfinished"
        ) from None
    try:
        return container, _best_stream(container, path)
    except BaseException:
        container.close()
        raise


def _best_stream(container: Any, path: Path) -> Any:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        kinds = sorted({_kind(stream) for stream in container.streams}) or ["nothing"]
        raise UserError(f"{path}: holds no video, only {', '.join(kinds)}")
    known = [stream for stream in streams if stream.codec_context is not None]
    require(len(known) > 0, f"{path}: its video codec is unknown; re-encode the file")
    return max(known, key=_rank)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & still)


def _kind(stream: Any) -> str:
    return "a cover picture" if stream.type == "video" else stream.type


def _rank(stream: Any) -> tuple[bool, bool, int]:
    from av.stream import Disposition

    context = stream.codec_context
    default = bool(stream.disposition & Disposition.default)
    return stream.frames != 1, default, context.width * context.height


def stated_rate(stream: Any) -> float | None:
    """Returns the frames per second that a stream states, None where that cannot be believed."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return None


def frame_rate(container: Any, stream: Any) -> float | None:
    """Returns the frames per second of a stream, from its timestamps where it states none.

    The container is read to its end for that. None stands for a single picture.
    """
    if stream.frames == 1:
        return None
    # A GIF states no rate, only how long each picture stays, in hundredths of a second.
    is_gif = container.format.name == "gif"
    stated = None if is_gif else stated_rate(stream)
    if stated is not None:
        return stated
    times = [float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None]
    seconds = max(times, default=0.0) - min(times, default=0.0)
    if seconds <= 0:
        return None
    return min(round((len(times) - 1) / seconds, 1), MAX_FPS) or None


def moments(path: str | Path, span: tuple[float, float] | None = None) -> Iterator[Moment]:
    """Decodes the video of a file in one thread, frame by frame.

    Frames that are flagged as interlaced are deinterlaced. After damage it goes on at the next
    frame that needs no other one.

    Args:
        path: of the file.
        span: only the frames from this second to before that one. Numbers and times begin there.

    Raises:
        UserError: the file cannot be opened, or it was damaged somewhere: then after all frames
            that are intact, naming the seconds that are left out.
    """
    container, stream = open_video(path)
    with container:
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        clock = _FrameTimes(stream)
        lost: list[str] = []
        if span is not None:
            clock.seek(container, span[0])
        frames = _timed(_decoded(container, stream), clock, lost)
        yield from _deinterlaced(frames if span is None else _within(frames, span, clock.period))
        if lost:
            more = f" and in {len(lost) - _TOLD} more places" if len(lost) > _TOLD else ""
            places = ", ".join(lost[:_TOLD])
            raise UserError(f"{path}: damaged {places}{more}; re-encode the file to use the rest")


def _decoded(container: Any, stream: Any) -> Iterator[tuple[Any, str | None]]:
    """Yields each intact frame, and why frames right before it were lost; at the end maybe None.

    A frame that was predicted from a damaged one is damaged too, though nothing marks it. So after
    damage only a frame that needs no other one is believed again.
    """
    from av.error import FFmpegError

    lost, skips = None, False
    try:
        for packet in container.demux(stream):
            if skips and packet.size and not packet.is_keyframe:
                continue
            failure = None
            try:
                frames, skips = packet.decode(), False
            except FFmpegError as error:
                frames, skips, failure = _drained(stream, packet.pts), True, error.strerror
            for frame in frames:
                if frame.is_corrupt or (lost and not frame.key_frame):
                    lost = lost or "Error in a frame"
                    continue
                yield frame, lost
                lost = None
            lost = lost or failure
    except FFmpegError as error:
        lost = error.strerror
    if lost:
        yield None, lost


def _drained(stream: Any, end: int | None) -> list[Any]:
    """Returns the frames before a timestamp that a decoder holds back, and lets it begin anew."""
    from av.error import FFmpegError

    codec = stream.codec_context
    try:
        frames = codec.decode(None)
    except FFmpegError:
        frames = []
    codec.flush_buffers()
    for frame in frames:
        frame.time_base = stream.time_base
    return [frame for frame in frames if end is None or frame.pts is None or frame.pts < end]


class _FrameTimes:
    """Numbers and times of frames; fills in missing timestamps, begins again where they do."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.period = 1 / (stated_rate(stream) or 25)
        self._aspect = float(stream.sample_aspect_ratio or 1)
        self._offset: float | None = None
        self._number = -1
        self.last: float | None = None
        self._duration: float | None = None

    def seek(self, container: Any, seconds: float) -> None:
        """Goes to the last frame that needs no other one before a time of the video."""
        base, first = self._stream.time_base, self._stream.start_time or 0
        self._offset = float(first * base)
        at = first + int(max(0.0, seconds - self.period / 2) / base)
        container.seek(at, stream=self._stream)

    def __call__(self, frame: Any, lost: bool) -> Moment:
        """Returns the next frame, after others that were lost or right after the one before."""
        time, restarts = self._time(frame)
        before = -self.period if self.last is None else self.last
        step = max(1, round((time - before) / self.period)) if lost else 1
        self._number = min(self._number + step, _LAST_NUMBER)
        cut = self.last is not None and (lost or restarts)
        self.last, self._duration = time, _duration(frame)
        return Moment(self._number, time, self._duration, cut, self._aspect, frame)

    def _time(self, frame: Any) -> tuple[float, bool]:
        following = 0.0 if self.last is None else self.last + (self._duration or self.period)
        if frame.pts is None:
            return following, False
        stamp = float(frame.pts * frame.time_base)
        if self._offset is None:
            self._offset = stamp
        last = self.last or 0.0
        restarts = stamp - self._offset < last - _JITTER
        if restarts:
            self._offset = stamp - following
        return max(last, stamp - self._offset), restarts


def _within(frames: Iterable[Moment], span: tuple[float, float], period: float) -> Iterator[Moment]:
    """Yields the frames of a span, numbered by their times; times may be rounded."""
    begin, end = span[0] - period / 2, span[1] - period / 2
    first = True
    for moment in frames:
        if moment.time >= end:
            return
        if moment.time >= begin:
            time = max(0.0, moment.time - span[0])
            cut = moment.cut and not first
            yield moment._replace(number=round(time / period), time=time, cut=cut)
            first = False


def _duration(frame: Any) -> float | None:
    return float(frame.duration * frame.time_base) if frame.duration else None


def _timed(
    frames: Iterable[tuple[Any, str | None]], clock: _FrameTimes, places: list[str]
) -> Iterator[Moment]:
    for frame, lost in frames:
        first, moment = clock.last, clock(frame, bool(lost)) if frame is not None else None
        if lost:
            begin = "from its first frame" if first is None else f"from {first:.2f} s"
            end = "on" if moment is None else f"to {moment.time:.2f} s"
            places.append(f"{begin} {end} ({lost})")
        if moment is not None:
            yield moment


def _deinterlaced(frames: Iterable[Moment]) -> Iterator[Moment]:
    deinterlacer = None
    for moment in frames:
        if deinterlacer and (moment.cut or not deinterlacer.takes(moment.picture)):
            yield from deinterlacer.rest()
            deinterlacer = None
        if deinterlacer is None and moment.picture.interlaced_frame:
            deinterlacer = _Deinterlacer(moment.picture)
        if deinterlacer is None:
            yield moment
        else:
            yield from deinterlacer(moment)
    if deinterlacer:
        yield from deinterlacer.rest()


class _Deinterlacer:
    """FFmpeg's `bwdif`: makes one whole frame of two fields, one frame behind its input.

    Frames that are not flagged as interlaced pass through it unchanged.
    """

    def __init__(self, picture: Any) -> None:
        from av.filter import Graph

        self._shape = _shape(picture)
        self._waiting: deque[Moment] = deque()
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=picture.time_base,
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def takes(self, picture: Any) -> bool:
        """Whether a frame is of the size and pixel format that it was made for."""
        return _shape(picture) == self._shape

    def __call__(self, moment: Moment) -> Iterator[Moment]:
        """Takes a frame and yields those that are finished."""
        self._waiting.append(moment)
        self._graph.push(moment.picture)
        yield from self._finished()

    def rest(self) -> Iterator[Moment]:
        """Yields the frames that are left."""
        self._graph.push(None)
        yield from self._finished()

    def _finished(self) -> Iterator[Moment]:
        from av.error import BlockingIOError, EOFError

        try:
            while self._waiting:
                picture = self._graph.vpull()
                yield self._waiting.popleft()._replace(picture=picture)
        except (BlockingIOError, EOFError):
            return


def _shape(picture: Any) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
