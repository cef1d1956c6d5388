"""Implements activations of gated MLPs and their derivatives.

SiLU is x · sigmoid(x). The tanh approximation of GELU (arXiv 1606.08415) is x · sigmoid(√(8/π) · (x + 0.044715 · x³)),
because (1 + tanh u) / 2 = sigmoid(2u). On a CPU, sigmoid is fast and tanh is slow, so that both are computed with
sigmoid. A GPU has kernels that compute each in one pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from worker.training.ops.rms_norm import at_least_fp32
from worker.training.ops.row_blocks import in_pieces

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """Computes x · sigmoid(linear · x + cubic · x³). It holds torch's kernels for it and for its gradient by x, of
    (gradient, x)."""

    linear: float
    cubic: float
    kernel: Callable[[Tensor], Tensor]
    kernel_backward: Callable[[Tensor, Tensor], Tensor]

    def of(self, x: Tensor) -> Tensor:
        """Compute the activation: x [tokens, width] → the same shape and type."""
        if x.device.type != "cpu":
            return self.kernel(x)
        result = torch.empty_like(x)
        for piece, into in in_pieces(x, result):
            wide = at_least_fp32(piece)
            into.copy_(self._gate(wide, wide * wide).mul_(wide))
        return result

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result of `of`, and the derivative there."""
        if x.device.type != "cpu":
            return self.kernel(x), self.kernel_backward(torch.ones_like(x), x)
        result, derivative = torch.empty_like(x), torch.empty_like(x)
        for piece, into, slope in in_pieces(x, result, derivative):
            wide = at_least_fp32(piece)
            square = wide * wide
            gate = self._gate(wide, square)
            into.copy_(wide * gate)
            inner = square.mul_(3 * self.cubic).add_(self.linear).mul_(wide)  # x · (linear · x + cubic · x³)'
            slope.copy_(aten.sigmoid_backward(inner, gate).add_(gate))
        return result, derivative

    def _gate(self, x: Tensor, square: Tensor) -> Tensor:
        return torch.mul(square, self.cubic).add_(self.linear).mul_(x).sigmoid_()


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    result: Tensor = aten.gelu_backward(grad, x, approximate="tanh")
    return result


def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    result: Tensor = aten.silu_backward(grad, x)
    return result


ACTIVATIONS = {
    "silu": Activation(1.0, 0.0, F.silu, _silu_backward),
    "gelu_pytorch_tanh": Activation(math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi), _gelu, _gelu_backward),
}
"""Maps the config's names to activations."""
