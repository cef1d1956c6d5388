"""Prepares queries and keys for attention in one pass: normalizes them (where the family does) and rotates them (RoPE,
arXiv 2104.09864), in fp32, into the layout that attention reads. The backward is by hand.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.training.ops.recompute import Maker, set_maker
from worker.training.ops.rms_norm import at_least_fp32, normalized, normalized_backward, wide_dtype
from worker.training.ops.row_blocks import in_pieces


@dataclass(frozen=True)
class Heads:
    """Describes the layout of a query or key: `groups` heads for each of `kv_heads`, `dim` wide."""

    kv_heads: int
    groups: int
    dim: int
    norm: Tensor | None
    """Is the fp32 weight [dim] of the norm over each head, if there is one."""
    eps: float = 0.0


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> Tensor:
        x = x.view(-1, heads.kv_heads, heads.groups, heads.dim)
        result, inverse = _forward(x, cos, sin, heads)
        ctx.heads = heads
        ctx.save_for_backward(*((cos, sin) if heads.norm is None else (cos, sin, x, inverse)))
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, *normed = ctx.saved_tensors
        heads: Heads = ctx.heads
        grad = grad.transpose(0, 1)
        result = torch.empty_like(grad, memory_format=torch.contiguous_format)
        for pull, into, c, s, *rest in in_pieces(grad, result, cos, sin, *normed):
            if heads.norm is None:
                _rotate(at_least_fp32(pull), c, s, into, backward=True)
                continue
            rows, scale = rest
            turned = torch.empty_like(into, dtype=wide_dtype(into))
            _rotate(at_least_fp32(pull), c, s, turned, backward=True)
            into.copy_(normalized_backward(turned, at_least_fp32(rows), heads.norm, scale))
        return result.view(len(result), -1), None, None, None


def _forward(x: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return the result in x's type, and 1 / rms(x) where there is a norm."""
    result = x.new_empty(heads.kv_heads, len(x), heads.groups, heads.dim)
    inverse = x.new_empty(*x.shape[:-1], 1, dtype=wide_dtype(x))
    for rows, c, s, scale, into in in_pieces(x, cos, sin, inverse, result.transpose(0, 1)):
        values = at_least_fp32(rows)
        if heads.norm is not None:
            values, found = normalized(values, heads.norm, heads.eps)
            scale.copy_(found)
        _rotate(values, c, s, into, backward=False)
    return result, inverse


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, into: Tensor, *, backward: bool) -> None:
    """Rotate the pairs (x[i], x[i + dim/2]) by the angles of their token; backward rotates the other way. x is [tokens,
    kv heads, groups, dim], cos and sin fp32 [tokens, 1, 1, dim/2]."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    sign = 1.0 if backward else -1.0
    into[..., :half] = torch.mul(first, cos).addcmul_(second, sin, value=sign)
    into[..., half:] = torch.mul(second, cos).addcmul_(first, sin, value=-sign)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> Tensor:
    """Rotate x [tokens, heads · dim] → [kv heads, tokens, groups, dim]. If a norm keeps x, the result has a maker."""
    result: Tensor = _Rotated.apply(x, cos, sin, heads)  # type: ignore[no-untyped-call]
    if heads.norm is not None:
        source = x.detach().view(-1, heads.kv_heads, heads.groups, heads.dim)
        set_maker(result, Maker(lambda x, cos, sin: _forward(x, cos, sin, heads)[0], (source, cos, sin)))
    return result
