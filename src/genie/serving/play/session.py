"""One player: the games, the keys held, and what waits to be sent. It lives on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from genie.serving.play.batch import (
    CopyGame,
    DropGame,
    Maintenance,
    Picture,
    PlayAction,
    PreviewActions,
    Rewind,
    ShowFrame,
    StartGame,
    Turn,
    TurnResult,
    extra_maskgit_steps,
)
from genie.serving.play.start import GameStart, WorldInfo, parse_start
from genie.serving.protocol import (
    AckMessage,
    BranchMessage,
    ClientMessage,
    CloseMessage,
    IdleMessage,
    KeysMessage,
    PaceMessage,
    PauseMessage,
    PreviewMessage,
    ProtocolError,
    SamplingMessage,
    SaveMessage,
    StartMessage,
    StepMessage,
    SwitchMessage,
    UndoMessage,
    VideoMessage,
    pack,
)
from genie.world.maskgit import SamplingConfig

MAX_UNACKNOWLEDGED = 2  # frames under way to a player
STALLED_AFTER = 5.0  # seconds without an acknowledgement after which a game waits for its player
MAX_QUEUED = 8  # single steps that may wait to be drawn
PREVIEW_BATCH = 2  # actions: few, so that a key which is pressed meanwhile waits for a short round
MAX_GAMES = 4  # that a player keeps at a time
VIDEO_SECONDS = 60


class SessionClosed(Exception):
    """The session ended from the server's side; the message is for the player."""


@dataclass
class GameHistory:
    """What was played. The drawn state follows: steps that it lacks are played again.

    Attributes:
        begin: where it started.
        actions, sampling: of each step.
        orders: turns to take before anything is played.
        step: where the drawn state stands; -1 before the first frame.
        silent_until: steps before this one were seen already and are not shown again.
        film: step and picture of the frames of the last minute.
    """

    begin: StartGame
    video_frames: deque[tuple[int, Picture]]
    actions: list[int] = field(default_factory=list)
    sampling: list[SamplingConfig] = field(default_factory=list)
    queued_turns: list[Turn] = field(default_factory=list)
    step: int = -1
    hidden_until: int = 0

    @property
    def steps_behind(self) -> int:
        """Steps that are not drawn yet."""
        return len(self.actions) - self.step

    @property
    def has_state(self) -> bool:
        """Whether there is a state of it, or will be after this round."""
        return not any(isinstance(order, StartGame) for order in self.queued_turns)

    def play(self, action: int, sampling: SamplingConfig) -> None:
        """Adds a step."""
        self.actions.append(action)
        self.sampling.append(sampling)

    def undo(self, steps: int) -> None:
        """Takes the last steps back."""
        kept = max(0, len(self.actions) - steps)
        del self.actions[kept:], self.sampling[kept:]
        self.queued_turns = [order for order in self.queued_turns if not isinstance(order, Rewind)]
        self.queued_turns.append(Rewind(kept))
        self.hidden_until = kept

    def update(self, result: TurnResult) -> None:
        """Notes where the state stands now, and what it looks like."""
        self.step = result.step
        while self.video_frames and self.video_frames[-1][0] >= result.step:
            self.video_frames.pop()
        self.video_frames.append((result.step, result.picture))

    def copy(self) -> GameHistory:
        """A game that goes on from here as one of its own."""
        return replace(
            self,
            video_frames=self.video_frames.copy(),
            actions=self.actions.copy(),
            sampling=self.sampling.copy(),
            queued_turns=self.queued_turns.copy() or [ShowFrame()],
            hidden_until=len(self.actions),
        )


