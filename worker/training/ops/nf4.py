"""Implements NF4: frozen linear layers with 4 bits a weight (QLoRA, arXiv 2305.14314), on bitsandbytes' kernels.

The packed bytes and the quantization constants are buffers of NF4Linear. `bitsandbytes.nn.Linear4bit` is never used: on
CPUs with AVX512-BF16 one forward in eval mode repacks its weights permanently, and from then on it returns no input
gradient.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Packed:
    """Holds a matrix in NF4: two weights a byte, and the constants that scale blocks of them. With double quantization
    the constants are quantized too, and the nested constants scale them."""

    weight: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int
    nested_absmax: Tensor | None = None
    nested_code: Tensor | None = None
    nested_block_size: int | None = None
    offset: Tensor | None = None

    @classmethod
    def of(cls, weight: Tensor, *, double_quant: bool) -> "Packed":
        """Quantize `weight` [out, in] on its device."""
        packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=double_quant)
        if not state.nested:
            return cls(packed, state.absmax, state.code, state.blocksize)
        nested = state.state2
        return cls(
            packed,
            state.absmax,
            state.code,
            state.blocksize,
            nested.absmax,
            nested.code,
            nested.blocksize,
            state.offset,
        )


class NF4Linear(nn.Linear):
    """Holds a frozen linear layer [out, in] of a quantized matrix. Its products run in `dtype`."""

    absmax: Tensor
    code: Tensor
    nested_absmax: Tensor | None
    nested_code: Tensor | None
    offset: Tensor | None

    def __init__(self, packed: Packed, shape: torch.Size, bias: Tensor | None, *, dtype: torch.dtype):
        nn.Module.__init__(self)
        self.out_features, self.in_features = shape
        self.dtype = dtype
        self.register_buffer("weight", packed.weight)
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        self.register_buffer("absmax", packed.absmax)
        self.register_buffer("code", packed.code)
        self.register_buffer("nested_absmax", packed.nested_absmax)
        self.register_buffer("nested_code", packed.nested_code)
        self.register_buffer("offset", packed.offset)
        self._block_size, self._nested_block_size = packed.block_size, packed.nested_block_size

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, *, double_quant: bool, dtype: torch.dtype) -> "NF4Linear":
        return cls(Packed.of(weight, double_quant=double_quant), weight.shape, bias, dtype=dtype)

    @property
    def packed(self) -> Packed:
        return Packed(
            self.weight,
            self.absmax,
            self.code,
            self._block_size,
            self.nested_absmax,
            self.nested_code,
            self._nested_block_size,
            self.offset,
        )

    def dense(self) -> Tensor:
        """Return the dequantized weight, [out_features, in_features]."""
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
    """Computes input · Wᵀ + bias. The weight is dequantized once in forward and once in backward, and never kept."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(input, layer.dense(), layer.bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense(), None


def dense_weight(base: nn.Linear) -> Tensor:
    """Return the frozen weight, [out, in]."""
    if isinstance(base, NF4Linear):
        return base.dense()
    weight: Tensor = base.weight
    return weight.T if isinstance(base, Conv1D) else weight  # GPT-2 stores [in, out]


def quantize_linears(
    model: nn.Module,
    *,
    keep: nn.Module | None,
    double_quant: bool,
    dtype: torch.dtype,
    device: torch.device,
    stored: Mapping[str, Packed] | None = None,
    watch: Callable[[], None] = lambda: None,
    skip: Collection[str] = (),
) -> dict[str, NF4Linear]:
    """Quantize each linear layer but `keep` (the head) and those named in `skip` on `device`, one by one, so that at
    most one dense layer is in memory in addition to the file's pages. A matrix that is `stored` by its layer's name is
    not read at all. `watch` is called before each layer and may raise."""
    found = [
        (parent, name, f"{path}.{name}".lstrip("."), cast(nn.Linear, child))
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if type(child) in (nn.Linear, Conv1D) and child is not keep and f"{path}.{name}".lstrip(".") not in skip
    ]
    layers: dict[str, NF4Linear] = {}
    for parent, name, path, child in found:
        watch()
        # GPT-2 stores [in, out]
        weight = child.weight.detach().T if isinstance(child, Conv1D) else child.weight.detach()
        bias = None if child.bias is None else child.bias.detach().to(device)
        packed = stored[path] if stored else Packed.of(weight.to(device), double_quant=double_quant)
        layers[path] = NF4Linear(packed, weight.shape, bias, dtype=dtype)
        setattr(parent, name, layers[path])
        child.weight = nn.Parameter(torch.empty(0), requires_grad=False)
    return layers
