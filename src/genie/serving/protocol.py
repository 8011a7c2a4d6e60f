"""The messages between a client and the server.

A client sends JSON (`ClientMessage`). The server sends JSON notes, and frames as binary messages: a
little-endian header, then the encoded image. Its fields, by their offset in bytes:

- 0, uint8: protocol version
- 1, uint8: codec: 1 lossless WebP, 2 JPEG, 3 MP4, 4 GIF
- 2, uint16: 0 for a frame of the game, n + 1 for the preview of action n
- 4, uint32: frame id, counts the frames sent to this player
- 8, uint32: sequence number of the last input that the frame reflects
- 12, uint32: step of the game; 0 is the prompt
- 16, float32: milliseconds that generating the frame took

A video (MP4, GIF) answers a `VideoMessage` and has zeros after the codec. Only frames of the game
are acknowledged.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from genie.data.images import Picture

VERSION = 2
HEADER = struct.Struct("<BBHIIIf")
MAX_MESSAGE_BYTES = 2**18  # of a start with images or a whole game
MAX_SMALL_MESSAGE = 1024
MAX_MASKGIT_STEPS = 32
# Codes of closing, RFC 6455 section 7.4; 4000 and above are an application's own.
POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART = 1008, 1011, 1012
TIME_OVER = 4000  # time limit reached: a page should not reconnect by itself

Sequence = Annotated[int, Field(ge=0, lt=2**32)]


class ProtocolError(ValueError):
    """A client sent an invalid message; its connection is closed."""


VideoFormat = Literal["mp4", "gif"]


class Button(BaseModel):
    """Actions that do the same, as they were measured.

    Attributes:
        actions: the first one stands for all of them.
        name: made from the effect, "" where it has no name.
        effect: one sentence for players.
    """

    actions: list[int]
    name: str
    effect: str


class World(BaseModel):
    """A world that can be played.

    Attributes:
        name: of the world.
        protocol: version of the protocol.
        height, width: size of its frames in pixels.
        fps: frames per second.
        num_actions: number of actions.
        prompts: URLs of the images that games start from.
        names: of the actions, "" for an action without a name.
        buttons: the actions that are worth a button each; none where they were not measured.
        real_actions: names of the real game's actions that can be played; none without a mapper.
        can_name: whether players may save names.
        can_guide: whether players may set guidance, see `genie.SamplingConfig`.
        has_agent: whether an agent can play.
    """

    name: str
    protocol: int
    height: int
    width: int
    fps: float
    num_actions: int
    prompts: list[str]
    names: list[str]
    buttons: list[Button] = []
    real_actions: list[str] = []
    can_name: bool
    can_guide: bool
    has_agent: bool = False


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SamplingMessage(_Message):
    """Sets the sampling of later frames; None takes the world's own value."""

    type: Literal["sampling"]
    steps: Annotated[int, Field(ge=1, le=MAX_MASKGIT_STEPS)] | None
    temperature: Annotated[float, Field(ge=0, le=10)] | None
    guidance: Annotated[float, Field(ge=0, le=10)] | None = None


class StartMessage(_Message):
    """Starts the current game; without a seed the server chooses one.

    The prompt is an index, or PNG images of the world's size in base64. `actions` are played at
    once, with the sampling of each step as in `genie.world.replay.Replay`. A start with a hash is
    refused unless it is the hash of this world.

    `resume` asks for what a client needs to continue the game on another server: notes `{"type":
    "resume", "from": n, "actions": [...], "sampling": [...], "token": ...}`. They have the latent
    actions from step n on, which replace all from there, and changes of sampling if there are any.
    Every eighth step also has a token and the hash of the world. A start with the token, the seed,
    all actions and their sampling continues the game; "" asks for the notes of a new one.
    """

    type: Literal["start"]
    seq: Sequence
    prompt: int | Annotated[list[str], Field(min_length=1, max_length=64)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    actions: list[int] = []
    sampling: Annotated[list[dict[str, Any]], Field(max_length=1000)] = []
    hash: str | None = None
    resume: Annotated[str, Field(max_length=2000)] | None = None


class KeysMessage(_Message):
    """The actions whose keys are held now, in the order of pressing; the last one is played.

    In a world of A actions, A + n is the real action n of `World.real_actions`, here as in other
    messages but a start. A replay holds the latent actions that were played.

    An action in `pressed` is played once, held or not. A client that sends a press there first, and
    in `held` half a step later, makes a tap one step however late its release arrives. Without
    `pressed`, the actions that were not held before are the pressed ones.
    """

    type: Literal["keys"]
    seq: Sequence
    held: Annotated[list[int], Field(max_length=64)]
    pressed: Annotated[list[int], Field(max_length=64)] | None = None


class IdleMessage(_Message):
    """Sets the action that is played while no key is held; None waits for a key or the agent."""

    type: Literal["idle"]
    action: int | None
    agent: bool = False


class PauseMessage(_Message):
    """Pauses or resumes the game."""

    type: Literal["pause"]
    paused: bool


class PaceMessage(_Message):
    """Plays at every n-th tick only."""

    type: Literal["pace"]
    every: Annotated[int, Field(ge=1, le=8)]


class StepMessage(_Message):
    """Plays one action, even while the game is paused."""

    type: Literal["step"]
    seq: Sequence
    action: int


class UndoMessage(_Message):
    """Undoes the last steps."""

    type: Literal["undo"]
    seq: Sequence
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1


class BranchMessage(_Message):
    """Continues in a copy of the game; the original is kept."""

    type: Literal["branch"]


class SwitchMessage(_Message):
    """Switches to another game of the player."""

    type: Literal["switch"]
    game: int


class CloseMessage(_Message):
    """Deletes a game of the player."""

    type: Literal["close"]
    game: int


class PreviewMessage(_Message):
    """Requests a preview of each latent or each real action, held for this many steps."""

    type: Literal["peek"]
    real: bool = False
    steps: Annotated[int, Field(ge=1, le=8)] = 1


class SaveMessage(_Message):
    """Requests the game as a replay, which is sent as a note."""

    type: Literal["save"]


class VideoMessage(_Message):
    """Requests a video of the game's last minute."""

    type: Literal["film"]
    format: VideoFormat


class AckMessage(_Message):
    """Acknowledges that the frame with this id was shown, and all before it."""

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
    """Returns the cost of a message: images to read or generate, except for ordinary steps."""
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
    """Parses a message of a client.

    Args:
        text: the message as JSON.
        most_bytes: maximum size in UTF-8.

    Raises:
        ProtocolError: the message is too long or invalid.
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
        raise ProtocolError(f"this message may be {MAX_SMALL_MESSAGE} bytes long")
    return message


def pack(
    frame_id: int,
    last_input: int,
    step: int,
    generation_ms: float,
    picture: Picture,
    preview_action: int = 0,
) -> bytes:
    """Returns a binary message: the header described above, then the image."""
    codec, payload = picture
    header = HEADER.pack(VERSION, codec, preview_action, frame_id, last_input, step, generation_ms)
    return header + payload
