"""Compares each fast path with the module that it replaces, in fp32 with gradients, and with finite differences in
fp64.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, LoraModel, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nRMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from tests.unit.training.conftest import make_spec
from worker.training.data.packing import Example, pack_micro_batch
from worker.training.model import patching
from worker.training.model.loading import Model, load_config, load_model
from worker.training.model.lora import AdaptedLinear
from worker.training.model.memory_plan import Plan
from worker.training.model.parity import _fill_b
from worker.training.model.patching import fast_norm
from worker.training.ops import attention
from worker.training.ops.activation import ACTIVATIONS
from worker.training.ops.attention import attend
from worker.training.ops.gated_mlp import gated_mlp
from worker.training.ops.lora_linear import Products, products_of
from worker.training.ops.rms_norm import norm_eps, norm_weight, rms_norm
from worker.training.ops.rope import Heads, rotated

Tiny = Callable[[str], Path]
TOKENS, DIM = 7, 16


def spread(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def assert_same(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """Compare the values, and the gradients of a weighted sum."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    grads, expected_grads = (torch.autograd.grad((result * pull).sum(), leaves) for result in (found, expected))
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [LlamaRMSNorm(DIM, eps=1e-3), Gemma3RMSNorm(DIM, eps=1e-3)], ids=["llama", "gemma3"])
def test_norm_equals_the_module(norm: nn.Module) -> None:
    torch.manual_seed(0)
    spread(norm)
    x = torch.randn(2, TOKENS, DIM, requires_grad=True)
    assert_same(rms_norm(x, norm_weight(norm), norm_eps(norm)), norm(x), x)


def test_norm_of_bfloat16_is_computed_in_fp32() -> None:
    torch.manual_seed(0)
    norm = spread(LlamaRMSNorm(DIM))
    x = torch.randn(TOKENS, DIM, dtype=torch.bfloat16, requires_grad=True)
    exact = x.detach().float().requires_grad_()
    found, expected = rms_norm(x, norm_weight(norm), norm_eps(norm)), norm(exact)
    assert found.equal(expected.to(torch.bfloat16))
    found.sum().backward()
    expected.sum().backward()
    assert x.grad is not None
    assert exact.grad is not None
    assert x.grad.equal(exact.grad.to(torch.bfloat16))


def angles(tokens: int = TOKENS) -> tuple[Tensor, Tensor]:
    """Return cos and sin [1, tokens, DIM] as transformers passes them to a layer. Positions restart, as in packed
    rows."""
    positions = torch.cat([torch.arange(tokens - 3), torch.arange(3)])[None]
    rotary = LlamaRotaryEmbedding(LlamaConfig(hidden_size=4 * DIM, num_attention_heads=4, rope_theta=100.0))
    found: tuple[Tensor, Tensor] = rotary(torch.zeros(1), positions)
    return found


