"""NF4: frozen linear layers held in 4 bits a weight (QLoRA, arXiv 2305.14314), on bitsandbytes' kernels.

The packed bytes and the quantization constants are buffers of our own. `bitsandbytes.nn.Linear4bit` is never used: on
CPUs with AVX512-BF16 one forward in eval mode repacks its weights for good, and from then on it returns no input
gradient.
"""

from typing import Any, cast

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class NF4Linear(nn.Linear):
    """A frozen linear layer, quantized from `weight` [out, in] where that lies; its products run in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, double_quant: bool, dtype: torch.dtype):
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.dtype = dtype
        packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=double_quant)
        self.register_buffer("weight", packed)
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        self._block_size = state.blocksize
        self.register_buffer("absmax", state.absmax)
        self.register_buffer("code", state.code)
        self._nested_block_size = state.state2.blocksize if state.nested else None
        self.register_buffer("nested_absmax", state.state2.absmax if state.nested else None)
        self.register_buffer("nested_code", state.state2.code if state.nested else None)
        self.register_buffer("offset", state.offset)

    def dense(self) -> Tensor:
        """The dequantized weight, [out_features, in_features]."""
        nested = None
        if self._nested_block_size is not None:
            nested = QuantState(
                absmax=self.nested_absmax, code=self.nested_code, blocksize=self._nested_block_size, dtype=torch.float32
            )
        state = QuantState(
            absmax=self.absmax,
            shape=torch.Size((self.out_features, self.in_features)),
            code=self.code,
            blocksize=self._block_size,
            quant_type="nf4",
            dtype=self.dtype,
            offset=self.offset,
            state2=nested,
        )
        return cast(Tensor, dequantize_4bit(self.weight, state))

    def forward(self, input: Tensor) -> Tensor:
        return cast(Tensor, _FrozenProduct.apply(input, self))  # type: ignore[no-untyped-call]


class _FrozenProduct(torch.autograd.Function):
    """input · Wᵀ + bias, dequantizing once in forward and once in backward, and keeping neither."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(input, layer.dense(), layer.bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense(), None


def dense_weight(layer: nn.Linear) -> Tensor:
    return layer.dense() if isinstance(layer, NF4Linear) else layer.weight


def quantize_linears(
    model: nn.Module, *, keep: nn.Module | None, double_quant: bool, dtype: torch.dtype, device: torch.device
) -> int:
    """Quantize each linear layer but `keep` (the head) on `device`, one by one, so that one dense layer at most is in
    memory beside the file's own pages. Says how many."""
    found = [
        (parent, name, cast(nn.Linear, child))
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) in (nn.Linear, Conv1D) and child is not keep
    ]
    for parent, name, child in found:
        weight = child.weight.detach().to(device)
        bias = None if child.bias is None else child.bias.detach().to(device)
        if isinstance(child, Conv1D):  # GPT-2 holds [in, out]
            weight = weight.T
        setattr(parent, name, NF4Linear(weight, bias, double_quant=double_quant, dtype=dtype))
        child.weight = nn.Parameter(torch.empty(0), requires_grad=False)
    return len(found)
