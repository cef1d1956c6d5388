"""Compares recomputing in backward with keeping: the same gradients, bit for bit, and fewer bytes kept."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.unit.training.conftest import make_spec
from worker.training.data.packing import Example, pack_micro_batch
from worker.training.model import patching
from worker.training.model.loading import Model, load_config, load_model
from worker.training.model.memory_plan import Plan
from worker.training.model.parity import _fill_b

Tiny = Callable[[str], Path]


def step(model: Model) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of two packed rows, and the bytes that were kept for them."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    rows = [Example(line, torch.arange(3, 35, dtype=torch.int32), torch.ones(32) > 0) for line in range(2)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, _ = model.losses(pack_micro_batch(rows))
    losses.sum().backward()
    found = {}
    for name, parameter in model.trainable.items():
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found, sum(kept.values())


@pytest.mark.parametrize("family", ["gemma3", "qwen3", "llama"])
def test_recomputed_tensors_equal_kept_ones(family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny(family)
    model = load_model(folder, load_config(folder), make_spec("lora"), Plan("cpu", "bfloat16", False, 64))
    _fill_b(model.causal)
    model.use_paths(["packing", *patching.PATHS])
    found, kept = step(model)
    monkeypatch.setattr(patching, "maker_of", lambda _: None)
    expected, kept_before = step(model)
    assert all(found[name].equal(expected[name]) for name in expected)
    assert kept < 0.96 * kept_before


class Living(TorchDispatchMode):
    """Counts the storages of one size that are created within it and not freed."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__()
        self._num_bytes = num_bytes
        self._held: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @property
    def count(self) -> int:
        return sum(ref() is not None for ref in self._held.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() == self._num_bytes:
                storage = tensor.untyped_storage()
                self._held[storage.data_ptr()] = weakref.ref(storage)
        return found


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_checkpointing_keeps_one_tensor_a_layer(family: str, tiny: Tiny) -> None:
    """Keep the layer's input, and nothing that a maker holds."""
    folder = tiny(family)
    model = load_model(folder, load_config(folder), make_spec("lora"), Plan("cpu", "float32", True, 512))
    model.use_paths(["packing", "products", *patching.PATHS])
    tokens, text = 352, model.causal.config.get_text_config()
    rows = [Example(0, torch.arange(tokens + 1, dtype=torch.int32) % 90 + 3, torch.ones(tokens + 1) > 0)]
    with Living(tokens * text.hidden_size * 4) as living:
        hidden = model.hidden_states(pack_micro_batch(rows).input_ids, pack_micro_batch(rows).position_ids, [tokens])
        held = living.count
    hidden.sum().backward()
    assert held <= text.num_hidden_layers + NOT_OF_A_LAYER


NOT_OF_A_LAYER = 2
"""Counts the last layer's output and the last norm's."""
