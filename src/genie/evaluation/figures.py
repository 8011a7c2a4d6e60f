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


def contact_sheet(rows: Sequence[Row], columns: Sequence[str]) -> Image.Image:
    """Lays out labelled rows of frames under labelled columns, enlarged without smoothing.

    Args:
        rows: a label and K frames each, all of one size.
        columns: at most K labels.
    """
    count, height, width, _ = rows[0][1].shape
    scale, font = magnification(height, width), ImageFont.load_default(FONT_SIZE)
    left = GAP + max(int(font.getlength(label)) for label, _ in rows) + 2 * GAP
    top, cell_h, cell_w = FONT_SIZE + 3 * GAP, height * scale + GAP, width * scale + GAP
    sheet = Image.new("RGB", (left + count * cell_w, top + len(rows) * cell_h), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for k, label in enumerate(columns):
        draw.text((left + k * cell_w, GAP), label, FOREGROUND, font)
    for r, (label, frames) in enumerate(rows):
        y = top + r * cell_h
        draw.text((GAP, y + cell_h // 2 - FONT_SIZE), label, FOREGROUND, font)
        for k, frame in enumerate(frames.repeat(scale, 1).repeat(scale, 2)):
            sheet.paste(Image.fromarray(frame), (left + k * cell_w, y))
    return sheet


def sheet_figure(
    name: str, caption: str, section: str, rows: Sequence[Row], columns: Sequence[str]
) -> Figure:
    """Returns a contact sheet as a figure."""
    return Figure(name, caption, png(np.asarray(contact_sheet(rows, columns))), section)


def heat(difference: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Colours differences in grey levels: black for none, red, yellow, white at 64."""
    ramp = 3 * np.clip(difference / 64, 0, 1)[..., None] - np.arange(3)
    return (255 * np.clip(ramp, 0, 1)).astype(np.uint8)


def clip_figure(
    number: int,
    prompt: UInt8[Tensor, "H W C"],
    played: dict[str, UInt8[Tensor, "N H W C"]],
    times: Sequence[int],
) -> Figure:
    """Shows one clip: what happened, its reconstruction, and two rollouts from the same frame."""
    steps = [t - 1 for t in times]
    rows = [
        (label, torch.cat([prompt[None], played[side][steps]]).numpy())
        for side, label in (
            ("real video", "real video"),
            ("reconstruction", "reconstruction"),
            ("inferred", "rollout, inferred actions"),
            ("random", "rollout, random actions"),
        )
    ]
    caption = f"Clip {number}, t frames after the prompt."
    columns = ["prompt", *(f"t = {t}" for t in times)]
    return sheet_figure(f"clip_{number}", caption, "rollouts", rows, columns)


def action_figure(
    number: int, prompt: UInt8[Tensor, "H W C"], held: UInt8[Tensor, "A T H W C"], stillest: int
) -> Figure:
    """Shows what each held action does, and how its last frame differs from the stillest one's."""
    last = held[:, -1].float()
    change = heat((last - last[stillest]).abs().mean(-1).numpy())
    rows = [
        (
            f"action {a} (stillest)" if a == stillest else f"action {a}",
            np.concatenate([prompt[None].numpy(), frames.numpy(), change[a : a + 1]]),
        )
        for a, frames in enumerate(held)
    ]
    steps = held.shape[1]
    caption = (
        f"Every action held for {steps} frames from the same held-out frame, with the same random "
        "numbers. Last column: where the last frame differs from that of the action that changes "
        "least."
    )
    columns = ["prompt", *(f"t = {t + 1}" for t in range(steps)), "difference"]
    return sheet_figure(f"actions_{number}", caption, "held_actions", rows, columns)


def strip_figure(games: UInt8[Tensor, "N K H W C"], times: Sequence[int], fps: float) -> Figure:
    """Shows a few long games at a few steps."""
    rows = [(f"game {i + 1}", game.numpy()) for i, game in enumerate(games)]
    caption = (
        f"The first games of {times[-1]} steps ({times[-1] / fps:.0f} s), with actions that follow "
        "each other as in real video."
    )
    columns = [f"t = {t}" for t in times]
    return sheet_figure(f"coherence_{times[-1]}", caption, "coherence", rows, columns)


def side_by_side(videos: dict[str, UInt8[Tensor, "B T H W C"]]) -> list[Image.Image]:
    """Returns frames of a moving picture: one column per video, one row per clip."""
    clips, steps = next(iter(videos.values())).shape[:2]
    return [
        contact_sheet(
            [("", np.stack([v[b, t].numpy() for v in videos.values()])) for b in range(clips)],
            list(videos),
        )
        for t in range(steps)
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
    settings = {"duration": max(20, round(1000 / fps)), "loop": 0, "optimize": False}
    flat[0].save(buffer, "GIF", save_all=True, append_images=flat[1:], **settings)
    return buffer.getvalue()
