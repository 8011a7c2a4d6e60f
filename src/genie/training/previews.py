"""Images and scalars of what a model has learned so far, for the logs."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from genie.data.store import ClipStore
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.pixels import psnr, squared_error
from genie.models.quantizers.base import perplexity
from genie.training.callbacks import PreviewImages
from genie.training.joint import JointModel
from genie.training.read_back import ReadBackModel
from genie.world.genie import Genie

CLIPS = 4
GAP = 2


def held_out_clips(store: ClipStore, frames: int, clips: int = CLIPS) -> Tensor:
    """Returns the same clips u8 (B,T,H,W,3) every time, from videos that are not trained on.

    Where no other video is long enough, they come from the training split: see `preview_split`.
    """
    return spread_clips(store, frames, clips, preview_split(store, frames))


def spread_clips(store: ClipStore, frames: int, clips: int, split: str) -> Tensor:
    """Returns the same clips u8 (B,T,H,W,3) every time, from all over a split."""
    starts = store.window_starts(frames, split)
    positions = np.linspace(0, len(starts) - 1, min(clips, len(starts))).round().astype(np.int64)
    return torch.from_numpy(store.windows(starts[positions], frames))


def preview_split(store: ClipStore, frames: int) -> str:
    """Returns `val`, or `train` where no held-out video has so many frames."""
    lengths = [e.length for e in store.episodes_in_split("val")]
    return "val" if max(lengths, default=0) >= frames else "train"


def preview_tokenizer(tokenizer: nn.Module, clips: Tensor, split: str = "val") -> PreviewImages:
    """Real clips above their reconstructions, and how often each code is used."""
    clips = clips.to(_device(tokenizer))
    tokens = tokenizer.encode(clips)  # type: ignore[operator]
    decoded = tokenizer.decode(tokens)  # type: ignore[operator]
    counts = torch.bincount(tokens.flatten(), minlength=tokenizer.vocabulary)  # type: ignore[arg-type]
    rows = [row for real, made in zip(clips, decoded, strict=True) for row in (real, made)]
    images = {"reconstructions": image_grid(rows), "codebook_use": bar_chart(counts)}
    figures = {
        f"{split}/psnr": psnr_of(decoded, clips),
        f"{split}/perplexity": float(perplexity(counts)),
        f"{split}/codebook_usage": float((counts > 0).sum()),
    }
    return images, figures


def preview_actions(actions: nn.Module, clips: Tensor, split: str = "val") -> PreviewImages:
    """For each clip its last frame but one, and what each action makes of it.

    Nothing before the codes have been placed.
    """
    assert isinstance(actions, LatentActionModel)
    if not actions.quantizer.initialized:
        return {}, {}
    clips = clips.to(_device(actions))
    inferred = actions.infer(clips)
    counts = torch.bincount(inferred.flatten(), minlength=actions.num_actions)
    real = actions.downsampled(clips)
    rows = [list(clip) for clip in real[:, -2:-1]]
    for action in range(actions.num_actions):
        chosen = inferred.clone()
        chosen[:, -1] = action
        for row, frame in zip(rows, actions.reconstruct(clips, chosen)[:, -1], strict=True):
            row.append(frame)
    shifted = (inferred + 1) % actions.num_actions
    right = psnr_of(actions.reconstruct(clips, inferred), real[:, 1:])
    wrong = psnr_of(actions.reconstruct(clips, shifted), real[:, 1:])
    figures = {
        f"{split}/psnr": right,
        f"{split}/psnr_gain_over_wrong_actions": right - wrong,
        f"{split}/perplexity": float(perplexity(counts)),
    }
    images = {"each_action_from_one_frame": image_grid([torch.stack(row) for row in rows])}
    return {**images, "action_use": bar_chart(counts)}, figures


def preview_dynamics(
    world: Genie, dynamics: nn.Module, clips: Tensor, split: str = "val"
) -> PreviewImages:
    """Real clips above rollouts with their actions, and each action held from one frame."""
    preview = replace_dynamics(world, dynamics)
    clips = clips.to(preview.device)
    inferred = preview.actions.infer(clips)
    rolled = preview.generate(clips[:, :1], inferred)
    wrong = preview.generate(clips[:, :1], (inferred + 1) % world.config.num_actions)
    actions = torch.arange(world.config.num_actions, device=clips.device)
    held = actions[:, None].expand(-1, clips.shape[1] - 1)
    prompts = clips[:1, :1].expand(len(actions), -1, -1, -1, -1)
    rows = [row for real, made in zip(clips, rolled, strict=True) for row in (real, made)]
    images = {
        "rollouts": image_grid(rows),
        "each_action_held": image_grid(list(preview.generate(prompts, held))),
    }
    right = psnr_of(rolled[:, 1:], clips[:, 1:])
    figures = {
        f"{split}/rollout_psnr": right,
        f"{split}/rollout_psnr_gain_over_wrong_actions": right
        - psnr_of(wrong[:, 1:], clips[:, 1:]),
    }
    return images, figures


def replace_dynamics(world: Genie, dynamics: nn.Module) -> Genie:
    """Returns the world with other dynamics, or those and other actions; all else is shared."""
    parts = {"dynamics": dynamics}
    if isinstance(dynamics, JointModel | ReadBackModel):
        parts = dict(dynamics.named_children())
    preview = copy.copy(world)
    preview._modules = {**world._modules, **parts}
    return preview.to(_device(dynamics))


def image_grid(rows: list[Tensor]) -> np.ndarray:
    """Puts clips u8 (T,H,W,3) of equal shape below each other, with small gaps: u8 (H',W',3)."""
    stacked = torch.stack(rows).cpu().numpy()
    padded = np.pad(stacked, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    r, t, h, w, c = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(r * h, t * w, c)


def bar_chart(counts: Tensor, height: int = 64, width: int = 256) -> np.ndarray:
    """Plots counts as bars, most frequent first: u8 (height, about width, 3)."""
    ordered = np.sort(counts.cpu().numpy())[::-1].astype(np.float64)
    wide = np.repeat(ordered, max(1, width // len(ordered)))
    filled = np.arange(height)[::-1, None] < np.ceil(height * wide / max(1.0, ordered[0]))
    blue, white = np.array([[40, 90, 160], [255, 255, 255]], np.uint8)
    return np.where(filled[..., None], blue, white)


def psnr_of(made: Tensor, real: Tensor) -> float:
    """Returns the PSNR in dB of the mean error of frames u8."""
    return float(psnr(squared_error(real, made).mean()))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
