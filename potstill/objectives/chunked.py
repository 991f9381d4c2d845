"""Losses of logits that never exist all at once: rows in chunks, gradients in closed form.

A kernel gets a chunk of student logits in full precision and returns the loss of each row and, when asked, its
gradient with respect to the logits. Nothing of the size [N, V] is kept; the largest tensors are [chunk, V].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from potstill.objectives.inputs import Head, Inputs

# Logits of a chunk, 96 MiB in fp32: of fewer rows the head's products are slower.
ENTRIES = 24 << 20
# On a GPU a product of few rows only waits for the weights (inferred: not measured).
GPU_ENTRIES = 64 << 20
# Logits that a kernel has at a time: with 2 MiB what it makes on the way stays in the cache.
PIECE = 1 << 19


# A loss of logits: (logits_CV, rows, gradient) -> losses [C] of these rows, and d loss / d logits [C, V] if `gradient`.
# It may overwrite the logits.
Kernel: TypeAlias = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]


def losses(x: Inputs, kernel: Kernel, *, chunk: int = 0) -> Tensor:
    """The kernel's loss of each counted position, [N], differentiable in the hidden states and the head.

    A plain `nn.Linear` head takes the closed form. Any other head (adapters on it, soft-capping, scaling) is called as
    it is, its chunks recomputed backwards.

    Args:
        chunk: rows whose logits exist at the same time; 0 chooses from the vocabulary. It never changes the result.
    """
    if not len(x.targets_N):
        return full(x.hidden_ND.sum(dim=1))
    head: Any = x.head
    is_linear = type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks
    width = head.weight.shape[0] if is_linear else _width(head, x.hidden_ND)
    chunk = chunk or rows_at_once(width, x.hidden_ND)
    if is_linear:
        values: Tensor = _Linear.apply(
            x.hidden_ND, head.weight, head.bias, kernel, x.weights_N, chunk
        )  # type: ignore[no-untyped-call]
        return values
    pieces = []
    for start in range(0, len(x.targets_N), chunk):
        rows = slice(start, start + chunk)
        pieces.append(
            checkpoint(_through, x.head, x.hidden_ND[rows], kernel, rows, use_reentrant=False)
        )
    return torch.cat(pieces)  # [N]


def rows_at_once(width: int, like: Tensor) -> int:
    """How many rows of a vocabulary make a chunk on this device."""
    return max(1, (GPU_ENTRIES if like.is_cuda else ENTRIES) // width)


def pieced(kernel: Kernel) -> Kernel:
    """The kernel over few rows at a time on a CPU, its gradient in the place of the logits."""

    def whole(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        if logits.is_cuda:
            return kernel(logits, rows, gradient)
        values = logits.new_empty(len(logits))  # [C]
        piece_rows = max(1, PIECE // logits.shape[1])
        for start in range(0, len(logits), piece_rows):
            stop = min(start + piece_rows, len(logits))
            piece = slice(rows.start + start, rows.start + stop)
            values[start:stop], slope = kernel(logits[start:stop], piece, gradient)
            if slope is not None:
                logits[start:stop] = slope  # [C, V]: the kernel needs these logits no more
        return values, logits if gradient else None

    return whole


def full(values: Tensor) -> Tensor:
    """In fp32, or in float64 where it came so."""
    return values if values.dtype == torch.float64 else values.float()


def teacher_logits(head: Head, hidden: Tensor) -> Tensor:
    """A chunk of the teacher's logits in full precision, without a graph."""
    with torch.no_grad():
        return full(head(hidden))


def _through(head: Head, hidden: Tensor, kernel: Kernel, rows: slice) -> Tensor:
    values: Tensor = _Rows.apply(full(head(hidden)), kernel, rows)  # type: ignore[no-untyped-call]
    return values


