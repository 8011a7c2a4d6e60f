"""One player: the games, the held keys and the outgoing messages. Used on the event loop only."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genie.data.images import Picture
from genie.serving import protocol
from genie.serving.play import batch
from genie.serving.play.batch import Turn, TurnResult
from genie.serving.play.start import breaks_protocol, parse_start
from genie.serving.protocol import ClientMessage, ProtocolError, pack
from genie.world.inputs import check_guidance, check_range
from genie.world.maskgit import SamplingConfig

if TYPE_CHECKING:
    from genie.world.config import GenieConfig
    from genie.world.handover import GameLog
    from genie.world.state import State

MAX_UNACKNOWLEDGED = 2  # frames sent to a player
STALLED_AFTER = 5.0  # seconds without an acknowledgement after which a game waits
MAX_QUEUED = 8  # single steps that may wait
PREVIEW_BATCH = 2  # actions: few, so that a key press waits for a short round only
MAX_GAMES = 4  # per player
VIDEO_SECONDS = 60


class SessionClosed(Exception):
    """The server ended the session: the code of closing, and a message for the player."""


@dataclass
class GameHistory:
    """The actions of a game. The batched state follows: steps that it lacks are played again.

    Attributes:
        begin: the first turn.
        actions, sampling: of each step. Real actions become latent ones when they are played.
        queued_turns: to take before any action.
        step: of the batched state; -1 before the first frame.
        hidden_until: frames of earlier steps were shown already and are not sent again.
        video_frames: step and image of the frames of the last minute.
        log: what the player was told, for other servers; None if the player does not want it.
    """

    begin: batch.StartGame
    video_frames: deque[tuple[int, Picture]]
    actions: list[int] = field(default_factory=list)
    sampling: list[SamplingConfig] = field(default_factory=list)
    queued_turns: list[Turn] = field(default_factory=list)
    step: int = -1
    hidden_until: int = 0
    log: GameLog | None = None

    @property
    def steps_behind(self) -> int:
        """Number of steps that the batched state lacks."""
        return len(self.actions) - self.step

    def play(self, action: int, sampling: SamplingConfig) -> None:
        """Adds a step."""
        self.actions.append(action)
        self.sampling.append(sampling)

    def undo(self, steps: int) -> None:
        """Removes the last steps."""
        kept = max(0, len(self.actions) - steps)
        del self.actions[kept:], self.sampling[kept:]
        others = [turn for turn in self.queued_turns if not isinstance(turn, batch.Rewind)]
        self.queued_turns = [*others, batch.Rewind(kept)]
        self.hidden_until = kept
        if self.log is not None:
            self.log.rewind(kept)

    def update(self, result: TurnResult) -> None:
        """Records the step, the latent action and the image of the batched state."""
        self.step = result.step
        if result.action is not None and result.step and not self.queued_turns:
            self.actions[result.step - 1] = result.action
        while self.video_frames and self.video_frames[-1][0] >= result.step:
            self.video_frames.pop()
        self.video_frames.append((result.step, result.picture))

    def copy(self) -> GameHistory:
        """Returns a copy that continues from here."""
        return replace(
            self,
            video_frames=self.video_frames.copy(),
            actions=self.actions.copy(),
            sampling=self.sampling.copy(),
            queued_turns=self.queued_turns.copy() or [batch.ShowFrame()],
            hidden_until=len(self.actions),
            log=self.log and self.log.branch(),
        )


class Session:
    """One player: the games, the held keys, the pace, and the one frame that waits to be sent.

    Args:
        number: of the player.
        world: configuration of the world, with the frame rate of the server.
        prompt_frames: number of frames of each prompt in the gallery.
        on_delivery: called with the seconds from sending a frame to its acknowledgement.
        real_actions: how many a mapper knows; their numbers follow those of the latent ones.
    """

    def __init__(
        self,
        number: int,
        world: GenieConfig,
        prompt_frames: Sequence[int],
        on_delivery: Callable[[float], object] = lambda seconds: None,
        real_actions: int = 0,
    ) -> None:
        self.number, self._on_delivery = number, on_delivery
        self._world, self._prompt_frames = world, prompt_frames
        self._real = range(world.num_actions, world.num_actions + real_actions)
        self._sampling = world.sampling
        self._games: dict[int, GameHistory] = {}
        self._current = 0
        self._game_numbers = itertools.count(1)
        self._turn_game: GameHistory | None = None
        self._turn: Turn | None = None
        self._held: list[int] = []
        self._tapped: int | None = None  # pressed since the last turn, perhaps released since
        self._idle: int | None = None
        self.agent_plays = False
        self._paused = False
        self.every = 1  # plays at every n-th tick
        self._queued_previews: deque[batch.PreviewActions] = deque()
        self._seq = self._turn_seq = 0
        self._frame_id = 0
        self._unacknowledged: dict[int, float] = {}  # frames and when each was sent
        self._latest: bytes | None = None
        self._pending_previews: list[bytes] = []
        self._video: bytes | None = None
        self._blocked_since: float | None = None
        self._notes: dict[str, str] = {}  # by type; the latest of each is sent
        self._ended: tuple[int, str] | None = None
        self._changed = asyncio.Event()
        self._maintenance: list[batch.Maintenance] = []
        self.expensive_since = 0.0  # time of the last turn outside the shared batch

    @property
    def key(self) -> tuple[int, int]:
        """The key of the current game in `GameBatch`."""
        return (self.number, self._current)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """The keys of the player's games in `GameBatch`."""
        return [(self.number, number) for number in self._games]

    @property
    def game(self) -> GameHistory | None:
        """The current game, None before the first start."""
        return self._games.get(self._current)

    @breaks_protocol()
    def receive(self, message: ClientMessage) -> None:
        """Handles a message of the player.

        Raises:
            ProtocolError: there is no such action or game.
        """
        match message:
            case protocol.KeysMessage():
                self._set_held_keys(message)
            case protocol.IdleMessage(action=action):
                self._check([] if action is None else [action])
                self._idle, self.agent_plays = action, message.agent
                if message.agent and self.game is not None:  # it chooses when it sees a frame
                    self.game.queued_turns = self.game.queued_turns or [batch.ShowFrame()]
            case protocol.PauseMessage(paused=paused):
                self._paused = paused
            case protocol.PaceMessage(every=every):
                self.every = every
            case protocol.StepMessage():
                self._queue_step(message)
            case protocol.UndoMessage():
                self._queue_undo(message)
            case protocol.BranchMessage():
                self._branch()
            case protocol.SwitchMessage(game=number):
                self._switch(number)
            case protocol.CloseMessage(game=number):
                self._close(number)
            case protocol.SamplingMessage():
                self._choose_sampling(message)
            case protocol.PreviewMessage():
                self._queue_previews(message)
            case protocol.AckMessage(frame=frame):
                self._acknowledge(frame)
            case protocol.StartMessage() | protocol.SaveMessage() | protocol.VideoMessage():
                raise AssertionError("the scheduler handles these")

    def parse(self, message: protocol.StartMessage) -> tuple[batch.StartGame, list[SamplingConfig]]:
        """Parses a message for `start_game`, in any thread."""
        return parse_start(message, self._world, self._prompt_frames, self._sampling)

    def start_game(
        self,
        message: protocol.StartMessage,
        begin: batch.StartGame,
        sampling: list[SamplingConfig],
        log: GameLog | None = None,
    ) -> None:
        """Starts the current game, with what `parse_start` returned for the message."""
        most = math.ceil(VIDEO_SECONDS * self._world.fps) + 1
        self._games[self._current] = GameHistory(
            begin, deque(maxlen=most), message.actions, sampling, [begin], log=log
        )
        self._seq, self._paused = message.seq, False
        self._held, self._tapped = [], None
        index = begin.prompt if isinstance(begin.prompt, int) else None
        self.notify({"type": "started", "prompt": index, "seed": begin.seed})

    def take_maintenance(self) -> list[batch.Maintenance]:
        """Returns and clears the maintenance that is due before the next round."""
        maintenance, self._maintenance = self._maintenance, []
        return maintenance

    def wants_turn(self, now: float) -> bool:
        """Returns whether the player has a turn to take at the next tick."""
        game = self.game
        if self._ended is not None or game is None:
            return False
        if game.queued_turns:
            return True
        stalled = self._blocked_since is not None and now - self._blocked_since > STALLED_AFTER
        if stalled or game.step < 0:
            return False
        return game.steps_behind > 0 or len(self._queued_previews) > 0 or self._is_running()

    def in_real_time(self) -> bool:
        """Returns whether the next turn has to wait for the next tick."""
        game = self.game
        waits_for_no_tick = game is None or game.queued_turns or game.steps_behind > 0
        return not waits_for_no_tick and self._is_running()

    def extra_maskgit_steps(self) -> int:
        """Returns the MaskGIT steps of the next turn that the shared batch does not cover."""
        if self.game is None:
            return 0
        return batch.extra_maskgit_steps(self._next_turn(self.game), self._world.sampling)

    def take_turn(self) -> Turn:
        """Returns the next turn. A key that was tapped between two ticks is played once."""
        game = self.game
        assert game is not None
        turn = self._next_turn(game)
        self._turn_game, self._turn = game, turn
        if game.queued_turns:
            game.queued_turns.pop(0)
            if isinstance(turn, batch.Rewind):  # what is beyond it is no longer known
                game.step = min(game.step, turn.step)
        elif isinstance(turn, batch.PreviewActions):
            self._queued_previews.popleft()
            return turn
        elif game.steps_behind <= 0:
            assert isinstance(turn, batch.PlayAction)
            self._tapped = None
            game.play(turn.action, self._sampling)
        self._queued_previews.clear()
        self._pending_previews = []
        if game.steps_behind <= 1:
            self._turn_seq = self._seq
        return turn

    def show(self, result: TurnResult, now: float) -> None:
        """Queues the frame of a result. It replaces a frame that was not sent yet."""
        game = self._turn_game
        assert game is not None
        if isinstance(self._turn, batch.PreviewActions):
            if game is self.game and result.previews and not game.queued_turns:
                self._pending_previews += self._packed_previews(self._turn.actions, result)
                self._changed.set()
            return
        game.update(result)
        if game is not self.game or game.queued_turns or result.step < game.hidden_until:
            return
        self._frame_id += 1
        if self._latest is not None and self._blocked_since is None:
            self._blocked_since = now
        self._latest = pack(
            self._frame_id, self._turn_seq, result.step, result.generation_ms, result.picture
        )
        self._changed.set()

    def follow(self, action: int, chances: list[float]) -> None:
        """Continues with what an agent chose, if it still plays, and tells the player its mind."""
        if self.agent_plays:
            self._idle = action
            self.notify({"type": "agent", "chances": chances})

    def video_frames(self) -> list[Picture]:
        """Returns the images of the game's last minute."""
        return [] if self.game is None else [picture for _, picture in self.game.video_frames]

    def send_video(self, video: Picture) -> None:
        """Queues a video."""
        self._video = pack(0, 0, 0, 0, video)
        self._changed.set()

    def notify(self, note: dict[str, Any], text: str | None = None) -> None:
        """Queues a note. It replaces one of the same type that was not sent yet.

        Args:
            note: has a `type`.
            text: the note as JSON, if another thread has encoded it.
        """
        self._notes[note["type"]] = text or json.dumps(note)
        self._changed.set()

    def end(self, message: str, code: int = protocol.INTERNAL_ERROR) -> None:
        """Ends the session with a message for the player and a code of closing."""
        self._ended = code, message
        self._changed.set()

    async def next_message(self) -> str | bytes:
        """Waits for the next message to send, see `ready`."""
        while True:
            self._changed.clear()
            if (message := self.ready()) is not None:
                return message
            await self._changed.wait()

    def ready(self) -> str | bytes | None:
        """Returns the next message: a note, the latest frame, a preview, a video, or None.

        A frame waits while `MAX_UNACKNOWLEDGED` frames are not acknowledged.

        Raises:
            SessionClosed: the session was ended.
        """
        if self._notes:
            return self._notes.pop(next(iter(self._notes)))
        if (note := self._resume_note()) is not None:
            return json.dumps(note)
        if self._ended is not None:
            raise SessionClosed(*self._ended)
        if self._latest is not None and len(self._unacknowledged) < MAX_UNACKNOWLEDGED:
            packet, self._latest = self._latest, None
            self._unacknowledged[self._frame_id] = time.monotonic()
            return packet
        if self._pending_previews:
            return self._pending_previews.pop(0)
        video, self._video = self._video, None
        return video

    def keep_state(self, snapshot: tuple[int, State] | None) -> None:
        """Keeps the last snapshot of the current game for other servers, when it is made."""
        game, (step, state) = self.game, snapshot or (0, None)
        if game is not None and game.log is not None and 0 < step == game.step <= len(game.actions):
            game.log.keep(game.actions[:step], game.sampling[:step], state)

    def _resume_note(self) -> dict[str, Any] | None:
        game = self.game
        if game is None or game.log is None or game.queued_turns or game.step < 0:
            return None
        return game.log.news(game.step, game.actions, game.sampling)

    def _next_turn(self, game: GameHistory) -> Turn:
        if game.queued_turns:
            return game.queued_turns[0]
        if game.steps_behind > 0:
            return batch.PlayAction(game.actions[game.step], game.sampling[game.step])
        if self._is_running():
            action = self._action()
            assert action is not None
            return batch.PlayAction(action, self._sampling)
        return self._queued_previews[0]

    def _check(self, actions: list[int]) -> None:
        check_range(np.array(actions, object), self._real.stop)

    def _set_held_keys(self, message: protocol.KeysMessage) -> None:
        pressed = message.pressed
        if pressed is None:
            pressed = [action for action in message.held if action not in self._held]
        self._check([*message.held, *pressed])
        self._tapped = pressed[-1] if pressed else self._tapped
        self._held, self._seq = message.held, message.seq

    def _queue_step(self, message: protocol.StepMessage) -> None:
        self._check([message.action])
        game = self.game
        if game is not None and game.steps_behind < MAX_QUEUED:
            game.play(message.action, self._sampling)
            self._seq = message.seq

    def _queue_previews(self, message: protocol.PreviewMessage) -> None:
        steps = message.steps
        every = tuple(self._real if message.real else range(self._world.num_actions))
        self._pending_previews = []
        self._queued_previews = deque(
            batch.PreviewActions(
                every[i : i + PREVIEW_BATCH], step == 0, step == steps - 1, self._sampling
            )
            for i in range(0, len(every), PREVIEW_BATCH)
            for step in range(steps)
        )

    def _queue_undo(self, message: protocol.UndoMessage) -> None:
        if self.game is not None and self.game.actions:
            self.game.undo(message.steps)
            self._seq, self._tapped = message.seq, None

    def _branch(self) -> None:
        if self.game is None or len(self._games) >= MAX_GAMES:
            return
        number = next(self._game_numbers)
        if self.game.begin not in self.game.queued_turns:  # it has a state after this round
            self._maintenance.append(batch.CopyGame(self.key, (self.number, number)))
        self._games[number] = self.game.copy()
        self._current = number
        self._notify_games()

    def _switch(self, number: int) -> None:
        if number not in self._games:
            raise ProtocolError(f"game: there is no game {number}")
        self._current, self._tapped = number, None
        game = self._games[number]
        if game.log is not None:
            game.log.forget()
        game.hidden_until = len(game.actions)
        game.queued_turns = game.queued_turns or [batch.ShowFrame()]
        self._notify_games()

    def _close(self, number: int) -> None:
        if number in self._games and number != self._current:
            del self._games[number]
            self._maintenance.append(batch.DropGame((self.number, number)))
        self._notify_games()

    def _notify_games(self) -> None:
        games = [
            {"game": number, "step": len(game.actions)} for number, game in self._games.items()
        ]
        self.notify({"type": "games", "current": self._current, "games": games, "most": MAX_GAMES})

    def _choose_sampling(self, message: protocol.SamplingMessage) -> None:
        given = message.model_dump(exclude={"type"}, exclude_none=True)
        sampling = replace(self._world.sampling, **given)
        check_guidance(sampling.guidance, self._world.dynamics.unconditional_fraction)
        self._sampling = sampling

    def _acknowledge(self, frame: int) -> None:
        for arrived in [sent for sent in self._unacknowledged if sent <= frame]:
            self._on_delivery(time.monotonic() - self._unacknowledged.pop(arrived))
        self._blocked_since = None
        self._changed.set()

    def _is_running(self) -> bool:
        return not self._paused and self._action() is not None

    def _action(self) -> int | None:
        if self._tapped is not None:
            return self._tapped
        return self._held[-1] if self._held else self._idle

    def _packed_previews(self, actions: tuple[int, ...], result: TurnResult) -> list[bytes]:
        header = (self._frame_id, self._turn_seq, result.step, result.generation_ms)
        return [
            pack(*header, picture, preview_action=action + 1)
            for action, picture in zip(actions, result.previews, strict=True)
        ]
