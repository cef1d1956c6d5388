"""Tests resuming from a checkpoint: exactly, or not at all, or inexactly if the spec allows it."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.domain.hardware import machine_fingerprint
from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import FP32, Recorder, make_spec
from worker.training.checkpoint.manifest import digests
from worker.training.loop.training_loop import train
from worker.training.model import device as machine
from worker.training.model.loading import Model, load_config, load_model
from worker.training.model.memory_plan import Plan
from worker.training.runtime import numerics
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Finished, Planned, Stopped, TrainingRequest

MakeRequest = Callable[..., TrainingRequest]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("qlora", "float32"), ("lora", "float32"), ("full", "float32"), ("qlora", "float16"), ("lora", "bfloat16")],
)
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(
    method: str, dtype: str, make_request: MakeRequest, tmp_path: Path
) -> None:
    """Stop in the middle of an epoch, while dropout draws from the random state, at a step with an evaluation."""
    adapter = None if method == "full" else {"dropout": 0.1}
    spec = make_spec(method, adapter=adapter, validation_split=0.2, training={"max_steps": 8, "eval_every": 4})
    resolved = FP32 | {"engine": {"compute_dtype": dtype, "micro_batch_tokens": 64}}
    whole = Recorder()
    train(make_request(spec=spec, resolved=resolved, work_dir=tmp_path / "whole"), whole)

    first = Recorder(stop_at=4)
    train(make_request(spec=spec, resolved=resolved, work_dir=tmp_path / "first"), first)
    (checkpoint,) = first.checkpoints()
    assert first.lines[-1] == Stopped(step=4)
    torch.manual_seed(12345)  # a different state than the first process had
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
    """Return a checkpoint at step 2."""
    channel = Recorder(stop_at=2)
    train(make_request(work_dir=tmp_path / "interrupted"), channel)
    return channel.checkpoints()[0].path


OF_ANOTHER_TRAINING: dict[str, dict[str, Any]] = {
    "dataset_sha256": {"dataset_sha256": "1" * 64},
    "validation_sha256": {"validation_sha256": "1" * 64},
    "base_model.revision": {"base_model_revision": "r2"},
}


@pytest.mark.parametrize("name", OF_ANOTHER_TRAINING)
def test_a_checkpoint_of_other_weights_or_rows_is_always_refused(
    name: str, interrupted: Path, make_request: MakeRequest
) -> None:
    with pytest.raises(TrainingFailed, match=f"{name} was ") as caught:
        train(make_request(checkpoint_path=interrupted, **OF_ANOTHER_TRAINING[name]), Recorder())
    assert caught.value.reason is FailureReason.checkpoint_unusable
    assert not [other for other in OF_ANOTHER_TRAINING if other != name and other in caught.value.message]


def rewrite(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the fingerprint of a checkpoint that stays whole."""
    state = json.loads((checkpoint / "state.json").read_text())
    change(state["fingerprint"])
    (checkpoint / "state.json").write_text(json.dumps(state))
    (checkpoint / "manifest.json").unlink()
    (checkpoint / "manifest.json").write_text(json.dumps({"files": digests(checkpoint)}))


DIFFERENT_MACHINES = [
    "machine.engine",
    "machine.torch",
    "machine.bitsandbytes",
    "machine.cpu",
    "machine.cpu_capability",
    "machine.cpu_instructions",
]


