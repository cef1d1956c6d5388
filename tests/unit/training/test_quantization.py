"""Compares NF4 layers with the dense matrices that they replace."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.unit.training.conftest import make_spec
from worker.training.data.packing import Example, MicroBatch, pack_micro_batch
from worker.training.model.loading import Model, load_config, load_model, paths_of
from worker.training.model.memory_plan import Plan
from worker.training.model.parity import check_parity
from worker.training.ops.nf4 import NF4Linear, quantize_linears


def make_layer(double_quant: bool, dtype: torch.dtype) -> tuple[nn.Linear, NF4Linear]:
    torch.manual_seed(0)
    dense = nn.Linear(128, 192).to(dtype)
    weight, bias = dense.weight.detach(), dense.bias.detach()
    return dense, NF4Linear.of(weight, bias, double_quant=double_quant, dtype=dtype)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_equals_bitsandbytes(double_quant: bool, dtype: torch.dtype) -> None:
    dense, layer = make_layer(double_quant, dtype)
    packed, state = quantize_4bit(dense.weight.detach(), quant_type="nf4", compress_statistics=double_quant)
    assert layer.dense().equal(dequantize_4bit(packed, state))
    assert layer.weight.numel() == dense.weight.numel() // 2
    assert (layer.dense() - dense.weight).norm() / dense.weight.norm() < 0.12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_input_gradient_survive_evaluation(dtype: torch.dtype) -> None:
    """Check a fault of bitsandbytes' layer: it repacks its weights in an eval-mode forward and then returns no
    gradient."""
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


def two_documents() -> MicroBatch:
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, 512, (length,), generator=draw, dtype=torch.int32) for length in (21, 30)]
    return pack_micro_batch([Example(line, row, torch.arange(len(row)) > 4) for line, row in enumerate(ids)])


def gradients(model: Model) -> dict[str, torch.Tensor]:
    losses, _ = model.losses(two_documents())
    losses.sum().backward()
    found = {}
    for name, parameter in model.trainable.items():
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_models_weights_and_gradients_survive_parity_evaluation_and_generation(
    family: str, dtype: str, fast: bool, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = make_spec("qlora")
    model = load_model(tiny(family), load_config(tiny(family)), spec, Plan("cpu", dtype, False, 64))
    layers = [module for module in model.causal.modules() if isinstance(module, NF4Linear)]
    before = [layer.dense().clone() for layer in layers]
    with torch.no_grad():
        for name, parameter in model.trainable.items():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    paths = paths_of("qlora") if fast else frozenset()
    model.use_paths(paths)
    expected = gradients(model)

    check_parity(model, spec, tmp_path)
    model.causal.eval()
    with torch.no_grad():
        model.losses(two_documents(), with_hits=True)
        model.use_paths(())
        model.causal.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False, pad_token_id=0)
    model.causal.train()
    model.use_paths(paths)

    assert all(layer.dense().equal(weight) for layer, weight in zip(layers, before, strict=True))
    found = gradients(model)
    assert all(found[name].equal(expected[name]) for name in expected)
    assert all(gradient.any() for gradient in found.values())
