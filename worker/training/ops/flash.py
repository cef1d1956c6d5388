"""Calls FlashAttention-2 (arXiv 2307.08691) over the documents of a packed row, with torch's operators.

torch's `varlen_attn` calls the same operators, but does not support groups of heads in torch 2.11, which this module
does. The backward here is also deterministic: torch's kernel is so only in strict deterministic mode, and adds in any
order where that mode merely warns. Queries and keys that could be recomputed are kept: recomputing takes 30 launches a
layer, and saves a tenth of the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor


class DocumentLengths(list[int]):
    """Holds the tokens of each document of a packed row, and the documents' bounds on the device, int32 [documents +
    1]. The bounds are copied once, since the host would wait for a copy in each layer."""

    bounds: Tensor | None = None

    @classmethod
    def on(cls, device: torch.device, lengths: list[int]) -> Self:
        found = cls(lengths)
        if device.type == "cuda":
            found.bounds = bounds_of(lengths, device)
        return found


def bounds_of(lengths: list[int], device: torch.device) -> Tensor:
    known = lengths.bounds if isinstance(lengths, DocumentLengths) else None
    if known is not None:
        return known
    return to_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without a wait: to a GPU from pinned memory."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def attend_flash(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float, window: int | None
) -> Tensor:
    """Compute attention as `attention.attend` does, in bfloat16 or float16, for heads of at most 256 and a multiple of
    8."""
    bounds = bounds_of(lengths, query.device)
    output: Tensor = _Flash.apply(query, key, value, bounds, max(lengths), scale, window)  # type: ignore[no-untyped-call]
    return output


class _Flash(torch.autograd.Function):
    """Computes query [key-value heads, tokens, groups, dim], key and value [key-value heads, tokens, dim] → [tokens,
    key-value heads · groups, dim]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bounds: Tensor,
        longest: int,
        scale: float,
        window: int | None,
    ) -> Tensor:
        q, k, v = _by_token(query), _by_token(key), _by_token(value)
        output, log_sum, seed, unused, _ = torch.ops.aten._flash_attention_forward(
            q, k, v, bounds, bounds, longest, longest, 0.0, window is None, False, **_options(scale, window)
        )
        ctx.shape, ctx.longest, ctx.scale, ctx.window = query.shape, longest, scale, window
        ctx.save_for_backward(q, k, v, bounds, output, log_sum, seed, unused)
        result: Tensor = output
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bounds, output, log_sum, seed, unused = ctx.saved_tensors
        longest, window = ctx.longest, ctx.window
        with strictly_deterministic():
            grad_query, grad_key, grad_value = torch.ops.aten._flash_attention_backward(
                grad.contiguous(), q, k, v, output, log_sum, bounds, bounds, longest, longest, 0.0, window is None,
                seed, unused, **_options(ctx.scale, window),
            )  # fmt: skip
        kv_heads, tokens, groups, dim = ctx.shape
        grad_query = grad_query.view(tokens, kv_heads, groups, dim).transpose(0, 1)
        return grad_query, grad_key.transpose(0, 1), grad_value.transpose(0, 1), None, None, None, None


def _options(scale: float, window: int | None) -> dict[str, Any]:
    """Return the operators' options. Their window counts the tokens before a token, without the token itself."""
    return {"scale": scale, "window_size_left": -1 if window is None else window - 1, "window_size_right": 0}


def _by_token(tensor: Tensor) -> Tensor:
    """Transpose [key-value heads, tokens, …, dim] → [tokens, heads, dim], contiguous."""
    return tensor.transpose(0, 1).reshape(tensor.shape[1], -1, tensor.shape[-1]).contiguous()


@contextmanager
def strictly_deterministic() -> Iterator[None]:
    """Enable deterministic kernels. An operation without one raises an error."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
