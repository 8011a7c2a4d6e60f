"""What goes over the wire between the page and the server, and nothing about who sends it.

Client to server: small JSON texts (`ClientMessage`). Server to client: JSON notes, and frames as
binary messages: a fixed little-endian header, then the picture.

    offset  type     field
    0       uint8    version of the protocol
    1       uint8    codec: 1 lossless WebP, 2 JPEG
    2       uint16   zero, reserved
    4       uint32   frame id, counts the frames drawn for this player
    8       uint32   sequence number of the last input that the frame has seen
    12      uint32   step of the game; 0 is the prompt
    16      float32  milliseconds that drawing the frame took
"""

from __future__ import annotations

import io
import struct
from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1
HEADER = struct.Struct("<BBHIIIf")
MAX_MESSAGE_BYTES = 1024
LOSSLESS_UP_TO = 128  # pixels of the longer side

Sequence = Annotated[int, Field(ge=0, lt=2**32)]


class ProtocolError(ValueError):
    """A client sent something that the protocol does not know; its connection is closed."""


class Codec(IntEnum):
    """How a frame's picture is encoded."""

    WEBP = 1
    JPEG = 2


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Start(_Message):
    """Begins a game from a prompt, or begins it anew; without a seed the server draws one."""

    type: Literal["start"]
    seq: Sequence
    prompt: int
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class Keys(_Message):
    """The actions whose keys are held now, in the order they were pressed: the last one counts."""

    type: Literal["keys"]
    seq: Sequence
    held: Annotated[list[int], Field(max_length=64)]


class Idle(_Message):
    """What to play while no key is held: an action, or None to wait for a key."""

    type: Literal["idle"]
    action: int | None


class Pause(_Message):
    """Stops the game's clock or lets it run on."""

    type: Literal["pause"]
    paused: bool


class Ack(_Message):
    """The frame with this id, and every one before it, was shown."""

    type: Literal["ack"]
    frame: Sequence


ClientMessage = Start | Keys | Idle | Pause | Ack
_PARSER: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)


def parse(text: str) -> ClientMessage:
    """Reads one message of a client.

    Raises:
        ProtocolError: it is too long, not JSON, or not a message of this protocol.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message may be {MAX_MESSAGE_BYTES} characters long")
    try:
        return _PARSER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise ProtocolError(f"{where}: {first['msg']}") from None


def encode_picture(frame: np.ndarray) -> tuple[Codec, bytes]:
    """Encodes a frame `uint8 (H, W, 3)`: lossless WebP when small, JPEG when large."""
    image, buffer = Image.fromarray(frame), io.BytesIO()
    if max(frame.shape[:2]) <= LOSSLESS_UP_TO:
        # The fastest lossless setting: 1.5 ms for 128x128, where a better one takes 25 ms.
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
        return Codec.WEBP, buffer.getvalue()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return Codec.JPEG, buffer.getvalue()


def pack(
    frame_id: int, last_input: int, step: int, generation_ms: float, picture: tuple[Codec, bytes]
) -> bytes:
    """Returns a frame message: the header of this module's table, then the picture."""
    codec, payload = picture
    header = HEADER.pack(VERSION, codec, 0, frame_id, last_input, step, generation_ms)
    return header + payload


def png(frame: np.ndarray) -> bytes:
    """Encodes a frame `uint8 (H, W, 3)` as PNG, for the gallery of prompts."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()
