"""Computes RMSNorm (arXiv 1910.07467) with a frozen weight, with its backward by hand, in fp32 throughout."""

from typing import Any

import torch
from torch import Tensor, nn

from worker.training.ops.recompute import Maker, set_maker
from worker.training.ops.row_blocks import in_pieces


def wide_dtype(x: Tensor) -> torch.dtype:
    """Return fp32, or x's type if that is wider: gradcheck needs fp64."""
    return torch.promote_types(x.dtype, torch.float32)


def at_least_fp32(x: Tensor, *, copy: bool = False) -> Tensor:
    return x.to(wide_dtype(x), copy=copy)


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """Compute fp32 x [..., dim] → [..., 1]."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def normalized(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute fp32 x and weight → fp32 x / rms(x) · weight, and 1 / rms(x)."""
    inverse = inverse_rms(x, eps)
    return torch.mul(x, inverse).mul_(weight), inverse


def normalized_backward(grad: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """Compute the gradient in fp32, overwriting `grad`: with y = x·i·w and g = grad·w, dx = i·g - x · i³·mean(g·x)."""
    grad.mul_(weight)
    pull = torch.mul(grad, x).sum(dim=-1, keepdim=True)
    pull.mul_(inverse.pow(3)).div_(-x.shape[-1])
    return grad.mul_(inverse).addcmul_(x, pull)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, inverse = _forward(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        for pull, rows, scale, into in in_pieces(*map(_rows, (grad, x, inverse, result))):
            into.copy_(normalized_backward(at_least_fp32(pull, copy=True), at_least_fp32(rows), weight, scale))
        return result, None, None


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the result in x's type, and 1 / rms(x)."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    inverse = x.new_empty(*x.shape[:-1], 1, dtype=wide_dtype(x))
    for rows, into, scale in in_pieces(*map(_rows, (x, result, inverse))):
        values, found = normalized(at_least_fp32(rows), weight, eps)
        into.copy_(values)
        scale.copy_(found)
    return result, inverse


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalize x [..., dim] with an fp32 weight [dim] → x's type."""
    result: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    set_maker(result, Maker(lambda source: _forward(source, weight, eps)[0], (x.detach(),)))
    return result


def norm_weight(norm: nn.Module) -> Tensor:
    """Return the factor of the normalized values in fp32. Gemma's norms store it minus one."""
    weight = norm.weight.detach().float()  # type: ignore[operator]
    return weight + 1.0 if type(norm).__name__.startswith("Gemma") else weight


def norm_eps(norm: nn.Module) -> float:
    """Return the norm's epsilon, which has two names among transformers' families."""
    return float(norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)  # type: ignore[arg-type]
