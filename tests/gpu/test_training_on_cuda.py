"""Tests what only a CUDA device can show: each method trains on it, in the precision that the plan chose."""

from pathlib import Path

import pytest
import torch

from tests.fixtures.tiny_models import build_tiny_model, write_rows
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.loop.training_loop import train
from worker.training.runtime.messages import Planned, TrainingRequest

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_each_method_learns_on_cuda(method: str, family: str, tmp_path: Path) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    request = TrainingRequest(
        spec=make_spec(method, training={"max_steps": 12}),
        resolved=None,
        attempt=1,
        base_model="tiny",
        base_model_revision=None,
        base_model_path=build_tiny_model(tmp_path / family, family),
        dataset_path=write_rows(tmp_path / "rows.jsonl"),
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        checkpoint_path=None,
        work_dir=work_dir,
        cache_dir=tmp_path / "cache",
        device="cuda",
    )
    recorder = Recorder()
    train(request, recorder)
    [planned] = [line for line in recorder.lines if isinstance(line, Planned)]
    assert planned.resolved["resources"]["device"] == "cuda"
    losses = recorder.losses()
    assert losses[-1] < 0.6 * losses[0]
