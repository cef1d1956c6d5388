"""What is made again in backward, against keeping it: the same gradients to the last bit, and less kept."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.training.conftest import make_spec
from worker.training import fast_paths
from worker.training.model import Model, load_config, load_model
from worker.training.packing import Example, lay_out
from worker.training.parity import _fill_b
from worker.training.plan import Plan

Tiny = Callable[[str], Path]


def step(model: Model) -> tuple[dict[str, Tensor], int]:
    """Gradients of two packed rows, and the bytes that were kept for them."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    rows = [Example(line, torch.arange(3, 35, dtype=torch.int32), torch.ones(32) > 0) for line in range(2)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, _ = model.losses(lay_out(rows))
    losses.sum().backward()
    found = {}
    for name, parameter in model.trainable.items():
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found, sum(kept.values())


@pytest.mark.parametrize("family", ["gemma3", "qwen3", "llama"])
def test_made_again_is_as_good_as_kept(family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny(family)
    model = load_model(folder, load_config(folder), make_spec("lora"), Plan("cpu", "bfloat16", False, 64))
    _fill_b(model.causal)
    model.use(["packing", *fast_paths.PATHS])
    found, kept = step(model)
    monkeypatch.setattr(fast_paths, "maker_of", lambda _: None)
    expected, kept_before = step(model)
    assert all(found[name].equal(expected[name]) for name in expected)
    assert kept < 0.95 * kept_before


def test_training_does_without_the_compiler() -> None:
    script = "from worker.training.uncompiled import import_bitsandbytes\nimport_bitsandbytes()\n"
    script += "import worker.training.recipe, sys, torch\nassert torch.compile.__module__ == 'torch'\n"
    script += "print('torch._inductor.compile_fx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
