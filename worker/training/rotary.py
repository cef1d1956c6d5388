"""Queries and keys made ready for attention in one pass: normalized (where the family does) and rotated (RoPE, arXiv
2104.09864), in fp32, into the layout that attention reads. The backward is by hand."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.training.norm import at_least_fp32, normalized, normalized_backward


@dataclass(frozen=True)
class Heads:
    """How one of query and key is laid out: `groups` heads for each of `kv_heads`, `dim` wide."""

    kv_heads: int
    groups: int
    dim: int
    norm: Tensor | None
    """fp32 weight [dim] of the norm over each head, if there is one."""
    eps: float = 0.0


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> Tensor:
        tokens = x.shape[0]
        values = at_least_fp32(x.view(tokens, heads.kv_heads, heads.groups, heads.dim))
        inverse = None
        if heads.norm is not None:
            values, inverse = normalized(values, heads.norm, heads.eps)
        result = x.new_empty(heads.kv_heads, tokens, heads.groups, heads.dim)
        _rotate(values, cos, sin, result.permute(1, 0, 2, 3), backward=False)
        ctx.heads = heads
        ctx.save_for_backward(x if heads.norm is not None else None, cos, sin, inverse)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, inverse = ctx.saved_tensors
        heads: Heads = ctx.heads
        values = at_least_fp32(grad.permute(1, 0, 2, 3))
        if heads.norm is None:
            result = grad.new_empty(values.shape)
            _rotate(values, cos, sin, result, backward=True)
        else:
            turned = torch.empty_like(values, memory_format=torch.contiguous_format)
            _rotate(values, cos, sin, turned, backward=True)
            result = normalized_backward(turned, at_least_fp32(x.view(values.shape)), heads.norm, inverse).to(
                grad.dtype
            )
        return result.view(values.shape[0], -1), None, None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, into: Tensor, *, backward: bool) -> None:
    """Turn the pairs (x[i], x[i + dim/2]) by the angles of their token; backward turns the other way. x is
    [tokens, kv heads, groups, dim], cos and sin fp32 [tokens, 1, 1, dim/2]."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    sign = 1.0 if backward else -1.0
    into[..., :half] = torch.mul(first, cos).addcmul_(second, sin, value=sign)
    into[..., half:] = torch.mul(second, cos).addcmul_(first, sin, value=-sign)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> Tensor:
    """x [tokens, heads · dim] → [kv heads, tokens, groups, dim]"""
    result: Tensor = _Rotated.apply(x, cos, sin, heads)  # type: ignore[no-untyped-call]
    return result
