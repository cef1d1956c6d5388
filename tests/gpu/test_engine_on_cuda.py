"""Tests the engine on a CUDA device: equal to plain PEFT, packed or not, resumed or not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.tiny_models import WINDOW, build_tiny_model
from tests.unit.training.conftest import Recorder, make_spec
from tests.unit.training.reference import plain_adapter, plain_model, reference_run
from worker.training.loop.training_loop import prepare, train
from worker.training.ops import attention
from worker.training.runtime.messages import Planned, TrainingRequest

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "gpt2"]
DEVICE = torch.device("cuda")


def plan(dtype: str, micro_batch_tokens: int) -> dict[str, Any]:
    return {
        "resources": {"device": "cuda"},
        "training": {"gradient_checkpointing": False},
        "engine": {"compute_dtype": dtype, "micro_batch_tokens": micro_batch_tokens},
    }


def request_for(folder: Path, family: str, method: str, name: str = "work", **fields: Any) -> TrainingRequest:
    rows = [
        {"prompt": "the printer " * (number % 5 + 1), "completion": "is late " * (number % 3 + 1)}
        for number in range(12)
    ]
    dataset, model, work_dir = folder / "rows.jsonl", folder / family, folder / name
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work_dir.mkdir()
    values: dict[str, Any] = {
        "spec": make_spec(method),
        "resolved": plan("float32", 64),
        "attempt": 1,
        "base_model": "tiny",
        "base_model_revision": None,
        "base_model_path": model if model.exists() else build_tiny_model(model, family),
        "dataset_path": dataset,
        "dataset_sha256": "0" * 64,
        "validation_path": None,
        "validation_sha256": None,
        "checkpoint_path": None,
        "work_dir": work_dir,
        "cache_dir": folder / "cache",
        "device": "cuda",
    }
    return TrainingRequest(**values | fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_equal_plain_peft(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    spec = make_spec("lora", training={"max_steps": 20, "batch_size": 5, "learning_rate": 1e-3}, adapter={"rank": 4})
    channel = Recorder()
    run = prepare(request_for(tmp_path, family, "lora", spec=spec), channel)
    assert run.rows.training.longest > 2 * WINDOW
    before = {name: tensor.detach().cpu().clone() for name, tensor in run.model.trainable.items()}
    plain = plain_adapter(plain_model(run.request.base_model_path), spec.adapter, before).to(DEVICE)
    expected = reference_run(plain, run)
    run.loop()
    assert channel.losses() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_packing_changes_nothing(method: str, tmp_path: Path) -> None:
    losses = []
    for budget in (1, 1000):
        channel = Recorder()
        request = request_for(tmp_path, "gemma3", method, f"of-{budget}", resolved=plan("float32", budget))
        train(request, channel)
        losses.append(channel.losses())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_every_fast_path_passes(method: str, family: str, tmp_path: Path) -> None:
    channel = Recorder()
    request = request_for(tmp_path, family, method, resolved=None)
    train(request, channel)
    assert channel.warnings() == set()
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert {"packing", "loss", "products"} <= set(planned.resolved["engine"]["fast_paths"])


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(method: str, dtype: str, tmp_path: Path) -> None:
    adapter = None if method == "full" else {"dropout": 0.1}
    spec = make_spec(method, adapter=adapter, training={"max_steps": 8})
    whole, first, second = Recorder(), Recorder(stop_at=4), Recorder()
    resolved = plan(dtype, 64)
    train(request_for(tmp_path, "gemma3", method, "whole", spec=spec, resolved=resolved), whole)
    train(request_for(tmp_path, "gemma3", method, "first", spec=spec, resolved=resolved), first)
    (checkpoint,) = first.checkpoints()
    resumed = {"spec": spec, "resolved": resolved, "checkpoint_path": checkpoint.path, "attempt": 2}
    train(request_for(tmp_path, "gemma3", method, "second", **resumed), second)
    assert first.losses() + second.losses() == whole.losses()
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    results = [load_file(tmp_path / folder / "result" / name) for folder in ("whole", "second")]
    assert all(results[0][key].equal(results[1][key]) for key in results[0])


AMPERE = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="older than Ampere"
)
LONG = [1200, 61, 1000]
"""Lists lengths in tokens. Kernels split documents of more than a few hundred tokens and add up the parts."""


@AMPERE
@pytest.mark.parametrize("lengths", [[41, 7, 16], LONG])
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize(("kv_heads", "groups"), [(1, 4), (2, 2), (4, 1)])
def test_variable_length_attention_equals_the_plain_one(
    lengths: list[int], window: int | None, kv_heads: int, groups: int
) -> None:
    leaves, dim = attention_inputs(lengths, kv_heads, groups)
    assert attention._is_varlen(leaves[0], None)
    found = attention.attend(*leaves, lengths, dim**-0.5, window)
    exact = [leaf.detach().float().requires_grad_() for leaf in leaves]
    expected = attention.attend(*exact, lengths, dim**-0.5, window)
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)
    pull = torch.randn_like(expected)
    grads = torch.autograd.grad(found, leaves, pull.to(found.dtype))
    for grad, wanted in zip(grads, torch.autograd.grad(expected, exact, pull), strict=True):
        assert (grad.float() - wanted).norm() < 0.02 * wanted.norm()


@AMPERE
@pytest.mark.parametrize("window", [None, 16])
def test_long_documents_give_the_same_bits_each_time(window: int | None) -> None:
    leaves, dim = attention_inputs(LONG, kv_heads=2, groups=2)
    torch.use_deterministic_algorithms(True, warn_only=True)  # as in a training
    try:
        pull = torch.randn(sum(LONG), 4, dim, device=DEVICE, dtype=torch.bfloat16)
        first, *others = [
            torch.autograd.grad(attention.attend(*leaves, LONG, dim**-0.5, window), leaves, pull) for _ in range(4)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(grad.equal(wanted) for grads in others for grad, wanted in zip(grads, first, strict=True))


@AMPERE
@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_no_layer_waits_for_the_device(family: str, method: str, tmp_path: Path) -> None:
    """Check with the driver what `tests.cuda_dry_run` checks without a GPU."""
    run = prepare(request_for(tmp_path, family, method, resolved=plan("bfloat16", 4096)), Recorder())
    token_ids = torch.arange(sum(LONG), device=DEVICE)[None] % 500
    positions = torch.cat([torch.arange(length, device=DEVICE) for length in LONG])[None]
    run.model.hidden_states(token_ids, positions, LONG).float().sum().backward()  # builds what is reused later
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.model.hidden_states(token_ids, positions, LONG).float().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def attention_inputs(lengths: list[int], kv_heads: int, groups: int) -> tuple[list[torch.Tensor], int]:
    """Return query, key and value, and the size of a head."""
    torch.manual_seed(0)
    tokens, dim = sum(lengths), 64
    shapes = [(kv_heads, tokens, groups, dim), (kv_heads, tokens, dim), (kv_heads, tokens, dim)]
    made = [torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    return made, dim