def halves(part: Tensor) -> Tensor:
    return part[0, :, None, None, : DIM // 2]


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize(("kv_heads", "groups"), [(1, 4), (2, 3), (3, 1)])
def test_rotation_equals_transformers(with_norm: bool, kv_heads: int, groups: int) -> None:
    torch.manual_seed(0)
    norm = spread(Qwen3RMSNorm(DIM, eps=1e-3)) if with_norm else None
    x = torch.randn(TOKENS, kv_heads * groups * DIM, requires_grad=True)
    cos, sin = angles()
    heads = x.view(1, TOKENS, kv_heads * groups, DIM)
    heads = norm(heads) if norm is not None else heads
    expected, _ = apply_rotary_pos_emb(heads.transpose(1, 2), heads.transpose(1, 2), cos, sin)

    weight = None if norm is None else norm_weight(norm)
    found = rotated(x, halves(cos), halves(sin), Heads(kv_heads, groups, DIM, weight, 1e-3))

    assert found.shape == (kv_heads, TOKENS, groups, DIM)
    assert_same(found.transpose(1, 2).reshape(1, kv_heads * groups, TOKENS, DIM), expected, x)


@pytest.mark.parametrize("members", ["gate up", "gate", "up", ""])
def test_products_equal_the_layers_of_which_some_have_adapters_and_some_biases(members: str) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleDict({"gate": nn.Linear(DIM, 9, bias=False), "up": nn.Linear(DIM, 12), "other": nn.Linear(2, 2)})
    adapted = adapt(layers, [*members.split(), "other"])
    x = torch.randn(TOKENS, DIM, requires_grad=True)
    own = [layers["gate"], layers["up"]]
    products = Products(own)  # type: ignore[arg-type]
    assert len(products.parameters()) == 2 * len(members.split())

    found = torch.cat(products_of(x, products), dim=1)

    assert_same(found, torch.cat([plainly(layer, x) for layer in own], dim=1), x, *products.parameters())
    adapted.disable_adapter_layers()
    assert products.parameters() == []
    without = torch.cat([F.linear(x, base.weight, base.bias) for base in products.bases], dim=1)
    assert_same(torch.cat(products_of(x, products), dim=1), without, x)


def adapt(layers: nn.Module, names: list[str]) -> nn.Module:
    """Add PEFT's adapters, with different scales and B ≠ 0, to the named layers in place."""
    layers.requires_grad_(False)
    config = LoraConfig(r=3, lora_alpha=5, target_modules=names)
    config._register_custom_module({nn.Linear: AdaptedLinear})
    adapted = LoraModel(layers, config, "default")
    for name, parameter in layers.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return adapted


def plainly(layer: nn.Module, x: Tensor) -> Tensor:
    """Compute a layer as PEFT does."""
    if isinstance(layer, AdaptedLinear):
        layer.by_hand = False
    result: Tensor = layer(x)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_equals_torchs_own(name: str, dtype: torch.dtype) -> None:
    """Use more pieces than one, and large inputs, for which a sigmoid's exponential would overflow."""
    activation = ACTIVATIONS[name]
    x = torch.cat([torch.linspace(-12, 12, 600_000), torch.tensor([-1e9, -1e4, 0.0, 1e9])]).to(dtype).view(-1, 4)
    wide = x.double().requires_grad_()
    expected = activation.kernel(wide)
    (slope,) = torch.autograd.grad(expected.sum(), wide)

    found, derivative = activation.with_derivative(x)

    close = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 2**-8, "atol": 1e-6}
    torch.testing.assert_close(activation.of(x), found, rtol=0, atol=0)
    torch.testing.assert_close(found.double(), expected, **close)
    torch.testing.assert_close(derivative.double(), slope, **close)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("members", ["gate up down", "gate", "down", ""])
def test_gated_mlp_equals_its_formula(activation: str, members: str) -> None:
    torch.manual_seed(0)
    act = {"silu": F.silu, "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh")}[activation]
    layers = nn.ModuleDict(
        {"gate": nn.Linear(DIM, 20), "up": nn.Linear(DIM, 20), "down": nn.Linear(20, DIM), "other": nn.Linear(2, 2)}
    )
    adapt(layers, [*members.split(), "other"])
    x = torch.randn(TOKENS, DIM, requires_grad=True)
    inner, outer = Products([layers["gate"], layers["up"]]), Products([layers["down"]])  # type: ignore[list-item]

    found = gated_mlp(x, activation, inner, outer)

    expected = plainly(layers["down"], act(plainly(layers["gate"], x)) * plainly(layers["up"], x))
    assert_same(found, expected, x, *inner.parameters(), *outer.parameters())


LENGTHS = [23, 40, 1, 31]
"""Includes lengths above a tiny model's window of 8 tokens."""


def examples() -> list[Example]:
    draw = torch.Generator().manual_seed(0)
    return [
        Example(
            line, torch.randint(3, 512, (length + 1,), generator=draw, dtype=torch.int32), torch.ones(length + 1) > 0
        )
        for line, length in enumerate(LENGTHS)
    ]


