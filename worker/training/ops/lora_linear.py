"""Computes products of one input with several frozen layers and their adapters, with the backward by hand.

Layers that read the same input (query, key and value; gate and up) share the low-rank input product, and sum their
input gradients in place. A quantized weight is dequantized once in forward and once in backward, and never kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from worker.training.ops.nf4 import dense_weight
from worker.training.ops.recompute import Maker, keep, kept_by, recompute
from worker.training.ops.rms_norm import at_least_fp32


@dataclass(frozen=True)
class SavedInputs:
    """Holds what backward needs: the rows [tokens, in], their low-rank products [ranks, tokens], and the adapters in
    the rows' type: A of all layers stacked [ranks, in], and each layer's scaled B, transposed [rank, out].

    Ranks come first, because a product with sixteen rows is twice as fast on a CPU as one with sixteen columns."""

    rows: Tensor
    low: Tensor | None
    a: Tensor | None
    b: tuple[Tensor, ...]

    def tensors(self, maker: Maker | None = None) -> list[Tensor | None]:
        """Return the tensors to save. The rows are left out if they have a maker."""
        return [None if maker else self.rows, self.low, self.a, *self.b]

    @classmethod
    def of(cls, tensors: Sequence[Any], maker: Maker | None = None) -> "SavedInputs":
        rows, low, a, *b = tensors
        if maker is not None:
            rows = recompute(maker)
        return cls(rows.view(-1, rows.shape[-1]), low, a, tuple(b))


class Products:
    """Multiplies frozen linear layers with one input, and adds PEFT's adapters where a layer has one."""

    def __init__(self, layers: list[nn.Linear | LoraLinear]):
        self.bases: list[nn.Linear] = [
            layer.get_base_layer() if isinstance(layer, LoraLinear) else layer for layer in layers
        ]
        self._adapted = [layer if isinstance(layer, LoraLinear) else None for layer in layers]
        self.scalings = [layer.scaling["default"] for layer in layers if isinstance(layer, LoraLinear)]
        self.ranks = [layer.r["default"] for layer in layers if isinstance(layer, LoraLinear)]
        self._spans: list[tuple[int, int] | None] = []
        start = 0
        for layer in self._adapted:
            self._spans.append(None if layer is None else (start, start + layer.r["default"]))
            start += 0 if layer is None else layer.r["default"]

    def parameters(self) -> list[Tensor]:
        """Return A and B of each adapted layer: A, B, A, B, …; none while PEFT's adapters are disabled."""
        found: list[Tensor] = []
        for layer in self._adapted:
            if layer is not None and not layer.disable_adapters:
                found += [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        return found

    def forward(self, rows: Tensor, parameters: tuple[Tensor, ...]) -> tuple[list[Tensor], SavedInputs]:
        """Compute rows [tokens, in] → one [tokens, out] a layer."""
        if not parameters:
            outputs = [nn.functional.linear(rows, dense_weight(base), base.bias) for base in self.bases]
            return outputs, SavedInputs(rows, None, None, ())
        stacked_a = torch.cat(parameters[::2]).to(rows.dtype)
        scaled_b = tuple(
            (b.T * scaling).to(rows.dtype) for b, scaling in zip(parameters[1::2], self.scalings, strict=True)
        )
        low = stacked_a @ rows.T
        outputs = []
        places = iter(scaled_b)
        for base, span in zip(self.bases, self._spans, strict=True):
            output = nn.functional.linear(rows, dense_weight(base), base.bias)
            outputs.append(output if span is None else output.addmm_(low[span[0] : span[1]].T, next(places)))
        return outputs, SavedInputs(rows, low, stacked_a, scaled_b)

    def backward(
        self, grads: list[Tensor], kept: SavedInputs, *, wants_input: bool
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradients of the rows and of `parameters()`."""
        grad_low = torch.empty_like(kept.low) if kept.low is not None else None
        grad_rows: Tensor | None = None
        grad_b: list[Tensor] = []
        for base, span, grad in zip(self.bases, self._spans, grads, strict=True):
            if span is not None and kept.low is not None:  # otherwise the adapters are disabled
                assert grad_low is not None
                number = len(grad_b)
                torch.mm(kept.b[number], grad.T, out=grad_low[span[0] : span[1]])
                grad_b.append(at_least_fp32(kept.low[span[0] : span[1]] @ grad).T.mul(self.scalings[number]))
            if wants_input:
                weight = dense_weight(base)
                grad_rows = grad @ weight if grad_rows is None else grad_rows.addmm_(grad, weight)
        if grad_low is None or kept.a is None:
            return grad_rows, []
        if grad_rows is not None:
            grad_rows.addmm_(grad_low.T, kept.a)
        grad_a = torch.split(at_least_fp32(grad_low @ kept.rows), self.ranks)
        return grad_rows, [grad for pair in zip(grad_a, grad_b, strict=True) for grad in pair]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, products: Products, maker: Maker | None, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, kept = products.forward(rows, parameters)
        ctx.products = products
        keep(ctx, kept.tensors(maker), maker)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors, (maker,) = kept_by(ctx)
        kept = SavedInputs.of(tensors, maker)
        grad_rows, grad_parameters = ctx.products.backward(list(grads), kept, wants_input=ctx.needs_input_grad[0])
        return grad_rows, None, None, *grad_parameters


def products_of(rows: Tensor, products: Products, maker: Maker | None = None) -> tuple[Tensor, ...]:
    """Compute rows [tokens, in] → one [tokens, out] a layer. With a `maker` of the rows, they are not kept."""
    outputs: tuple[Tensor, ...] = _Product.apply(rows, products, maker, *products.parameters())  # type: ignore[no-untyped-call]
    return outputs
