"""AdamW and Muon with weight decay where it belongs, and the moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genie.presets.schedule import StageConfig
from genie.training.sharding import own_part

BETA1 = 0.9
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class MuonAdamW(torch.optim.Optimizer):
    """Muon on some matrices and AdamW on the rest, as one optimizer with one state.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix. Its step is scaled to
    the size of an AdamW step (Moonlight, arXiv 2502.16982), so both can share a learning rate.

    Args:
        muon: parameter groups of 2-D parameters.
        adamw: parameter groups of all the others.
        lr: learning rate of both.
        betas: of AdamW.
    """

    def __init__(
        self,
        muon: list[dict[str, Any]],
        adamw: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
    ) -> None:
        self.parts = (
            torch.optim.Muon(muon, lr=lr, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adamw, lr=lr, betas=betas),
        )
        self.sizes = [len(part.param_groups) for part in self.parts]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        first = self.sizes[0]
        self.parts[0].param_groups = self.param_groups[:first]
        self.parts[1].param_groups = self.param_groups[first:]
        for part in self.parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Updates all parameters once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._share()


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sorts the trainable parameters by how they are to be trained.

    Returns:
        "hidden": matrices of linear layers inside a stack of blocks (a `ModuleList`), for Muon.
        "matrices": the other weights of linear and convolution layers, which decay as well.
        "rest": norms, biases, embeddings, positions and codebooks, which never decay.
    """
    groups: dict[str, list[nn.Parameter]] = {"hidden": [], "matrices": [], "rest": []}
    stacks = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    seen: set[int] = set()
    for name, module in model.named_modules():
        stacked = any(name.startswith(stack + ".") for stack in stacks)
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            matrix = leaf == "weight" and isinstance(module, MATRICES)
            hidden = matrix and stacked and parameter.ndim == 2
            groups["hidden" if hidden else "matrices" if matrix else "rest"].append(parameter)
    return groups


def build_optimizer(model: nn.Module, stage: StageConfig) -> torch.optim.Optimizer:
    """Returns the optimizer of a stage over the trainable parameters of a model.

    Each group has a `scale`, its learning rate as a multiple of the stage's.
    """
    groups = parameter_groups(model)
    decay = stage.weight_decay
    muon = stage.optimizer == "muon" and bool(groups["hidden"])
    scale = stage.muon_lr_scale if muon else 1.0
    hidden = {"params": groups["hidden"], "weight_decay": decay, "scale": scale}
    matrices = {"params": groups["matrices"], "weight_decay": decay, "scale": 1.0}
    rest = {"params": groups["rest"], "weight_decay": 0.0, "scale": 1.0}
    rate, betas = stage.learning_rate, (BETA1, stage.beta2)
    optimizer = (
        MuonAdamW([hidden], [matrices, rest], rate, betas)
        if muon
        else torch.optim.AdamW([hidden, matrices, rest], lr=rate, betas=betas)
    )
    set_learning_rate(optimizer, rate)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every group, times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class AveragedModel:
    """A copy of a model whose weights follow it as a moving average.

    Buffers, such as codebooks that are averages already, are copied. In the first steps the average
    is over fewer of them, so that it forgets the initial weights.

    Args:
        model: the model to follow.
        decay: share of the average kept at a step.
        copied: whether `model` is a copy already.

    Attributes:
        model: the averaged copy, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float, copied: bool = False) -> None:
        self.decay = decay
        self.model = (model if copied else copy.deepcopy(model)).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after step number `step`, counted from 1."""
        decay = min(self.decay, step / (10 + step))
        pairs = [
            (own_part(average), own_part(weight))
            for average, weight in zip(self.model.parameters(), model.parameters(), strict=True)
        ]
        floats: list[tuple[Tensor, Tensor]] = [(a, b) for a, b in pairs if a.is_floating_point()]
        averages, weights = [a for a, _ in floats], [b for _, b in floats]
        torch._foreach_lerp_(averages, weights, 1 - decay)  # type: ignore[attr-defined]
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
