"""Tests the decisions on `auto` settings."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.training.conftest import FP32, make_spec
from worker.training.model import memory_plan
from worker.training.model.loading import load_config
from worker.training.model.memory_plan import Plan, Sizes, count_parameters, make_plan
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]


def decide(request: TrainingRequest, longest_row: int = 20) -> Plan:
    return make_plan(request, load_config(request.base_model_path), longest_row, request.resolved)


def test_a_fresh_attempt_decides_for_the_machine(make_request: MakeRequest) -> None:
    request = make_request("qlora", resolved=None, device="cpu", dataset_format="messages")
    found = decide(request)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    dtype = "bfloat16" if fast else "float32"
    assert found == Plan("cpu", dtype, gradient_checkpointing=False, micro_batch_tokens=1024)
    decided_here = {
        "resources": {"device": "cpu"},
        "quantization": {"compute_dtype": dtype},
        "training": {"gradient_checkpointing": False, "train_on": "assistant"},
        "engine": {"compute_dtype": dtype, "micro_batch_tokens": 1024},
    }
    assert found.decided_here(request) == decided_here
    training = {"learning_rate": 0.01, "max_seq_len": 512} | decided_here["training"]
    assert found.resolved(request) == decided_here | {"training": training, "adapter": {"alpha": 32.0}}
    assert make_plan(request, None, 0, found.resolved(request)) == found  # type: ignore[arg-type]


def test_decisions_of_an_earlier_attempt_are_kept(make_request: MakeRequest) -> None:
    assert decide(make_request(resolved=FP32)) == Plan("cpu", "float32", False, 64)
    took = Plan("cpu", "float32", True, 64, ("loss", "packing"))
    spec = make_spec(training={"memory": "min"})
    assert decide(make_request(spec=spec, resolved=took.resolved(make_request(spec=spec)))) == took


def test_decisions_for_another_device_are_made_again(make_request: MakeRequest) -> None:
    other = FP32 | {"resources": {"device": "cuda"}}
    assert decide(make_request(resolved=other, device="cpu")).micro_batch_tokens == 1024


def test_values_of_the_spec_are_kept(make_request: MakeRequest) -> None:
    spec = make_spec(
        "qlora", quantization={"compute_dtype": "float32"}, training={"gradient_checkpointing": True, "max_steps": 1}
    )
    found = decide(make_request(spec=spec, resolved=None))
    assert (found.compute_dtype, found.gradient_checkpointing) == ("float32", True)


def test_little_memory_enables_checkpointing_before_it_reduces_tokens(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request("lora", resolved=None)
    sizes = Sizes.of(request, load_config(request.base_model_path))

    def plan_within(needed: float) -> Plan:
        monkeypatch.setattr(memory_plan, "_free_memory", lambda device: needed / memory_plan.USABLE_SHARE + 1)
        return decide(request)

    dtype = decide(request).compute_dtype
    roomy = plan_within(sizes.bytes_needed(1024, dtype, checkpointing=False))
    tight = plan_within(sizes.bytes_needed(1024, dtype, checkpointing=True))
    tighter = plan_within(sizes.bytes_needed(512, dtype, checkpointing=True))
    hopeless = plan_within(0)
    assert [(p.gradient_checkpointing, p.micro_batch_tokens) for p in (roomy, tight, tighter, hopeless)] == [
        (False, 1024),
        (True, 1024),
        (True, 512),
        (True, 256),
    ]


def test_min_memory_enables_checkpointing_unless_the_spec_disables_it(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decided(**training: Any) -> tuple[bool, int]:
        spec = make_spec(training={"memory": "min"} | training)
        found = decide(make_request(spec=spec, resolved=None), longest_row=20)
        return found.gradient_checkpointing, found.micro_batch_tokens

    assert decided(memory="auto") == (False, 1024)
    assert decided() == (True, 512)
    assert decided(gradient_checkpointing=False) == (False, 512)
    assert decided(gradient_checkpointing=True) == (True, 512)
    monkeypatch.setattr(memory_plan, "_free_memory", lambda device: 1)
    assert decided() == (True, 256)


def test_min_memory_does_not_truncate_a_long_row(make_request: MakeRequest) -> None:
    """Give such a row a separate micro-batch, however small the budget is."""
    found = decide(make_request(spec=make_spec(training={"memory": "min"}), resolved=None), longest_row=3000)
    assert (found.gradient_checkpointing, found.micro_batch_tokens) == (True, 512)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_parameters_are_counted_from_the_files(family: str, tiny: Callable[[str], Any]) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny(family))
    assert count_parameters(tiny(family)) == sum(parameter.numel() for parameter in model.parameters())


def test_methods_need_memory_in_the_known_order(make_request: MakeRequest) -> None:
    needs = []
    for method in ("qlora", "lora", "full"):
        request = make_request(method)
        sizes = Sizes.of(request, load_config(request.base_model_path))
        llama_7b = {"hidden": 4096, "intermediate": 11008, "layers": 32, "vocabulary": 32000}
        large = Sizes(**(vars(sizes) | llama_7b | {"num_parameters": 6_738_415_616, "double_quant": True}))
        needs.append(large.bytes_needed(512, "bfloat16", checkpointing=True) / 1e9)
    assert needs[0] == pytest.approx(5, abs=1.2)
    assert needs[1] == pytest.approx(15, abs=1.5)
    assert needs[2] == pytest.approx(108, abs=3)


def test_a_gpu_that_torch_cannot_use_fails_with_the_reason(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "The NVIDIA driver on your system is too old (found version 12080)."

    def init() -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(TrainingFailed, match=re.escape(words)):
        decide(make_request(device="cuda", resolved=None))
