"""A training that goes on from a checkpoint: bit for bit, or not at all, or knowingly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.domain.job import FailureReason
from tests.unit.training.conftest import FP32, Recorder, make_spec
from worker.training.failure import TrainingFailed
from worker.training.manifest import digests
from worker.training.protocol import Finished, Planned, Request, Stopped
from worker.training.recipe import train

MakeRequest = Callable[..., Request]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("qlora", "float32"), ("lora", "float32"), ("full", "float32"), ("qlora", "float16"), ("lora", "bfloat16")],
)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    method: str, dtype: str, make_request: MakeRequest, tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch, with dropout drawing from the random state; evaluation falls on the stop."""
    adapter = None if method == "full" else {"dropout": 0.1}
    spec = make_spec(method, adapter=adapter, validation_split=0.2, training={"max_steps": 8, "eval_every": 4})
    resolved = FP32 | {"engine": {"compute_dtype": dtype, "micro_batch_tokens": 64}}
    whole = Recorder()
    train(make_request(spec=spec, resolved=resolved, work_dir=tmp_path / "whole"), whole)

    first = Recorder(stop_at=4)
    train(make_request(spec=spec, resolved=resolved, work_dir=tmp_path / "first"), first)
    (checkpoint,) = first.checkpoints()
    assert first.lines[-1] == Stopped(step=4)
    torch.manual_seed(12345)  # whatever the process drew meanwhile
    planned = next(line for line in first.lines if isinstance(line, Planned))
    second = Recorder()
    request = make_request(
        spec=spec,
        work_dir=tmp_path / "second",
        attempt=2,
        checkpoint_path=checkpoint.path,
        resolved=planned.resolved,
    )
    train(request, second)

    assert first.losses() + second.losses() == whole.losses()
    assert [line.start_step for line in second.lines if isinstance(line, Planned)] == [4]
    assert second.events("evaluated") == whole.events("evaluated")
    assert second.warnings() == set()
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    results = [load_file(tmp_path / folder / "result" / name) for folder in ("whole", "second")]
    assert results[0].keys() == results[1].keys()
    assert all(results[0][key].equal(results[1][key]) for key in results[0])
    manifests = [json.loads((tmp_path / folder / "result/manifest.json").read_text()) for folder in ("whole", "second")]
    assert manifests[0] == manifests[1]
    losses = [(tmp_path / folder / "reports/row_losses.csv").read_text() for folder in ("whole", "second")]
    assert losses[0] == losses[1]
    assert len(losses[0].splitlines()) > 1


@pytest.fixture
def interrupted(make_request: MakeRequest, tmp_path: Path) -> Path:
    """A checkpoint of step 2."""
    channel = Recorder(stop_at=2)
    train(make_request(work_dir=tmp_path / "interrupted"), channel)
    return channel.checkpoints()[0].path


CHANGES: dict[str, dict[str, Any]] = {
    "dataset_sha256": {"dataset_sha256": "1" * 64},
    "validation_sha256": {"validation_sha256": "1" * 64},
    "base_model.revision": {"base_model_revision": "r2"},
    "spec.training.learning_rate": {"spec": make_spec(training={"learning_rate": 0.02})},
    "spec.adapter.dropout": {"spec": make_spec(adapter={"dropout": 0.1})},
    "machine.threads": {"threads": 2},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_named_and_refused(name: str, interrupted: Path, make_request: MakeRequest) -> None:
    with pytest.raises(TrainingFailed, match=name) as caught:
        train(make_request(checkpoint_path=interrupted, **CHANGES[name]), Recorder())
    assert caught.value.reason is FailureReason.inexact_resume
    assert "allow_inexact_resume" in caught.value.message
    others = CHANGES.keys() - {name}
    assert not [other for other in others if other in caught.value.message]


@pytest.mark.parametrize(
    "name", ["libraries.torch", "libraries.bitsandbytes", "machine.cpu_capability", "machine.cpu_instructions"]
)
def test_a_checkpoint_of_another_machine_or_library_is_refused(
    name: str, interrupted: Path, make_request: MakeRequest
) -> None:
    state = json.loads((interrupted / "state.json").read_text())
    assert state["fingerprint"][name]
    state["fingerprint"][name] = "another"
    (interrupted / "state.json").write_text(json.dumps(state))
    (interrupted / "manifest.json").unlink()
    (interrupted / "manifest.json").write_text(json.dumps({"files": digests(interrupted)}))
    with pytest.raises(TrainingFailed, match=f"{name} was 'another' and is '") as caught:
        train(make_request(checkpoint_path=interrupted), Recorder())
    assert caught.value.reason is FailureReason.inexact_resume


def test_a_limit_on_the_processors_instructions_is_named(
    interrupted: Path, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(TrainingFailed, match="ONEDNN_MAX_CPU_ISA was None and is 'AVX2'"):
        train(make_request(checkpoint_path=interrupted), Recorder())


def test_everything_that_differs_is_named_at_once(interrupted: Path, make_request: MakeRequest) -> None:
    with pytest.raises(TrainingFailed) as caught:
        train(make_request(checkpoint_path=interrupted, dataset_sha256="1" * 64, threads=2), Recorder())
    assert "dataset_sha256" in caught.value.message
    assert "machine.threads was 1 and is 2" in caught.value.message


def test_what_changes_no_number_may_differ(interrupted: Path, make_request: MakeRequest) -> None:
    spec = make_spec(
        name="another",
        suffix="other",
        metadata={"team": "support"},
        priority=3,
        max_retries=2,
        resources={"device": "cpu", "min_memory_gb": 1},
        training={"save_every": 7, "keep_checkpoints": 1, "allow_inexact_resume": True},
    )
    channel = Recorder()
    train(make_request(checkpoint_path=interrupted, spec=spec), channel)
    assert isinstance(channel.lines[-1], Finished)
    assert channel.warnings() == set()


def test_an_inexact_resume_is_told_where_the_spec_allows_it(interrupted: Path, make_request: MakeRequest) -> None:
    spec = make_spec(training={"allow_inexact_resume": True})
    channel = Recorder()
    train(make_request(checkpoint_path=interrupted, spec=spec, dataset_sha256="1" * 64, threads=2), channel)
    (warning,) = channel.events("warned")
    assert warning.code == "inexact_resume"
    assert "dataset_sha256 was" in warning.text
    assert "machine.threads was 1 and is 2" in warning.text
    assert len(channel.losses()) == 4
    assert isinstance(channel.lines[-1], Finished)


def test_the_checkpoints_plan_is_followed(interrupted: Path, make_request: MakeRequest) -> None:
    """Memory may have run out meanwhile, or since: the plan of the steps that are gone on from counts."""
    channel = Recorder()
    other = {"compute_dtype": "bfloat16", "micro_batch_tokens": 32, "fast_paths": ["loss"]}
    train(make_request(checkpoint_path=interrupted, resolved=FP32 | {"engine": other}), channel)
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["compute_dtype"] == "float32"
    assert planned.resolved["engine"]["micro_batch_tokens"] == 64
    assert channel.warnings() == set()
