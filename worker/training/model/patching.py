"""Replaces modules' code by hand-written code, by model family.

A module is patched by setting another `forward` on the instance; its parameters, names and files stay unchanged, and
deleting the attribute restores it. What a family computes is recognized by its class names, so that an unknown
architecture keeps its code. `parity` decides whether a path stays on.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, Final, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from worker.training.model.lora import AdaptedLinear
from worker.training.ops.activation import ACTIVATIONS
from worker.training.ops.attention import attend
from worker.training.ops.gated_mlp import gated_mlp
from worker.training.ops.lora_linear import Products, products_of
from worker.training.ops.recompute import maker_of
from worker.training.ops.rms_norm import norm_eps, norm_weight, rms_norm
from worker.training.ops.rope import Heads, rotated

FAMILIES: Final = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3")
"""Lists the families whose norms, attention and gated MLP are known; transformers' class names begin with them.
Families with longer names (Gemma3n, Llama4, Qwen3Next) compute other functions."""

Switch = Callable[[nn.Module], bool]


def fast_norm(module: nn.Module) -> bool:
    if not _is(module, "RMSNorm"):
        return False
    weight, eps = norm_weight(module), norm_eps(module)
    _replace_forward(module, lambda self, x: rms_norm(x, weight, eps))
    return True


def fast_mlp(module: nn.Module) -> bool:
    """Patch a gated MLP: gate and up share their input products, and elementwise results are not kept."""
    if not _is(module, "MLP") or not all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
        return False
    activation = _activation(module)
    gate, up, down = module.gate_proj, module.up_proj, module.down_proj
    if activation not in ACTIVATIONS or not all(map(_is_plain, (gate, up, down))):
        return False
    inner, outer = Products([gate, up]), Products([down])

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return gated_mlp(x.view(-1, x.shape[-1]), activation, inner, outer, maker_of(x)).view(x.shape)

    _replace_forward(module, forward)
    return True


def fast_attention(module: nn.Module) -> bool:
    """Patch attention: query, key and value share their input products, and norm and rotation are one pass."""
    if not _is(module, "Attention") or not all(hasattr(module, f"{part}_proj") for part in "qkvo"):
        return False
    parts = [module.q_proj, module.k_proj, module.v_proj]
    if not all(map(_is_plain, parts)):
        return False
    products = Products(parts)
    dim: int = module.head_dim  # type: ignore[assignment]
    kv_heads = products.bases[1].out_features // dim
    groups = products.bases[0].out_features // dim // kv_heads
    q_heads = _heads(getattr(module, "q_norm", None), kv_heads, groups, dim)
    k_heads = _heads(getattr(module, "k_norm", None), kv_heads, 1, dim)
    scale: float = module.scaling  # type: ignore[assignment]
    window = getattr(module, "sliding_window", getattr(module.config, "sliding_window", None))
    softcap = getattr(module, "attn_logit_softcapping", None)

    def forward(
        self: nn.Module, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        lengths: list[int] | None = kwargs.get("document_lengths")
        if lengths is None:
            plain = type(self).forward(self, hidden_states, position_embeddings, *args, **kwargs)
            return cast(tuple[Tensor, None], plain)
        rows = hidden_states.view(-1, hidden_states.shape[-1])
        query, key, value = products_of(rows, products, maker_of(hidden_states))
        cos, sin = (_half(part, dim) for part in position_embeddings)
        turned_query, turned_key = rotated(query, cos, sin, q_heads), rotated(key, cos, sin, k_heads)
        mixed = attend(
            turned_query,
            turned_key[:, :, 0],
            value.view(-1, kv_heads, dim).transpose(0, 1),
            lengths,
            scale,
            window,
            softcap,
            (maker_of(turned_query), maker_of(turned_key)),
        )
        output = self.o_proj(mixed.reshape(len(rows), -1))  # type: ignore[operator]
        return output.view(*hidden_states.shape[:-1], -1), None

    _replace_forward(module, forward)
    return True


PATHS: Final[dict[str, Switch]] = {"norm": fast_norm, "mlp": fast_mlp, "attention": fast_attention}


def switch_on(model: PreTrainedModel, name: str) -> bool:
    """Patch every module that the path supports, and say whether there is one."""
    taken = [PATHS[name](module) for module in model.modules()]
    return any(taken)


def switch_off(model: PreTrainedModel, name: str) -> None:
    suffix = {"norm": "RMSNorm", "mlp": "MLP", "attention": "Attention"}[name]
    for module in model.modules():
        if _is(module, suffix):
            vars(module).pop("forward", None)


def _is(module: nn.Module, suffix: str) -> bool:
    return type(module).__name__ in {family + suffix for family in FAMILIES}


def _is_plain(layer: object) -> bool:
    """Recognize a frozen linear layer, alone or with one adapter that is added without change."""
    if isinstance(layer, AdaptedLinear):
        return (
            list(layer.lora_A) == ["default"]
            and not layer.lora_variant
            and isinstance(layer.lora_dropout["default"], nn.Identity)
        )
    return isinstance(layer, nn.Linear) and not layer.weight.requires_grad


def _half(angles: Tensor, dim: int) -> Tensor:
    """Convert transformers' cosines or sines [1, tokens, dim], whose halves are equal → fp32 [tokens, 1, 1, dim/2]. All
    layers that receive them share one tensor."""
    found = vars(angles)
    if "half" not in found:
        found["half"] = angles[0, :, None, None, : dim // 2].float()
    half: Tensor = found["half"]
    return half


def _activation(module: nn.Module) -> str:
    config: Any = module.config
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def _heads(norm: nn.Module | None, kv_heads: int, groups: int, dim: int) -> Heads:
    if norm is None:
        return Heads(kv_heads, groups, dim, None)
    return Heads(kv_heads, groups, dim, norm_weight(norm), norm_eps(norm))


def _replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    module.forward = MethodType(forward, module)