class Session:
    """One player: the games, the keys held, the clock, and the one frame that waits to be sent."""

    def __init__(self, number: int, world_info: WorldInfo) -> None:
        self.number = number
        self._world_info = world_info
        self._sampling = world_info.sampling
        self._games: dict[int, GameHistory] = {}
        self._current = 0
        self._game_numbers = itertools.count(1)
        self._turn_game: GameHistory | None = None
        self._turn: Turn | None = None
        self._held: list[int] = []
        self._tapped: int | None = None  # pressed since the last turn, maybe released again
        self._idle: int | None = None
        self._paused = False
        self.every = 1  # plays at each tick that this divides
        self._queued_previews: deque[PreviewActions] = deque()
        self._seq = self._seq_of_turn = 0
        self._frame_id = 0
        self._under_way: list[int] = []
        self._latest: bytes | None = None
        self._pending_previews: list[bytes] = []
        self._video: bytes | None = None
        self._blocked_since: float | None = None
        self._notes: dict[str, str] = {}  # by type: the latest of each is sent
        self._ended: str | None = None
        self._changed = asyncio.Event()
        self._maintenance: list[Maintenance] = []
        self.expensive_since = 0.0  # when a turn was last taken that no other player shared

    @property
    def key(self) -> tuple[int, int]:
        """What `GameBatch` knows the current game by."""
        return (self.number, self._current)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """What `GameBatch` knows all of the player's games by."""
        return [(self.number, number) for number in self._games]

    @property
    def game(self) -> GameHistory | None:
        """The game that is played now."""
        return self._games.get(self._current)

    def receive(self, message: ClientMessage) -> None:
        """Takes in one message of the player.

        Raises:
            ProtocolError: it names an action or a game that there isn't.
        """
        match message:
            case KeysMessage():
                self._set_held_keys(message)
            case IdleMessage(action=action):
                self._world_info.check_actions([] if action is None else [action])
                self._idle = action
            case PauseMessage(paused=paused):
                self._paused = paused
            case PaceMessage(every=every):
                self.every = every
            case StepMessage():
                self._queue_step(message)
            case UndoMessage():
                self._queue_undo(message)
            case BranchMessage():
                self._branch()
            case SwitchMessage(game=number):
                self._switch(number)
            case CloseMessage(game=number):
                self._close(number)
            case SamplingMessage():
                self._choose_sampling(message)
            case PreviewMessage(steps=steps):
                self._queue_previews(steps)
            case AckMessage(frame=frame):
                self._acknowledge(frame)
            case StartMessage() | SaveMessage() | VideoMessage():
                raise AssertionError("the clock answers these")

    def parse_later(self, message: StartMessage) -> Callable[[], GameStart]:
        """Returns the function that reads a start for `open`, for another thread."""
        return partial(parse_start, message, self._world_info, self._sampling)

    def start_game(self, game_start: GameStart) -> None:
        """Begins the game that is played now anew."""
        begin = game_start.begin
        video_frames = deque[tuple[int, Picture]](
            maxlen=math.ceil(VIDEO_SECONDS * self._world_info.fps) + 1
        )
        game = GameHistory(begin, video_frames, game_start.actions, game_start.sampling, [begin])
        self._games[self._current] = game
        self._seq, self._paused = game_start.seq, False
        self._held, self._tapped = [], None
        index = begin.prompt if isinstance(begin.prompt, int) else None
        self.notify({"type": "started", "prompt": index, "seed": begin.seed})

    def take_maintenance(self) -> list[Maintenance]:
        """Returns what `GameBatch` is to do before the next round."""
        maintenance, self._maintenance = self._maintenance, []
        return maintenance

    def wants_turn(self, now: float) -> bool:
        """Says whether the player has something to draw at the next tick."""
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
        """Says whether the next turn is one that the clock gives."""
        game = self.game
        return (
            game is not None
            and not game.queued_turns
            and game.steps_behind <= 0
            and self._is_running()
        )

    def extra_maskgit_steps(self) -> int:
        """Passes that the next turn takes beside those that all players share."""
        game = self.game
        return (
            0
            if game is None
            else extra_maskgit_steps(self._next_turn(game), self._world_info.sampling)
        )

    def take_turn(self) -> Turn:
        """Returns what to play now; a key that was tapped between two ticks counts for one."""
        game = self.game
        assert game is not None
        turn = self._next_turn(game)
        self._turn_game, self._turn = game, turn
        if game.queued_turns:
            game.queued_turns.pop(0)
        elif isinstance(turn, PreviewActions):
            self._queued_previews.popleft()
            return turn
        elif game.steps_behind <= 0:
            assert isinstance(turn, PlayAction)
            self._tapped = None
            game.play(turn.action, self._sampling)
        self._queued_previews.clear()
        self._pending_previews = []
        if game.steps_behind <= 1:
            self._seq_of_turn = self._seq
        return turn

    def show(self, result: TurnResult, now: float) -> None:
        """Offers what was drawn; a frame that still waits is replaced: nothing queues."""
        game = self._turn_game
        assert game is not None
        if isinstance(self._turn, PreviewActions):
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
            self._frame_id, self._seq_of_turn, result.step, result.generation_ms, result.picture
        )
        self._changed.set()

    def video_frames(self) -> list[Picture]:
        """The pictures of the game's last minute."""
        return [] if self.game is None else [picture for _, picture in self.game.video_frames]

    def send_video(self, video: tuple[Any, bytes]) -> None:
        """Offers a film."""
        self._video = pack(0, 0, 0, 0, video)
        self._changed.set()

    def notify(self, note: dict[str, Any], text: str | None = None) -> None:
        """Offers a note; one of the same type that was not sent yet is replaced.

        Args:
            note: has a `type`.
            text: the note as JSON, where it is long and another thread has written it.
        """
        self._notes[note["type"]] = text or json.dumps(note)
        self._changed.set()

    def end(self, message: str) -> None:
        """Ends the session; the player is told why."""
        self._ended = message
        self._changed.set()

    async def next_message(self) -> str | bytes:
        """Waits for the next thing to send, see `ready`."""
        while True:
            self._changed.clear()
            if (message := self.ready()) is not None:
                return message
            await self._changed.wait()

    def ready(self) -> str | bytes | None:
        """Returns what is to be sent now: a note, the latest frame if there is room, or a film.

        Raises:
            SessionClosed: the session was ended.
        """
        if self._notes:
            return self._notes.pop(next(iter(self._notes)))
        if self._ended is not None:
            raise SessionClosed(self._ended)
        if self._latest is not None and len(self._under_way) < MAX_UNACKNOWLEDGED:
            packet, self._latest = self._latest, None
            self._under_way.append(self._frame_id)
            return packet
        if self._pending_previews:
            return self._pending_previews.pop(0)
        packet, self._video = self._video, None
        return packet

    def _next_turn(self, game: GameHistory) -> Turn:
        if game.queued_turns:
            return game.queued_turns[0]
        if game.steps_behind > 0:
            return PlayAction(game.actions[game.step], game.sampling[game.step])
        if self._is_running():
            action = self._action()
            assert action is not None
            return PlayAction(action, self._sampling)
        return self._queued_previews[0]

    def _set_held_keys(self, message: KeysMessage) -> None:
        self._world_info.check_actions(message.held)
        pressed = [action for action in message.held if action not in self._held]
        self._tapped = pressed[-1] if pressed else self._tapped
        self._held, self._seq = message.held, message.seq

    def _queue_step(self, message: StepMessage) -> None:
        self._world_info.check_actions([message.action])
        game = self.game
        if game is not None and game.steps_behind < MAX_QUEUED:
            game.play(message.action, self._sampling)
            self._seq = message.seq

    def _queue_previews(self, steps: int) -> None:
        every = tuple(range(self._world_info.num_actions))
        self._pending_previews = []
        self._queued_previews = deque(
            PreviewActions(
                every[i : i + PREVIEW_BATCH], step == 0, step == steps - 1, self._sampling
            )
            for i in range(0, len(every), PREVIEW_BATCH)
            for step in range(steps)
        )

    def _queue_undo(self, message: UndoMessage) -> None:
        if self.game is not None and self.game.actions:
            self.game.undo(message.steps)
            self._seq, self._tapped = message.seq, None

    def _branch(self) -> None:
        if self.game is None or len(self._games) >= MAX_GAMES:
            return
        number = next(self._game_numbers)
        if self.game.has_state:
            self._maintenance.append(CopyGame(self.key, (self.number, number)))
        self._games[number] = self.game.copy()
        self._current = number
        self._notify_games()

    def _switch(self, number: int) -> None:
        if number not in self._games:
            raise ProtocolError(f"game: there is no game {number}")
        self._current, self._tapped = number, None
        game = self._games[number]
        game.hidden_until = len(game.actions)
        game.queued_turns = game.queued_turns or [ShowFrame()]
        self._notify_games()

    def _close(self, number: int) -> None:
        if number in self._games and number != self._current:
            del self._games[number]
            self._maintenance.append(DropGame((self.number, number)))
        self._notify_games()

    def _notify_games(self) -> None:
        steps = {number: len(game.actions) for number, game in self._games.items()}
        games = [{"game": number, "step": step} for number, step in steps.items()]
        self.notify({"type": "games", "current": self._current, "games": games, "most": MAX_GAMES})

    def _choose_sampling(self, message: SamplingMessage) -> None:
        chosen = {"steps": message.steps, "temperature": message.temperature}
        given = {name: value for name, value in chosen.items() if value is not None}
        self._sampling = replace(self._world_info.sampling, **given)

    def _acknowledge(self, frame: int) -> None:
        self._under_way = [sent for sent in self._under_way if sent > frame]
        self._blocked_since = None
        self._changed.set()

    def _is_running(self) -> bool:
        return not self._paused and self._action() is not None

    def _action(self) -> int | None:
        if self._tapped is not None:
            return self._tapped
        return self._held[-1] if self._held else self._idle

    def _packed_previews(self, actions: tuple[int, ...], result: TurnResult) -> list[bytes]:
        place = (self._frame_id, self._seq_of_turn, result.step, result.generation_ms)
        return [
            pack(*place, picture, preview_action=action + 1)
            for action, picture in zip(actions, result.previews, strict=True)
        ]
