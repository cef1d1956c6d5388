"""Tests kinds of adapters and optimizers on a CUDA device, where 8-bit and paged optimizers are real."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.tiny_models import build_tiny_model, write_rows
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.loop import optimizer
from worker.training.loop.training_loop import prepare, train
from worker.training.runtime.messages import TrainingRequest

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def request_for(folder: Path, method: str, **fields: Any) -> TrainingRequest:
    work_dir = folder / fields.pop("name", "work")
    work_dir.mkdir()
    return TrainingRequest(
        spec=make_spec(method, adapter=fields.pop("adapter", None), training=fields.pop("training", {})),
        resolved=None,
        attempt=1,
        base_model="tiny",
        base_model_revision=None,
        base_model_path=build_tiny_model(folder / "model", **fields.pop("sizes", {})),
        dataset_path=write_rows(folder / "rows.jsonl"),
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        work_dir=work_dir,
        cache_dir=folder / "cache",
        device="cuda",
        **{"checkpoint_path": None} | fields,
    )


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("qlora", {"use_dora": True}),
        ("qlora", {"init": "eva"}),
        ("qlora", {"init": "gaussian"}),
        ("lora", {"init": "pissa"}),
        ("lora", {"init": "olora", "use_dora": True}),
    ],
)
def test_every_kind_of_adapter_learns(method: str, adapter: dict[str, Any], tmp_path: Path) -> None:
    recorder = Recorder()
    train(request_for(tmp_path, method, adapter=adapter, training={"max_steps": 12}), recorder)
    assert recorder.losses()[-1] < 0.6 * recorder.losses()[0]


@pytest.mark.parametrize("asked", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_bitsandbytes_optimizers_learn_and_resume(asked: str, tmp_path: Path) -> None:
    """Train all weights, since adapters use plain AdamW. Some tensors are large enough for 8 bits, and for paging,
    which begins at 100,000 numbers."""
    asking: dict[str, Any] = {
        "sizes": {"hidden_size": 512, "intermediate_size": 1024},
        "training": {"max_steps": 8, "optimizer": asked, "learning_rate": 1e-4},
    }
    whole, first, second = Recorder(), Recorder(stop_at=4), Recorder()
    run = prepare(request_for(tmp_path, "full", **asking, name="whole"), whole)
    assert isinstance(run.optimizer, optimizer.EightBitOrPaged)
    run.loop()
    train(request_for(tmp_path, "full", **asking, name="first"), first)
    checkpoint = first.checkpoints()[0].path
    resumed = prepare(request_for(tmp_path, "full", **asking, name="second", checkpoint_path=checkpoint), second)
    if asked.startswith("paged"):
        states = [*run.optimizer.state.values(), *resumed.optimizer.state.values()]
        assert all(getattr(state["state1"], "is_paged", False) == (state["state1"].numel() >= 1e5) for state in states)
        assert any(getattr(state["state1"], "is_paged", False) for state in states)
    resumed.loop()
    assert first.losses() + second.losses() == whole.losses()
    assert whole.losses()[-1] < whole.losses()[0]
    assert whole.warnings() == set()
