"""Pictures of a report: contact sheets, what each action does, and moving pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genie.data.images import png

BACKGROUND, FOREGROUND = (244, 244, 240), (40, 40, 40)
GAP, FONT_SIZE = 4, 13

Row = tuple[str, UInt8[np.ndarray, "K H W 3"]]


@dataclass(frozen=True)
class Figure:
    """A picture of the report, shown in the page and saved as a file.

    Attributes:
        name: of the file, without suffix.
        caption: what is to be seen, in a sentence.
        data: the file's content.
        section: of the report, the key of a metric, or "headlines".
        kind: "png" or "gif".
    """

    name: str
    caption: str
    data: bytes
    section: str
    kind: str = "png"

    @property
    def uri(self) -> str:
        """The picture as an address that needs no request."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


def read_figure(path: Path, caption: str, section: str = "") -> Figure:
    """Reads a figure that was saved as a file."""
    return Figure(path.stem, caption, path.read_bytes(), section, path.suffix[1:])


def magnification(height: int, width: int) -> int:
    """Returns by how much to enlarge frames so that small ones can be seen."""
    return max(1, 128 // max(height, width))


def contact_sheet(rows: Sequence[Row], columns: Sequence[str], scale: int) -> Image.Image:
    """Lays out labelled rows of frames under labelled columns, enlarged without smoothing.

    Args:
        rows: a label and K frames each, all of one size.
        columns: at most K labels.
        scale: enlargement.
    """
    count, height, width, _ = rows[0][1].shape
    font = ImageFont.load_default(FONT_SIZE)
    left = GAP + max(int(font.getlength(label)) for label, _ in rows) + 2 * GAP
    top, cell_h, cell_w = FONT_SIZE + 3 * GAP, height * scale + GAP, width * scale + GAP
    sheet = Image.new("RGB", (left + count * cell_w, top + len(rows) * cell_h), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for k, label in enumerate(columns):
        draw.text((left + k * cell_w, GAP), label, FOREGROUND, font)
    for r, (label, frames) in enumerate(rows):
        y = top + r * cell_h
        draw.text((GAP, y + cell_h // 2 - FONT_SIZE), label, FOREGROUND, font)
        for k, frame in enumerate(frames):
            sheet.paste(enlarged(frame, scale), (left + k * cell_w, y))
    return sheet


def enlarged(frame: UInt8[np.ndarray, "H W 3"], scale: int) -> Image.Image:
    """Returns a frame with every pixel drawn as a square."""
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    return Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)


def heat(
    difference: Float[np.ndarray, "*shape"], full: float = 64.0
) -> UInt8[np.ndarray, "*shape 3"]:
    """Colours differences in grey levels: black for none, red, yellow, white at `full`."""
    ramp = 3 * np.clip(difference / full, 0, 1)[..., None] - np.arange(3)
    return (255 * np.clip(ramp, 0, 1)).astype(np.uint8)


def clip_sheet(
    prompt: UInt8[Tensor, "H W C"],
    real: UInt8[Tensor, "N H W C"],
    played: dict[str, UInt8[Tensor, "N H W C"]],
    times: Sequence[int],
) -> Image.Image:
    """Shows one clip: what happened, its reconstruction, and two rollouts from the same frame."""
    steps = [t - 1 for t in times]
    rows = [
        (label, torch.cat([prompt[None], frames[steps]]).numpy())
        for label, frames in (
            ("real video", real),
            ("reconstruction", played["reconstruction"]),
            ("rollout, inferred actions", played["inferred"]),
            ("rollout, random actions", played["random"]),
        )
    ]
    columns = ["prompt", *(f"t = {t}" for t in times)]
    return contact_sheet(rows, columns, magnification(*prompt.shape[:2]))


def action_sheet(
    prompt: UInt8[Tensor, "H W C"], held: UInt8[Tensor, "A T H W C"], stillest: int
) -> Image.Image:
    """Shows what each held action does, and how its last frame differs from the stillest one's."""
    last = held[:, -1].float()
    change = heat((last - last[stillest]).abs().mean(-1).numpy())
    rows = [
        (
            _action_label(a, stillest),
            np.concatenate([prompt[None].numpy(), frames.numpy(), change[a : a + 1]]),
        )
        for a, frames in enumerate(held)
    ]
    columns = ["prompt", *(f"t = {t + 1}" for t in range(held.shape[1])), "difference"]
    return contact_sheet(rows, columns, magnification(*prompt.shape[:2]))


def _action_label(action: int, stillest: int) -> str:
    return f"action {action} (stillest)" if action == stillest else f"action {action}"


def strip_figure(games: UInt8[Tensor, "N K H W C"], times: Sequence[int], fps: float) -> Figure:
    """Shows a few long games at a few steps."""
    rows = [(f"game {i + 1}", game.numpy()) for i, game in enumerate(games)]
    columns = [f"t = {t}" for t in times]
    sheet = contact_sheet(rows, columns, magnification(*games.shape[2:4]))
    caption = (
        f"The first games of {times[-1]} steps ({times[-1] / fps:.0f} s), with actions that follow "
        "each other as in real video."
    )
    return Figure(f"coherence_{times[-1]}", caption, png(np.asarray(sheet)), "coherence")


def side_by_side(
    videos: dict[str, UInt8[Tensor, "B T H W C"]], scale: int | None = None
) -> list[Image.Image]:
    """Returns frames of a moving picture: one column per video, one row per clip."""
    shape = next(iter(videos.values())).shape
    scale = scale or magnification(*shape[2:4])
    return [
        contact_sheet(
            [("", np.stack([v[b, t].numpy() for v in videos.values()])) for b in range(shape[0])],
            list(videos),
            scale,
        )
        for t in range(shape[1])
    ]


def gif(images: Sequence[Image.Image], fps: float) -> bytes:
    """Returns pictures as an endless GIF; all share one palette, so that colours do not flicker."""
    strip = Image.new("RGB", (images[0].width, images[0].height * len(images)))
    for i, image in enumerate(images):
        strip.paste(image, (0, i * image.height))
    palette = strip.quantize(256)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    # Viewers slow GIFs down that ask for less than 20 ms a frame.
    duration = max(20, round(1000 / fps))
    flat[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=flat[1:],
        duration=duration,
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()
