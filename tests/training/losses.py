"""What the losses of the stages are called with; light, for processes that only compile them."""

import torch

LOSSES = {"tokenizer": [0.5, 0.6, 0.7], "actions": [0.85, 0.85, 0.0, 0.0], "dynamics": [0.5, 0.6]}
"""Shares of the budget at which each is called, after codes were placed."""


def inputs_of(name: str, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Two clips of six frames for the model of a stage."""
    if name != "dynamics":
        shape = (2, 6, 16, 16, 3)
        return (torch.randint(0, 256, shape, dtype=torch.uint8, device=device),)
    tokens = torch.randint(0, 32, (2, 6, 4), device=device)
    return tokens, torch.randint(0, 4, (2, 5), device=device)