@pytest.mark.parametrize("policy", ["fail", "wait"])
def test_differences_of_the_machine_are_named_if_the_spec_refuses_them(
    policy: str, interrupted: Path, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change all facts at once. A worker does not wait because of this: see `app.jobs.queue.repository`."""

    def differ(written: dict[str, Any]) -> None:
        assert all(name in written for name in DIFFERENT_MACHINES)
        written.update(dict.fromkeys(DIFFERENT_MACHINES, "another"))

    rewrite(interrupted, differ)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    spec = make_spec(training={"on_inexact_resume": policy})
    with pytest.raises(TrainingFailed) as caught:
        train(make_request(checkpoint_path=interrupted, spec=spec, threads=2), Recorder())
    assert caught.value.reason is FailureReason.inexact_resume
    assert all(f"{name} was 'another' and is " in caught.value.message for name in DIFFERENT_MACHINES)
    assert "machine.threads was 1 and is 2" in caught.value.message
    assert "machine.ONEDNN_MAX_CPU_ISA was None and is 'AVX2'" in caught.value.message
    assert "spec." not in caught.value.message


def test_fields_that_change_no_number_may_differ(interrupted: Path, make_request: MakeRequest) -> None:
    spec = make_spec(
        name="another",
        suffix="other",
        metadata={"team": "support"},
        priority=3,
        max_retries=2,
        resources={"device": "cpu", "min_memory_gb": 1},
        training={"save_every": 7, "keep_checkpoints": 1, "on_inexact_resume": "fail"},
    )
    channel = Recorder()
    train(make_request(checkpoint_path=interrupted, spec=spec), channel)
    assert isinstance(channel.lines[-1], Finished)
    assert channel.warnings() == set()


def test_a_release_that_changes_no_number_resumes_exactly(
    interrupted: Path, make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignore the package's version, and a new field of the spec at its default."""
    state = json.loads((interrupted / "state.json").read_text())
    assert metadata.version("tunewright") not in state["fingerprint"].values()
    rewrite(interrupted, lambda written: written.pop("spec.training.memory"))
    others = {"tunewright": "99.0.0", "safetensors": "99.0.0"}
    real = metadata.version
    for module in (machine, numerics):
        monkeypatch.setattr(module, "version", lambda name: others.get(name) or real(name))
    channel = Recorder()
    spec = make_spec(training={"on_inexact_resume": "fail"})
    train(make_request(checkpoint_path=interrupted, spec=spec), channel)
    assert channel.warnings() == set()
    manifest = json.loads((tmp_path / "work/result/manifest.json").read_text())
    assert manifest["libraries"]["tunewright"] == "99.0.0"
    assert (manifest["exact"], manifest["inexact_resumes"]) == (True, [])


def test_an_inexact_resume_continues_and_later_attempts_report_it(
    interrupted: Path, make_request: MakeRequest, tmp_path: Path
) -> None:
    """Report it in the event, the plan and the manifest. Later attempts, which resume exactly, report it too."""
    second = Recorder(stop_at=4)
    train(make_request(checkpoint_path=interrupted, threads=2), second)
    (warning,) = second.events("warning_issued")
    assert (warning.code, "after step 2" in warning.detail) == ("inexact_resume", True)
    assert "machine.threads was 1 and is 2" in warning.detail
    resumes = [{"step": 2, "differs": {"machine.threads": {"before": 1, "now": 2}}}]
    planned = next(line for line in second.lines if isinstance(line, Planned))
    assert [each.model_dump() for each in planned.inexact_resumes] == resumes
    [written] = second.checkpoints()
    assert written.machine not in (None, "", first_machine(interrupted))

    third = Recorder()
    work_dir = tmp_path / "third"
    train(make_request(checkpoint_path=written.path, threads=2, work_dir=work_dir), third)
    assert third.warnings() == set()
    assert isinstance(third.lines[-1], Finished)
    manifest = json.loads((work_dir / "result/manifest.json").read_text())
    assert (manifest["exact"], manifest["inexact_resumes"]) == (False, resumes)


def first_machine(checkpoint: Path) -> str:
    """Return the machine of the checkpoint's writer, which is this machine with one thread."""
    facts = numerics.machine_facts("cpu", 1)
    written = json.loads((checkpoint / "state.json").read_text())["fingerprint"]
    assert facts.items() <= {name.removeprefix("machine."): value for name, value in written.items()}.items()
    return machine_fingerprint(facts)


def test_nondeterministic_attention_cannot_resume_exactly(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "repeats_bits", False)
    first, second = Recorder(stop_at=2), Recorder()
    train(make_request(), first)
    assert "not_deterministic" in first.warnings()
    train(make_request(checkpoint_path=first.checkpoints()[0].path, attempt=2), second)
    (planned,) = [line for line in second.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["attention"] == "not deterministic (attempt 2)"
    (inexact,) = planned.inexact_resumes
    assert inexact.step == 2
    assert list(inexact.differs) == ["resolved.engine.attention"]


@pytest.mark.parametrize(
    ("family", "capability", "dtype", "paths", "expected"),
    [
        ("llama", (9, 0), "bfloat16", ["packing"], True),
        ("llama", (7, 5), "float16", ["packing"], False),
        ("llama", (9, 0), "float32", ["packing"], False),
        ("llama", (7, 5), "float16", [], True),  # uses plain products
        ("gemma2", (7, 5), "float16", ["packing"], True),  # its soft cap needs plain products too
    ],
)
def test_which_attention_is_deterministic_on_a_gpu(
    family: str,
    capability: tuple[int, int],
    dtype: str,
    paths: list[str],
    expected: bool,
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    model = load_model(tiny(family), load_config(tiny(family)), make_spec(), Plan("cpu", dtype, False, 64))
    model.use_paths(paths)
    assert model.repeats_bits
    model.plan = replace(model.plan, device="cuda")
    assert model.repeats_bits == expected


def test_each_device_has_a_numerics_version() -> None:
    engines = {device: numerics.machine_facts(device, 1)["engine"] for device in ("cpu", "cuda")}
    assert engines == {"cpu": 1, "cuda": 2}


def test_cpu_threads_are_no_fact_of_a_gpu() -> None:
    facts = [machine_fingerprint(numerics.machine_facts("cuda", threads, "NVIDIA L4")) for threads in (None, 1, 8)]
    assert len(set(facts)) == 1
    on_cpu = [machine_fingerprint(numerics.machine_facts("cpu", threads)) for threads in (1, 8)]
    assert len(set(on_cpu)) == 2


def test_changes_of_a_retry_are_reported_and_accepted(interrupted: Path, make_request: MakeRequest) -> None:
    """Make a new plan where the change affects it."""
    changes = {"learning_rate": 0.02, "max_steps": 5, "gradient_checkpointing": True, "on_inexact_resume": "fail"}
    channel = Recorder()
    train(make_request(checkpoint_path=interrupted, spec=make_spec(training=changes)), channel)
    (warning,) = channel.events("warning_issued")
    assert "spec.training.learning_rate was 0.01 and is 0.02" in warning.detail
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["training"]["gradient_checkpointing"] is True
    assert planned.start_step == 2
    assert len(channel.losses()) == 3
    assert isinstance(channel.lines[-1], Finished)


def test_the_checkpoints_plan_is_used(interrupted: Path, make_request: MakeRequest) -> None:
    """Follow the plan of the checkpoint, since memory may have run out before it or after it."""
    channel = Recorder()
    other = {"compute_dtype": "bfloat16", "micro_batch_tokens": 32, "fast_paths": ["loss"]}
    train(make_request(checkpoint_path=interrupted, resolved=FP32 | {"engine": other}), channel)
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["compute_dtype"] == "float32"
    assert planned.resolved["engine"]["micro_batch_tokens"] == 64
    assert channel.warnings() == set()
