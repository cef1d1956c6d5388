"""Computes a gated MLP, down(act(gate(x)) · up(x)), with its backward by hand. Only gate(x) and up(x) are kept. The
rest is elementwise and recomputed in backward; so is x, where it is the output of a norm.
"""

from typing import Any

import torch
from torch import Tensor

from worker.training.ops.activation import ACTIVATIONS
from worker.training.ops.lora_linear import Products, SavedInputs
from worker.training.ops.recompute import Maker, keep, kept_by


class _GatedMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        activation: str,
        inner: Products,
        outer: Products,
        maker: Maker | None,
        split: int,
        *parameters: Tensor,
    ) -> Tensor:
        (gate, up), kept_inner = inner.forward(x, parameters[:split])
        hidden = ACTIVATIONS[activation].of(gate).mul_(up)
        (output,), kept_outer = outer.forward(hidden, parameters[split:])
        ctx.activation, ctx.inner, ctx.outer = activation, inner, outer
        tensors = kept_inner.tensors(maker)
        ctx.num_inner = len(tensors)
        keep(ctx, [gate, up, *tensors, *kept_outer.tensors()[1:]], maker)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gate, up, *tensors), (maker,) = kept_by(ctx)
        active, derivative = ACTIVATIONS[ctx.activation].with_derivative(gate)
        kept_outer = SavedInputs.of((active * up, *tensors[ctx.num_inner :]))
        grad_hidden, grad_outer = ctx.outer.backward([grad], kept_outer, wants_input=True)
        assert grad_hidden is not None
        del kept_outer
        grad_up = active.mul_(grad_hidden)
        grad_gate = grad_hidden.mul_(up).mul_(derivative)
        kept_inner = SavedInputs.of(tensors[: ctx.num_inner], maker)
        grad_x, grad_inner = ctx.inner.backward([grad_gate, grad_up], kept_inner, wants_input=ctx.needs_input_grad[0])
        return grad_x, None, None, None, None, None, *grad_inner, *grad_outer


def gated_mlp(x: Tensor, activation: str, inner: Products, outer: Products, maker: Maker | None = None) -> Tensor:
    """Compute x [tokens, dim] → [tokens, dim]. `inner` holds gate and up, `outer` holds down. With a `maker` of x, x is
    not kept."""
    own, last = inner.parameters(), outer.parameters()
    output: Tensor = _GatedMlp.apply(x, activation, inner, outer, maker, len(own), *own, *last)  # type: ignore[no-untyped-call]
    return output
