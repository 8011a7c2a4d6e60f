"""What goes over the wire between the page and the server, and nothing about who sends it.

Client to server: small JSON texts (`ClientMessage`). Server to client: JSON notes, and frames as
binary messages: a fixed little-endian header, then the picture.

    offset  type     field
    0       uint8    version of the protocol
    1       uint8    codec: 1 lossless WebP, 2 JPEG, 3 MP4, 4 GIF
    2       uint16   0 for a frame of the game; else what action number - 1 would lead to
    4       uint32   frame id, counts the frames drawn for this player
    8       uint32   sequence number of the last input that the frame has seen
    12      uint32   step of the game; 0 is the prompt
    16      float32  milliseconds that drawing the frame took

A video (MP4, GIF) answers a `VideoMessage` and has zeros after the codec. Only frames of the game
are acknowledged.
"""

from __future__ import annotations

import io
import struct
from enum import IntEnum
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from genie.world.replay import png as png

VERSION = 2
HEADER = struct.Struct("<BBHIIIf")
MAX_MESSAGE_BYTES = 2**18  # of a start with own pictures or a whole game; others are far smaller
MAX_SMALL_MESSAGE = 1024
MAX_MASKGIT_STEPS = 32
LOSSLESS_UP_TO = 128  # pixels of the longer side

Sequence = Annotated[int, Field(ge=0, lt=2**32)]


class ProtocolError(ValueError):
    """A client sent something that the protocol does not know; its connection is closed."""


class Codec(IntEnum):
    """How a frame's picture is encoded."""

    WEBP = 1
    JPEG = 2
    MP4 = 3
    GIF = 4


class World(BaseModel):
    """A world that can be played.

    Its frames in pixels, its ticks per second, the addresses of the pictures that games start from,
    and what its buttons are called ("" where nobody has named one).
    """

    name: str
    protocol: int
    height: int
    width: int
    fps: float
    num_actions: int
    prompts: list[str]
    names: list[str]
    can_name: bool


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SamplingMessage(_Message):
    """How the player's frames are drawn from now on; None is the world's own."""

    type: Literal["sampling"]
    steps: Annotated[int, Field(ge=1, le=MAX_MASKGIT_STEPS)] | None
    temperature: Annotated[float, Field(ge=0, le=10)] | None


class StartMessage(_Message):
    """Begins a game from a prompt, or begins it anew; without a seed the server draws one.

    The prompt is an index, or PNG pictures of the world's size in base64. With actions the game is
    played that far, each step drawn as `sampling` says (as in `genie.world.replay.Replay`); with a
    hash only in that world.
    """

    type: Literal["start"]
    seq: Sequence
    prompt: int | Annotated[list[str], Field(min_length=1, max_length=64)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    actions: list[int] = []
    sampling: Annotated[list[dict[str, Any]], Field(max_length=1000)] = []
    hash: str | None = None


class KeysMessage(_Message):
    """The actions whose keys are held now, in the order they were pressed: the last one counts."""

    type: Literal["keys"]
    seq: Sequence
    held: Annotated[list[int], Field(max_length=64)]


class IdleMessage(_Message):
    """What to play while no key is held: an action, or None to wait for a key."""

    type: Literal["idle"]
    action: int | None


class PauseMessage(_Message):
    """Stops the game's clock or lets it run on."""

    type: Literal["pause"]
    paused: bool


class PaceMessage(_Message):
    """Plays at every second tick of the world's clock, say, instead of at each."""

    type: Literal["pace"]
    every: Annotated[int, Field(ge=1, le=8)]


class StepMessage(_Message):
    """Plays one action, also while the game is paused."""

    type: Literal["step"]
    seq: Sequence
    action: int


class UndoMessage(_Message):
    """Takes the last steps back."""

    type: Literal["undo"]
    seq: Sequence
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1


class BranchMessage(_Message):
    """Goes on in a copy of the game; the game itself is kept."""

    type: Literal["branch"]


class SwitchMessage(_Message):
    """Goes back to a game that was kept."""

    type: Literal["switch"]
    game: int


class CloseMessage(_Message):
    """Forgets a game that was kept."""

    type: Literal["close"]
    game: int


class PreviewMessage(_Message):
    """Asks what each action would lead to, held for this many steps."""

    type: Literal["peek"]
    steps: Annotated[int, Field(ge=1, le=8)] = 1


class SaveMessage(_Message):
    """Asks for the game as a replay, which comes as a note."""

    type: Literal["save"]


class VideoMessage(_Message):
    """Asks for a film of the game's last minute."""

    type: Literal["film"]
    format: Literal["mp4", "gif"]


class AckMessage(_Message):
    """The frame with this id, and every one before it, was shown."""

    type: Literal["ack"]
    frame: Sequence


ClientMessage = (
    StartMessage
    | KeysMessage
    | IdleMessage
    | PauseMessage
    | PaceMessage
    | StepMessage
    | UndoMessage
    | BranchMessage
    | SwitchMessage
    | CloseMessage
    | SamplingMessage
    | PreviewMessage
    | SaveMessage
    | VideoMessage
    | AckMessage
)
_PARSER: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)


def message_cost(message: ClientMessage) -> float:
    """Returns the work that a message makes: pictures to read or draw, beside ordinary steps."""
    match message:
        case StartMessage(prompt=prompt, actions=actions, sampling=sampling):
            pictures = 1 if isinstance(prompt, int) else len(prompt)
            return pictures + len(sampling) / 100 + len(actions) / 10_000
        case PreviewMessage(steps=steps):
            return steps
        case SaveMessage():
            return 1
        case _:
            return 0


def parse(text: str, most_bytes: int = MAX_MESSAGE_BYTES) -> ClientMessage:
    """Reads one message of a client.

    Args:
        text: of the message.
        most_bytes: that it may have in UTF-8.

    Raises:
        ProtocolError: it is too long, not JSON, or not a message of this protocol.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > most_bytes:
        raise ProtocolError(f"a message may be {most_bytes} bytes long")
    try:
        message = _PARSER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise ProtocolError(f"{where}: {first['msg']}") from None
    if size > MAX_SMALL_MESSAGE and not isinstance(message, StartMessage):
        raise ProtocolError(f"a message may be {MAX_SMALL_MESSAGE} bytes long")
    return message


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
    frame_id: int,
    last_input: int,
    step: int,
    generation_ms: float,
    picture: tuple[Codec, bytes],
    preview_action: int = 0,
) -> bytes:
    """Returns a frame message: the header of this module's table, then the picture."""
    codec, payload = picture
    header = HEADER.pack(VERSION, codec, preview_action, frame_id, last_input, step, generation_ms)
    return header + payload


def decode_picture(picture: tuple[Codec, bytes]) -> np.ndarray:
    """The reverse of `encode_picture`."""
    return np.asarray(Image.open(io.BytesIO(picture[1])).convert("RGB"))


def frame_id_of(message: bytes) -> int | None:
    """Returns the frame id of a frame of the game, which the player acknowledges."""
    _, codec, preview_action, frame_id, *_ = HEADER.unpack_from(message)
    return frame_id if preview_action == 0 and codec in (Codec.WEBP, Codec.JPEG) else None
