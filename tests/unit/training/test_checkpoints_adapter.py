"""Tests the adapter in a checkpoint: in plain PEFT it gives the model under training, for every init."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from app.domain.artifact import ADAPTER_ARCHIVE
from tests.unit.training.conftest import Recorder, make_spec
from worker.attempt.archive import ADAPTER_FILES, unpack_adapter, write_archive
from worker.processes.child_files import ChildFiles
from worker.training.checkpoint.checkpoint import read_checkpoint, restore, take_snapshot, write_checkpoint
from worker.training.loop.training_loop import TrainingLoop, prepare
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"rank": 4, "use_rslora": True},
    "a few layers and the head": {"rank": 4, "target_modules": ["q_proj", "up_proj", "lm_head"]},
    "DoRA": {"rank": 4, "use_dora": True},
    "PiSSA": {"rank": 4, "init": "pissa", "use_rslora": True},
    "OLoRA": {"rank": 4, "init": "olora"},
}


def logits_of(model: Any) -> Tensor:
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.arange(3, 15).unsqueeze(0)).logits
    return logits.float()


def after_steps(request: TrainingRequest, count: int = 3) -> TrainingLoop:
    run = prepare(request, Recorder())
    for _ in range(count):
        run._step()
    return run


@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
def test_it_loads_in_plain_peft(
    adapter: dict[str, Any], make_request: MakeRequest, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    run = after_steps(make_request(spec=make_spec(adapter=adapter)))
    folder = write_checkpoint(tmp_path / "checkpoints", take_snapshot(run.state, {}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_archive(folder / ADAPTER_ARCHIVE, ChildFiles(tmp_path), folder, ADAPTER_FILES)
    for name in ADAPTER_FILES:
        (folder / name).unlink()
    unpack_adapter(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    base = AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, folder)
    run.model.use_paths(())
    torch.testing.assert_close(logits_of(loaded), logits_of(run.model.causal), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
def test_its_weights_go_back_bit_for_bit(adapter: dict[str, Any], make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(spec=make_spec(adapter=adapter))
    run = after_steps(request)
    folder = write_checkpoint(tmp_path / "checkpoints", take_snapshot(run.state, {}))
    other = prepare(request, Recorder())
    restore(read_checkpoint(folder), other.state)
    for name, parameter in run.state.trainable.items():
        assert parameter.equal(other.state.trainable[name]), name


def test_a_full_fine_tune_has_none(make_request: MakeRequest, tmp_path: Path) -> None:
    run = after_steps(make_request(spec=make_spec("full")), 1)
    folder = write_checkpoint(tmp_path / "checkpoints", take_snapshot(run.state, {}))
    names = {path.name for path in folder.iterdir()}
    assert not names & {*ADAPTER_FILES}
    assert "trainable.safetensors" in names
