"""Implements DoRA (arXiv 2402.09353): W' = m · (W + s·B·A) / ‖W + s·B·A‖, row by row, over frozen layers.

Parameters and files are PEFT's: m is where PEFT keeps it, one fp32 number an output. PEFT's forward would read NF4's
packed bytes as weights, and makes fp32 copies of W. Dropout is applied only to the input of the low-rank part, as in
LoRA; PEFT applies it to W's input too.
"""

from typing import Any, cast

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.nn import functional

from worker.training.ops.nf4 import dense_weight

NORM_ROWS = 512
"""Limits the rows of W that are in fp32 at a time."""


class DoraLinear(LoraLinear):  # type: ignore[misc]
    """Implements PEFT's DoRA layer over a frozen linear layer. If not `by_hand`, autograd computes the gradients."""

    by_hand = True

    def resolve_lora_variant(self, **kwargs: Any) -> "Magnitude":
        return Magnitude()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.get_base_layer()
        if self.disable_adapters:
            return cast(Tensor, base(x))
        (name,) = self.active_adapters
        dropped = self.lora_dropout[name](x)
        parameters = (
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.lora_magnitude_vector[name].weight,
        )
        if not self.by_hand:
            return _plain_product(x, dropped, *parameters, self.scaling[name], base)
        result = _DoraProduct.apply(x, dropped, *parameters, self.scaling[name], base)  # type: ignore[no-untyped-call]
        return cast(Tensor, result)


class Magnitude(DoraLinearVariant):  # type: ignore[misc]
    @staticmethod
    def init(module: LoraLinear, adapter_name: str, **kwargs: Any) -> None:
        """Set m = ‖W + s·B·A‖, so that the layer starts as LoRA would."""
        if not module.lora_magnitude_vector:
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_magnitude_vector")
        layer = DoraLinearLayer(fan_in_fan_out=False)
        a, b = module.lora_A[adapter_name].weight, module.lora_B[adapter_name].weight
        with torch.no_grad():
            norm = row_norms(dense_weight(module.get_base_layer()), a, b, module.scaling[adapter_name])
        layer.weight = nn.Parameter(norm)
        module.lora_magnitude_vector[adapter_name] = layer


def row_norms(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return ‖weight + scaling · B · A‖ of each row: fp32 [out]. weight is [out, in], A [rank, in], B [out, rank]."""
    a = a.float()
    parts = zip(torch.split(weight, NORM_ROWS), torch.split(b.float(), NORM_ROWS), strict=True)
    norms = [torch.linalg.vector_norm(torch.addmm(w.float(), low, a, alpha=scaling), dim=1) for w, low in parts]
    return torch.cat(norms)


def _plain_product(
    x: Tensor, dropped: Tensor, a: Tensor, b: Tensor, m: Tensor, scaling: float, base: nn.Linear
) -> Tensor:
    """Compute the same as `_DoraProduct`, with the adapter in its dtype."""
    weight = dense_weight(base).detach()
    norm = row_norms(weight, a, b, scaling).detach()
    low = functional.linear(functional.linear(dropped.to(a.dtype), a), b)
    result = (functional.linear(x, weight) + scaling * low) * (m / norm)
    return (result if base.bias is None else result + base.bias).to(x.dtype)


class _DoraProduct(torch.autograd.Function):
    """Computes (x · Wᵀ + scaling · dropped · Aᵀ · Bᵀ) · m / ‖W + scaling · B · A‖ + bias, W frozen. `dropped` is x, or
    x after dropout. The norm is a constant to the gradient (section 4.3 of the paper)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor, a: Tensor, b: Tensor, m: Tensor, scaling: float, base: nn.Linear
    ) -> Tensor:
        weight = dense_weight(base)
        norm = row_norms(weight, a, b, scaling)
        rows, dropped_rows = x.reshape(-1, x.shape[-1]), dropped.reshape(-1, x.shape[-1])
        low_a, low_b = a.to(x.dtype), (b * scaling).to(x.dtype)
        low = dropped_rows @ low_a.T
        turned = (rows @ weight.T).addmm_(low, low_b.T)
        factor = (m / norm).to(x.dtype)
        ctx.save_for_backward(dropped_rows, low, low_a, low_b, turned, factor, norm)
        ctx.base, ctx.scaling = base, scaling
        result = turned * factor if base.bias is None else torch.addcmul(base.bias, turned, factor)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, low_a, low_b, turned, factor, norm = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_m = (flat * turned).sum(0, dtype=torch.float32) / norm
        flat = flat * factor
        grad_low = flat @ low_b
        grad_a = (grad_low.T @ rows).float()
        grad_b = (flat.T @ low).float().mul_(ctx.scaling)
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = (flat @ dense_weight(ctx.base)).view(*grad.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            grad_dropped = (grad_low @ low_a).view(*grad.shape[:-1], -1)
        return grad_x, grad_dropped, grad_a, grad_b, grad_m, None, None
