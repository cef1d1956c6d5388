"""NF4 layers against the dense matrices they stand for."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import nn
from torch.nn import functional as F  # noqa: N812

from worker.training.quantization import NF4Linear, quantize_linears


def make_layer(double_quant: bool, dtype: torch.dtype) -> tuple[nn.Linear, NF4Linear]:
    torch.manual_seed(0)
    dense = nn.Linear(128, 192).to(dtype)
    weight, bias = dense.weight.detach(), dense.bias.detach()
    return dense, NF4Linear.of(weight, bias, double_quant=double_quant, dtype=dtype)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_is_what_bitsandbytes_says(double_quant: bool, dtype: torch.dtype) -> None:
    dense, layer = make_layer(double_quant, dtype)
    packed, state = quantize_4bit(dense.weight.detach(), quant_type="nf4", compress_statistics=double_quant)
    assert layer.dense().equal(dequantize_4bit(packed, state))
    assert layer.weight.numel() == dense.weight.numel() // 2
    assert (layer.dense() - dense.weight).norm() / dense.weight.norm() < 0.12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_input_gradient_survive_evaluation(dtype: torch.dtype) -> None:
    """bitsandbytes' own layer repacks its weights in an eval-mode forward and then returns no gradient."""
    _, layer = make_layer(True, dtype)
    reference = layer.dense().clone()
    x = torch.randn(2, 7, 128, dtype=dtype)

    def check() -> None:
        mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
        result, expected = layer(mine), F.linear(plain, reference, layer.bias)
        assert result.equal(expected)
        result.square().sum().backward()
        expected.square().sum().backward()
        assert mine.grad is not None
        assert plain.grad is not None
        torch.testing.assert_close(mine.grad, plain.grad)

    check()
    layer.eval()
    with torch.no_grad():
        layer(torch.randn(1, 128, dtype=dtype))
    layer.train()
    assert layer.dense().equal(reference)
    check()


def test_all_linears_but_the_head_are_quantized() -> None:
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), "head": nn.Linear(64, 100)})
    layers = quantize_linears(
        model, keep=model["head"], double_quant=True, dtype=torch.float32, device=torch.device("cpu")
    )
    assert layers.keys() == {"body.0", "body.1"}
    assert all(isinstance(layer, NF4Linear) for layer in model["body"])
    assert type(model["head"]) is nn.Linear
