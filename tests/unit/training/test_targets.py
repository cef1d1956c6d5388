"""Tests `all-linear` on architectures with layers on which no adapter can be trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import FalconH1Config, Llama4TextConfig, MambaConfig

from tests.fixtures import tiny_models
from tests.fixtures.tiny_models import ENDS, build_tiny_model
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.loop.training_loop import train
from worker.training.model.loading import load_config, load_model
from worker.training.model.memory_plan import Plan
from worker.training.runtime.messages import Planned, TrainingRequest

MLP = ["down_proj", "gate_proj", "up_proj"]
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1}
MIXER = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4}
MODELS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "llama4": (
        lambda: Llama4TextConfig(
            **ENDS, **SIZES, **HEADS, **EXPERTS, head_dim=16, intermediate_size=32, intermediate_size_mlp=32
        ),
        sorted(MLP + ATTENTION),
    ),
    "falcon_h1": (
        lambda: FalconH1Config(**ENDS, **SIZES, **HEADS, **MIXER, intermediate_size=32),
        sorted([*MLP, *ATTENTION, "in_proj"]),
    ),
    "mamba": (lambda: MambaConfig(**ENDS, **SIZES, state_size=4), ["in_proj", "x_proj"]),
}
"""Maps each architecture to the name endings of the layers that get an adapter."""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", MODELS)
def test_untrainable_layers_are_omitted_and_the_targets_reported(
    family: str, make_request: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, targets = MODELS[family]
    monkeypatch.setitem(tiny_models.CONFIGS, family, config)
    folder = build_tiny_model(tmp_path / "model", family)
    channel = Recorder()
    train(make_request("qlora", base_model_path=folder), channel)
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["adapter"] == {"alpha": 32.0, "target_modules": targets}
    assert channel.losses()[-1] < channel.losses()[0]


def test_all_linear_stays_if_no_layer_is_omitted(tiny: Callable[[str], Path]) -> None:
    model = load_model(tiny("llama"), load_config(tiny("llama")), make_spec(), Plan("cpu", "float32", False, 64))
    assert model.plan.target_modules is None
