"""Gated MLP, down(act(gate(x)) · up(x)), with its backward by hand: the activation is computed once and kept."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from worker.training.products import Kept, Products

aten = torch.ops.aten


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_tanh_backward(grad: Tensor, x: Tensor) -> Tensor:
    result: Tensor = aten.gelu_backward(grad, x, approximate="tanh")
    return result


def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    result: Tensor = aten.silu_backward(grad, x)
    return result


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (F.silu, _silu_backward),
    "gelu_pytorch_tanh": (_gelu_tanh, _gelu_tanh_backward),
}
"""By the config's name: the activation, and its input gradient from (output gradient, input)."""


class _GatedMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, inner: Products, outer: Products, split: int, *parameters: Tensor
    ) -> Tensor:
        act, _ = ACTIVATIONS[activation]
        (gate, up), kept_inner = inner.forward(x, parameters[:split])
        active = act(gate)
        (output,), kept_outer = outer.forward(active * up, parameters[split:])
        ctx.activation, ctx.inner, ctx.outer = activation, inner, outer
        tensors = kept_inner.tensors()
        ctx.num_inner = len(tensors)
        # The product active · up is made again in backward: one pass, against a third more memory.
        ctx.save_for_backward(gate, up, active, *tensors, *kept_outer.tensors()[1:])
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, active, *tensors = ctx.saved_tensors
        kept_inner = Kept.of(tuple(tensors[: ctx.num_inner]))
        kept_outer = Kept.of((active * up, *tensors[ctx.num_inner :]))
        grad_hidden, grad_outer = ctx.outer.backward([grad], kept_outer, wants_input=True)
        assert grad_hidden is not None
        del kept_outer
        _, act_backward = ACTIVATIONS[ctx.activation]
        grad_up = grad_hidden * active
        grad_gate = act_backward(grad_hidden.mul_(up), gate)
        grad_x, grad_inner = ctx.inner.backward([grad_gate, grad_up], kept_inner, wants_input=ctx.needs_input_grad[0])
        return grad_x, None, None, None, None, *grad_inner, *grad_outer


def gated_mlp(x: Tensor, activation: str, inner: Products, outer: Products) -> Tensor:
    """x [tokens, dim] → [tokens, dim]; `inner` holds gate and up, `outer` down."""
    own = inner.parameters()
    output: Tensor = _GatedMlp.apply(x, activation, inner, outer, len(own), *own, *outer.parameters())  # type: ignore[no-untyped-call]
    return output
