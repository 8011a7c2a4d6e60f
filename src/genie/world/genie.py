"""A world that can be played: the three models as one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from genie.core.config import (
    Dtype,
    UserError,
    check_finite,
    from_dict,
    from_record,
    require,
    to_dict,
)
from genie.core.numbers import seeds_of, whole_number
from genie.models.backbone import TokenizerBackbone
from genie.models.dynamics import Dynamics, current_name
from genie.models.dynamics_state import StepContext
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.compile import compile_method, require_compiler
from genie.world import checkpoint, inputs, maskgit, rng
from genie.world.config import GenieConfig
from genie.world.hub import copy_companions, upload, world_folder
from genie.world.maskgit import SamplingConfig
from genie.world.prompts import load_prompts, prompt_clips, save_prompts
from genie.world.reencoding import reencoded
from genie.world.reference import generate_reference
from genie.world.rounding import matrices
from genie.world.state import PredictedFrame, State
from genie.world.weight_files import MOST_BYTES

if TYPE_CHECKING:
    import gymnasium


Numbers = int | np.integer | Sequence[Any] | np.ndarray | Tensor
"""Integers as callers give them: one, or one for each player."""


class Genie(nn.Module):
    """A world: `start` a game from an image and `step` it with one of `num_actions` actions.

    Args:
        config: a `GenieConfig`, or the same as nested dicts.

    Attributes:
        folder: that it was loaded from; None for a new world.

    Raises:
        UserError: the configuration is impossible; the message names the field.
    """

    folder: Path | None = None

    def __init__(self, config: GenieConfig | Mapping[str, Any] | None = None):
        super().__init__()
        if not isinstance(config, GenieConfig):
            config = from_dict(GenieConfig, config or {})
        check_finite(config)
        self.config = config
        size = (config.height, config.width)
        self.tokenizer: TokenizerBackbone = config.tokenizer.build(size)
        self.actions: LatentActionModel = config.actions.build_for(
            self.tokenizer, size, config.num_actions
        )
        self.dynamics = Dynamics(
            config.dynamics,
            self.tokenizer.grid,
            self.tokenizer.vocabulary,
            config.num_actions,
            self.tokenizer.coarse_tokens,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = torch.float32,
        **hub: Any,
    ) -> Genie:
        """Loads a world for play.

        Args:
            name: a folder, a world that comes with the package ("coinrun-tiny"), or the id of a
                repository on the Hugging Face Hub.
            device: where to put it; CUDA, MPS or the CPU when left out, whichever exists first.
            dtype: of the weights, float32 or bfloat16. bfloat16 takes half the memory, and half
                the time on machines that multiply it faster. But rounding then decides some tokens:
                the frames of a seed depend on the batch size and on compiling.
            hub: passed to `huggingface_hub.snapshot_download`, for example `revision`.

        Raises:
            UserError: there is no world, or one with a pickle, another version or damaged weights;
                or the device or dtype does not exist here.
        """
        dtype, device = _dtype(dtype), inputs.device_of(device)
        folder = world_folder(name, **hub)
        config = from_record(GenieConfig, checkpoint.read_config(folder))
        shapes = checkpoint.rename_dynamics(checkpoint.read_shapes(folder), current_name)
        checkpoint.check_layers(config.layers, shapes, folder)  # before so many are described
        checkpoint.check_shapes(cls._shapes(config), shapes, folder)
        world = cls(config)
        world.load_state_dict(checkpoint.read_weights(folder))
        world.folder = folder
        return world.to(device, dtype).eval()

    @classmethod
    def _shapes(cls, config: GenieConfig) -> dict[str, checkpoint.Shape]:
        with torch.device("meta"):
            return {name: tuple(w.shape) for name, w in cls(config).state_dict().items()}

    def save_pretrained(
        self,
        folder: str | Path,
        rounded: bool = False,
        max_shard_size: int | str = MOST_BYTES,
    ) -> None:
        """Writes `config.json` and `model.safetensors` into a folder.

        Args:
            folder: to write; made if it does not exist.
            rounded: whether matrices have 8 bits in the file (`genie.world.rounding`). Loaded again
                it is another world, if a similar one (`genie compress`).
            max_shard_size: bytes of a file of weights, as a number or like "5GB". Larger weights
                are written as `model.safetensors.index.json` and parts, the Hub's own format.

        Raises:
            UserError: the folder cannot be written; what was there is kept.
        """
        names = matrices(self) if rounded else ()
        config, weights = to_dict(self.config), self.state_dict()
        checkpoint.write_world(folder, config, weights, names, max_shard_size)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        prompts: Any = None,
        private: bool = False,
        token: str | None = None,
        max_shard_size: int | str = MOST_BYTES,
    ) -> str:
        """Uploads the world to the Hugging Face Hub and returns its address.

        What lies beside it in the folder that it was loaded from is sent too: prompts, names and
        groups of its actions, and its mapper.

        Args:
            repo_id: "user/name".
            prompts: images to start games from, as `genie.world.prompts.load_prompts` reads them.
                They take the place of those in the folder.
            private: whether a new repository is private.
            token: of the Hub; that of your login when left out.
            max_shard_size: as of `save_pretrained`.
        """
        size = (self.config.height, self.config.width)
        images = [] if prompts is None else load_prompts(prompts, *size)

        def write(folder: Path) -> None:
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            if self.folder is not None:
                copy_companions(self.folder, folder)
            if prompts is not None:
                save_prompts(images, folder)

        return upload(write, repo_id, private, token)

    def compile(self, *args: Any, **options: Any) -> None:
        """Makes steps faster with `torch.compile`, in place; results are equal up to rounding.

        The first step with each batch size then takes about half a minute on a CPU. PyTorch keeps
        the compiled code in a temporary folder (`TORCHINDUCTOR_CACHE_DIR`) for the next time. A
        deep copy of a compiled world would play with the weights of the original.

        Args:
            args, options: of `torch.compile`. On a GPU, `mode="reduce-overhead"` saves launch time
                by CUDA graphs. Their results are copied, so states keep their values.

        Raises:
            UserError: this machine has no C++ compiler, which compiling for a CPU needs.
        """
        if self.device.type == "cpu":
            require_compiler()
        self.dynamics.compile(*args, **options)
        compile_method(self, "_sample_tokens", *args, dynamic_argument=0, **options)
        self.tokenizer.compile(*args, **options)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.dynamics.embedding.position.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.dynamics.embedding.position.dtype

    @torch.no_grad()
    def start(self, prompt: Any = None, seed: Numbers = 0) -> State:
        """Starts a game.

        Args:
            prompt: one frame (H, W, 3), several (T, H, W, 3) or those of a batch of players
                (B, T, H, W, 3), uint8. A PIL image or the path of an image file does as well.
                Images of another size are cropped and resized with a warning. When left out, the
                first prompt in the folder of the world.
            seed: determines all random numbers; one from 0 to 2**63 - 1, or one per player.
                With one seed, player i of a batch gets `seed + i`.

        Returns:
            The state after the prompt.

        Raises:
            UserError: the prompt is not an image, or there is not one valid seed per player.
        """
        frames, batched = self._own_prompt() if prompt is None else self._prompt(prompt)
        seeds = self._seeds(seed, len(frames))
        tokens = self.tokenizer.encode(frames)
        one = frames.shape[1] == 1
        actions = tokens.new_empty((len(frames), 0)) if one else self.actions.infer(frames)
        dynamics = self.dynamics.prefill(tokens, actions)
        decoder = self.tokenizer.prefill(tokens)
        return State(frames[:, -1], dynamics, decoder, seeds, batched)

    @torch.no_grad()
    def reconstruct(self, prompt: Any) -> Tensor:
        """Encodes a prompt to tokens and decodes it, which shows what the world sees.

        Args:
            prompt: as `start` takes it.

        Returns:
            Its last frame, (H, W, 3) or (B, H, W, 3) uint8.
        """
        frames, batched = self._prompt(prompt)
        seen = self.tokenizer.decode(self.tokenizer.encode(frames))[:, -1]
        return seen if batched else seen[0]

    def step(
        self,
        state: State,
        action: Numbers,
        sampling: SamplingConfig | None = None,
    ) -> tuple[Tensor, State]:
        """Plays one action.

        Args:
            state: of the game; it stays usable.
            action: 0 to A - 1; for a batch one for all players or one per player.
            sampling: how to sample; the world's own settings when left out.

        Returns:
            The next frame, (H, W, 3) or (B, H, W, 3) uint8, and the new state.

        Raises:
            UserError: the world does not have the action.
        """
        state = self.commit(self.predict(state, action, sampling))
        return state.frame, state

    @torch.no_grad()
    def predict(
        self,
        state: State,
        action: Numbers,
        sampling: SamplingConfig | None = None,
    ) -> PredictedFrame:
        """Predicts the next frame without committing it: the first half of `step`.

        The frame can be shown at once. `commit`, the second half, needs no new action and can run
        afterwards. Arguments and errors are those of `step`.

        Returns:
            The predicted frame, with all that `commit` needs.
        """
        actions = self._check_actions(action, state.batch_size)
        played = state.dynamics.cache.keys.dtype
        require(played == self.dtype, f"state: of a world in {played}, this one is in {self.dtype}")
        sampling = sampling or self.config.sampling
        context = self.dynamics.step_context(actions, state.dynamics)
        tokens = maskgit.sample(
            self._logits_fn(context, sampling.guidance),
            self.dynamics.grid,
            self.dynamics.mask_token,
            sampling,
            rng.make_keys(state.seed, state.time),
            self._sample_tokens,
            first=self.tokenizer.coarse_tokens,
        )
        frames, decoder = self.tokenizer.decode_step(tokens, state.decoder)
        every = sampling.reencode_every
        tokens = reencoded(self.tokenizer, tokens, frames, state.time, every)
        return PredictedFrame(state, frames, tokens, context, decoder)

    def _logits_fn(
        self, context: StepContext, guidance: float
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The logits at some positions of a frame, guided where `guidance` is above 0."""

        if guidance == 0:
            return lambda tokens, positions: self.dynamics.step_logits(tokens, context, positions)
        inputs.check_guidance(guidance, self.config.dynamics.unconditional_fraction)
        none = torch.full_like(context.state.tokens[:, 0], self.dynamics.num_actions)
        unknown = self.dynamics.step_context(none, context.state)
        both = StepContext.concatenate([context, unknown])

        def with_guidance(tokens: Tensor, positions: Tensor) -> Tensor:
            twice = tokens.repeat(2, 1), positions.repeat(2, 1)
            given, other = self.dynamics.step_logits(twice[0], both, twice[1]).chunk(2)
            return maskgit.guided(given, other, guidance)

        return with_guidance

    def _sample_tokens(
        self, logits: Tensor, keys: Tensor, temperature: float | Tensor, top_k: int
    ) -> Tensor:
        return maskgit.sample_tokens_by_key(logits, keys, temperature, top_k)

    @torch.no_grad()
    def commit(self, predicted: PredictedFrame) -> State:
        """Returns the state after a predicted frame: the second half of `step`."""
        return replace(
            predicted.state,
            frames=predicted.frames,
            dynamics=self.dynamics.commit(predicted.tokens, predicted.context),
            decoder=predicted.decoder,
        )

    def generate(
        self,
        prompt: Any = None,
        actions: Any = None,
        num_frames: int | None = None,
        *,
        use_cache: bool = True,
        seed: Numbers = 0,
        sampling: SamplingConfig | None = None,
    ) -> UInt8[Tensor, "*b t h w 3"]:
        """Plays a list of actions.

        Args:
            prompt: as in `start`.
            actions: (N,), or (B, N) for a batch; random ones when left out.
            num_frames: number of frames to generate; that of the actions when left out.
            use_cache: False takes the slow twin, which runs the whole game in each MaskGIT step.
            seed: as in `start`.
            sampling: as in `step`.

        Returns:
            The unchanged frames of the prompt and one frame per action: (T + N, H, W, 3), with a
            batch dimension in front for a batched prompt.
        """
        frames, batched = self._own_prompt() if prompt is None else self._prompt(prompt)
        seeds = self._seeds(seed, len(frames))
        sequence = self._action_sequence(actions, num_frames, seeds)
        sampling = sampling or self.config.sampling
        inputs.check_guidance(sampling.guidance, self.config.dynamics.unconditional_fraction)
        if use_cache:
            generated = self._generate_cached(frames, sequence, seeds, sampling)
        else:
            models = (self.tokenizer, self.actions, self.dynamics)
            generated = generate_reference(models, frames, sequence, seeds, sampling)
        out = torch.cat([frames, generated], dim=1)
        return out if batched else out[0]

    def play(self, frame: Any, action: Numbers, seed: Numbers = 0) -> UInt8[Tensor, "h w 3"]:
        """Predicts the frame that follows a single frame; `step` remembers earlier frames too.

        Args:
            frame: as a prompt of `start`.
            action: 0 to A - 1.
            seed: as in `start`.
        """
        return self.step(self.start(frame, seed), action)[0]

    def infer_actions(self, frames: Any) -> Int[Tensor, "*b transitions"]:
        """Infers the latent actions that explain the changes in a clip, from its pixels alone.

        They are not a record of the actions played. Two actions can change a frame in the same way,
        and an action can have no effect; then another action may explain the clip as well.

        Args:
            frames: (T, H, W, 3) or (B, T, H, W, 3) uint8, T at least 2.

        Returns:
            One action between each frame and the next: (T - 1,) or (B, T - 1).
        """
        clips, batched = self._prompt(frames)
        require(clips.shape[1] >= 2, "frames: an action lies between two frames, give at least 2")
        actions = self.actions.infer(clips)
        return actions if batched else actions[0]

    def create_environment(self, prompt: Any, **options: Any) -> gymnasium.Env:
        """Makes a Gymnasium environment of this world, that of `gymnasium.make`.

        Args:
            prompt: one or several images that episodes start from.
            options: of `genie.GenieEnv`: `horizon`, `reward_fn`, `termination_fn` and others.
        """
        import gymnasium
        from gymnasium.envs.registration import load_env_creator

        # Through Gymnasium's registry, because environments import this module.
        create: Any = load_env_creator(str(gymnasium.spec("genie/World-v0").entry_point))
        return create(self, prompt, **options)

    def _generate_cached(
        self, frames: Tensor, actions: Tensor, seeds: Tensor, sampling: SamplingConfig
    ) -> Tensor:
        state = self.start(frames, seeds.tolist())
        generated = []
        for t in range(actions.shape[1]):
            frame, state = self.step(state, actions[:, t], sampling)
            generated.append(frame)
        return torch.stack(generated, dim=1)

    def _prompt(self, prompt: Any) -> tuple[UInt8[Tensor, "b t h w 3"], bool]:
        """Returns frames (B, T, H, W, 3) on our device, and whether a batch was given."""
        clips, batched = prompt_clips(prompt, self.config.height, self.config.width)
        return torch.from_numpy(clips).to(self.device), batched

    def _own_prompt(self) -> tuple[UInt8[Tensor, "b t h w 3"], bool]:
        return self._prompt(
            load_prompts(None, self.config.height, self.config.width, self.folder)[0]
        )

    def _check_actions(self, action: Any, players: int) -> Int[Tensor, " b"]:
        actions = torch.from_numpy(inputs.check_actions(action, self.config.num_actions, players))
        return actions.to(self.device, non_blocking=True)

    def _seeds(self, seed: Any, players: int) -> Int[Tensor, " b"]:
        return torch.from_numpy(seeds_of(seed, players)).to(self.device)

    def _action_sequence(self, actions: Any, num_frames: Any, seeds: Tensor) -> Int[Tensor, "b n"]:
        if num_frames is not None:
            num_frames = whole_number(num_frames, "num_frames: expected a whole number")
            require(num_frames >= 1, "num_frames: must be at least 1")
        if actions is None:
            if num_frames is None:
                raise UserError("num_frames: say how many frames, or give actions")
            return rng.integers(rng.make_keys(seeds, 0), num_frames, self.config.num_actions)
        given = inputs.check_action_sequence(actions, self.config.num_actions, len(seeds))
        sequence = torch.from_numpy(given)
        if num_frames is not None and num_frames > sequence.shape[1]:
            raise UserError(f"num_frames: {num_frames} frames need as many actions")
        return sequence[:, :num_frames].to(self.device)


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    name, known = str(dtype).removeprefix("torch."), get_args(Dtype)
    require(name in known, f"dtype: {name}, expected one of {', '.join(known)}")
    return getattr(torch, name)
