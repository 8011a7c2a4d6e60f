"""A training step without memory or arithmetic: its peak of memory and its floating-point work.

The real code runs on torch's "meta" device, where tensors have shapes and no content. There the
models take the branches that they take on a GPU. What a GPU adds is put in: its kernel of attention
and its rules for bfloat16.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, no_type_check
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from genie.models.layers import transformer

Loss = Callable[[], Tensor]

# What torch.autocast computes in the small type and in fp32 on CUDA; of all that it lists, what
# the models use (https://docs.pytorch.org/docs/stable/amp.html).
_SMALL = {
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose2d,
    F.conv_transpose3d,
    F.scaled_dot_product_attention,
    torch.matmul,
    torch.einsum,
    torch.bmm,
    torch.baddbmm,
    torch.addmm,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
}
_FULL = {
    F.layer_norm,
    F.group_norm,
    F.softmax,
    F.log_softmax,
    F.cross_entropy,
    F.nll_loss,
    F.mse_loss,
    F.l1_loss,
    F.normalize,
    F.cosine_similarity,
    torch.softmax,
    torch.log_softmax,
    torch.exp,
    torch.log,
    torch.pow,
    torch.cumsum,
    torch.sum,
    torch.prod,
    Tensor.softmax,
    Tensor.log_softmax,
    Tensor.exp,
    Tensor.log,
    Tensor.pow,
    Tensor.cumsum,
    Tensor.sum,
}


@dataclass(frozen=True)
class StepCost:
    """What a training step takes beside weights, optimizer and averages.

    Attributes:
        peak: most bytes of activations and gradients at any moment.
        flops: floating-point operations of forward and backward pass of all micro-batches.
    """

    peak: int
    flops: int


def simulate_step(
    model: nn.Module, loss: Loss, *, micro_batches: int = 1, bf16: bool = False, shard: int = 1
) -> StepCost:
    """Runs the passes of two steps in a row on the meta device.

    Gradients of a step stay until the forward pass of the next one is over, as in Lightning.

    Args:
        model: on the meta device, in training mode.
        loss: computes the loss of a micro-batch of it.
        micro_batches: of a step, at most two of which are run.
        bf16: compute in mixed precision.
        shard: processes that share the gradients: each keeps only its part once the backward pass
            has left a parameter.
    """
    memory, gradients = MemoryMode(), _ShardedGradients(model, shard)
    gpu, flops = _GpuMode(bf16), FlopCounterMode(display=False)
    with gpu.everywhere():
        with flops:
            loss().backward()
        model.zero_grad(set_to_none=True)
        gc.collect()  # the counter leaves tensors in circles
        with memory, gradients.hooked(memory):
            for _ in range(2):
                for micro_batch in range(min(2, micro_batches)):
                    value = loss()
                    if micro_batch == 0:
                        model.zero_grad(set_to_none=True)
                        gradients.forget(memory)
                    value.backward()
                    del value
    model.zero_grad(set_to_none=True)
    return StepCost(memory.peak, flops.get_total_flops() * micro_batches)


class MemoryMode(TorchDispatchMode):
    """Adds up the bytes of all tensors that operations make, until they are freed.

    Attributes:
        now: bytes at this moment.
        peak: most bytes at any moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    @no_type_check  # checks ask tensors for their shapes, and each question comes through here
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(_storage(leaf)) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        for leaf in tree_leaves(result):
            if _is_tensor(leaf) and id(_storage(leaf)) not in given:
                self._count(_storage(leaf))
        return result

    def add(self, number: int) -> None:
        """Takes in bytes that no operation made."""
        self.now += number
        self.peak = max(self.peak, self.now)

    @no_type_check
    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known[storage] = size = storage.nbytes()
        weakref.finalize(storage, self.add, -size)
        self.add(size)


class _GpuMode(TorchFunctionMode):
    """Attention by the kernel that CUDA has, and the types that its autocast chooses."""

    def __init__(self, bf16: bool) -> None:
        super().__init__()
        self.bf16 = bf16

    @no_type_check
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.bf16 and func in _SMALL:
            args, kwargs = tree_map(self._small, (args, kwargs))
        elif self.bf16 and func in _FULL:
            args, kwargs = tree_map(self._full, (args, kwargs))
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Also inside what is recomputed, and in place of autocast, which has no meta device."""

        @contextmanager
        def autocast(*_: Any, enabled: bool = True, **__: Any) -> Iterator[None]:
            before, self.bf16 = self.bf16, self.bf16 and enabled
            try:
                yield
            finally:
                self.bf16 = before

        recomputing = partial(checkpoint, context_fn=lambda: (nullcontext(), self))
        with (
            self,
            patch.object(torch, "autocast", autocast),
            patch.object(transformer, "checkpoint", recomputing),
        ):
            yield

    @no_type_check
    def _small(self, value: Any) -> Any:
        if not _is_tensor(value) or value.dtype != torch.float32:
            return value
        return value.to(torch.bfloat16)

    @no_type_check
    def _full(self, value: Any) -> Any:
        return value.float() if _is_tensor(value) and value.dtype == torch.bfloat16 else value


@no_type_check
def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    bias = None
    if attn_mask is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        bias = torch.empty(attn_mask.shape, dtype=query.dtype, device="meta").expand(shape)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, bias, query.requires_grad)[0]


class _ShardedGradients:
    """Gradients of which each process keeps its part, as soon as all of one is there."""

    def __init__(self, model: nn.Module, shard: int) -> None:
        self.shard, self.kept = shard, 0
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.whole: set[int] = set()

    @contextmanager
    def hooked(self, memory: MemoryMode) -> Iterator[None]:
        def keep_part(weight: Tensor) -> None:
            weight.grad = None
            if id(weight) not in self.whole:  # a later micro-batch adds to it
                self.whole.add(id(weight))
                part = -(-weight.numel() // self.shard) * weight.element_size()
                self.kept += part
                memory.add(part)

        sharded = self.parameters if self.shard > 1 else []
        handles = [weight.register_post_accumulate_grad_hook(keep_part) for weight in sharded]
        yield
        for handle in handles:
            handle.remove()

    def forget(self, memory: MemoryMode) -> None:
        """Frees all gradients, as before the backward pass of a new step."""
        memory.add(-self.kept)
        self.kept = 0
        self.whole.clear()


@no_type_check
def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


@no_type_check
def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()