def gradients(model: Model, *, packed: bool) -> dict[str, Tensor]:
    rows = examples()
    losses = [
        model.losses(batch)[0]
        for batch in ([pack_micro_batch(rows)] if packed else [pack_micro_batch([row]) for row in rows])
    ]
    torch.cat(losses).sum().backward()
    found = {}
    for name, parameter in model.trainable.items():
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found | {"losses": torch.cat(losses).detach()}


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]], ids=["everywhere", "here and there"])
@pytest.mark.parametrize("folded_max_tokens", [1024, 25], ids=["folded", "sdpa for long ones"])
@pytest.mark.parametrize("path", ["norm", "mlp", "attention"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_a_model_by_each_path_equals_the_plain_one(
    family: str,
    path: str,
    folded_max_tokens: int,
    targets: str | list[str],
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Use the scale, window, soft cap, query and key norms and heads of the family's config."""
    monkeypatch.setattr(attention, "FOLDED_MAX_TOKENS", folded_max_tokens)
    spec = make_spec("lora", adapter={"rank": 4, "target_modules": targets})
    model = load_model(tiny(family), load_config(tiny(family)), spec, Plan("cpu", "float32", False, 64))
    _fill_b(model.causal)
    model.use_paths(())
    expected = gradients(model, packed=False)
    model.use_paths(["packing", path])
    assert model.paths == {"packing", path}
    found = gradients(model, packed=True)
    for name in expected:
        error = (found[name] - expected[name]).norm() / expected[name].norm()
        assert error < 2e-5, name


def test_a_disabled_path_restores_the_modules(tiny: Tiny) -> None:
    model = load_model(tiny("llama"), load_config(tiny("llama")), make_spec(), Plan("cpu", "float32", False, 64))
    before = list(model.causal.state_dict())
    model.use_paths(["packing", *patching.PATHS])
    assert any("forward" in vars(module) for module in model.causal.modules())
    assert list(model.causal.state_dict()) == before
    assert model.peft is not None
    assert len(get_peft_model_state_dict(model.peft)) == len(model.trainable)
    model.use_paths(())
    assert not any("forward" in vars(module) for module in model.causal.modules())


def test_a_similar_class_of_another_family_is_not_patched() -> None:
    """Use Gemma 3n's norm: it stores its weight as it is, although its class name begins like Gemma 3's."""
    assert fast_norm(Gemma3RMSNorm(DIM))
    norm = Gemma3nRMSNorm(DIM)
    assert not fast_norm(norm)
    assert "forward" not in vars(norm)


def test_an_unknown_activation_is_not_patched() -> None:
    sizes = {"hidden_size": DIM, "intermediate_size": 20, "num_attention_heads": 2}
    assert not patching.fast_mlp(LlamaMLP(LlamaConfig(**sizes, hidden_act="relu")).requires_grad_(False))
    silu = LlamaMLP(LlamaConfig(**sizes)).requires_grad_(False)
    assert patching.fast_mlp(silu)
    assert not patching.fast_mlp(silu.requires_grad_(True)), "trained weights are not supported"


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_norm_by_finite_differences() -> None:
    torch.manual_seed(0)
    weight = torch.randn(DIM, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, weight, 1e-3), double(3, DIM))


@pytest.mark.parametrize("with_norm", [False, True])
def test_rotation_by_finite_differences(with_norm: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(DIM, dtype=torch.float64) if with_norm else None
    cos, sin = (halves(part.double()) for part in angles(5))
    heads = Heads(2, 2, DIM, weight, 1e-3)
    assert torch.autograd.gradcheck(lambda x: rotated(x, cos, sin, heads), double(5, 4 * DIM))


@pytest.mark.parametrize("members", ["gate up down", "up"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated_mlp_by_finite_differences(activation: str, members: str) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleDict(
        {"gate": nn.Linear(5, 6), "up": nn.Linear(5, 6), "down": nn.Linear(6, 5), "other": nn.Linear(2, 2)}
    )
    adapt(layers, [*members.split(), "other"])
    layers.double()
    inner, outer = Products([layers["gate"], layers["up"]]), Products([layers["down"]])  # type: ignore[list-item]
    parameters = (*inner.parameters(), *outer.parameters())

    def mixed(x: Tensor, *_: Tensor) -> Tensor:
        return gated_mlp(x, activation, inner, outer)

    assert torch.autograd.gradcheck(mixed, (double(4, 5), *parameters))


@pytest.mark.parametrize("folded_max_tokens", [1024, 4], ids=["folded", "sdpa"])
@pytest.mark.parametrize("window", [None, 3])
def test_attention_by_finite_differences(
    window: int | None, folded_max_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "FOLDED_MAX_TOKENS", folded_max_tokens)
    torch.manual_seed(0)
    lengths = [5, 1, 4]
    tensors = (double(2, 10, 2, 4), double(2, 10, 4), double(2, 10, 4))
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, lengths, 0.4, window), tensors)


def test_adapters_by_finite_differences() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleDict({"gate": nn.Linear(5, 6), "up": nn.Linear(5, 4)})
    adapt(layers, ["gate", "up"])
    layers.double()
    products = Products([layers["gate"], layers["up"]])  # type: ignore[list-item]

    def both(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return products_of(x, products)

    assert torch.autograd.gradcheck(both, (double(4, 5), *products.parameters()))


def test_gemma_config_has_another_name_for_its_activation() -> None:
    """Read `hidden_activation`, which other families call `hidden_act`."""
    config = Gemma3TextConfig(hidden_size=DIM, intermediate_size=20, hidden_activation="silu")
    mlp = Gemma3MLP(config).requires_grad_(False)
    assert patching._activation(mlp) == "silu"