class _Rows(torch.autograd.Function):  # type: ignore[misc]
    """A kernel over logits that somebody else made."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, kernel: Kernel, rows: slice) -> Tensor:
        values, ctx.gradient = kernel(logits.clone(), rows, logits.requires_grad)
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient * grads[0][:, None], None, None


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    """A kernel over a linear head, the head's product included.

    With the weights of the reducer known, gradients are made in the forward pass and only scaled backwards. Where they
    are not, or the loss is reduced in another way, the chunks are computed once more.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        hidden, weight, bias, kernel, weights, chunk = arguments
        ctx.kernel, ctx.weights, ctx.chunk = kernel, weights, chunk
        device = hidden.device.type
        ctx.cast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.save_for_backward(hidden, weight, bias)
        needs_gradients = weights is not None and any(ctx.needs_input_grad[:3])
        row_weights = weights if needs_gradients else None
        values, gradients = _run(ctx, hidden, weight, bias, row_weights)
        ctx.gradients = gradients if needs_gradients else None
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        hidden, weight, bias = ctx.saved_tensors
        scale = _proportion(grad, ctx.weights) if ctx.gradients else None
        if scale is None:
            device, dtype, enabled = ctx.cast
            with torch.autocast(device, dtype, enabled=enabled):  # computed once more as it was
                ctx.gradients = _run(ctx, hidden, weight, bias, grad)[1]
            scale = 1.0
        scaled: list[Tensor | None] = []
        for gradient, parameter in zip(ctx.gradients, (hidden, weight, bias)):
            if gradient is not None:
                gradient = gradient.mul_(scale).to(parameter.dtype)
            scaled.append(gradient)
        ctx.gradients = None
        return (*scaled, None, None, None)


def _run(
    ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor | None
) -> tuple[Tensor, list[Tensor | None]]:
    """Values of all rows; with the gradient of each row's loss also those of hidden states, weight and bias.

    Shapes: hidden [N, D], weight [V, D], bias [V], grad [N]; C rows of a chunk.
    """
    like = full(hidden)
    values = like.new_empty(len(hidden))  # [N]
    gradients: list[Tensor | None] = [None, None, None]
    for number, tensor in enumerate((hidden, weight, bias)):
        if grad is not None and ctx.needs_input_grad[number] and tensor is not None:
            gradients[number] = torch.zeros_like(tensor, dtype=like.dtype)
    of_hidden, of_weight, of_bias = gradients
    device = hidden.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    for start in range(0, len(hidden), ctx.chunk):
        rows = slice(start, start + ctx.chunk)
        # No name for the logits here: the kernel can let go of them.
        values[rows], gradient = ctx.kernel(
            full(nn.functional.linear(hidden[rows], weight, bias)), rows, grad is not None
        )
        if grad is None:
            continue
        gradient.mul_(grad[rows, None])  # [C, V], of the logits
        if of_hidden is not None:
            of_hidden[rows] = gradient.to(low) @ weight.to(low)  # [C, D]
        if of_weight is not None and low == like.dtype:
            of_weight.addmm_(gradient.T, hidden[rows])  # [V, D]
        elif of_weight is not None:
            # Products in bfloat16 as everywhere under autocast, their sum in full precision.
            of_weight += gradient.to(low).T @ hidden[rows].to(low)
        if of_bias is not None:
            of_bias += gradient.sum(0)  # [V]
        gradient = None  # before the next chunk's logits are made
    return values, gradients


def _proportion(grad: Tensor, weights: Tensor) -> Tensor | None:
    """c where grad = c * weights, else None."""
    weights = weights.to(grad.dtype)
    square = (weights * weights).sum()
    if not bool(square > 0):
        return None
    scale = (grad * weights).sum() / square
    close = (grad - scale * weights).abs().max() <= 1e-6 * grad.abs().max()
    return scale if bool(close) else None


def _width(head: Head, hidden_ND: Tensor) -> int:
    """Vocabulary size V; one row is enough to learn it."""
    with torch.no_grad():
        return int(head(hidden_ND[:1]).shape[-1])
