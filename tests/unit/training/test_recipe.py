"""Compares the loop with plain transformers and PEFT, and with an interrupted training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.domain.jobs.state import FailureReason, JobPhase
from tests.fixtures.tiny_models import WINDOW
from tests.unit.training.conftest import FP32, Recorder, make_spec
from tests.unit.training.reference import assert_moved_alike, plain_adapter, plain_model, reference_run
from worker.training.loop.training_loop import prepare, train
from worker.training.model.loading import load_config, load_model, paths_of
from worker.training.model.memory_plan import Plan
from worker.training.ops import cross_entropy
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import (
    Finished,
    MetricsMessage,
    PhaseEntered,
    Planned,
    Stopped,
    TrainingRequest,
    parse_child_message,
)

MakeRequest = Callable[..., TrainingRequest]
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "gpt2"]
METHODS = ["qlora", "lora", "full"]


@pytest.fixture
def long_rows(tmp_path: Path) -> Path:
    """Write rows of many lengths, most of them longer than a tiny model's window."""
    path = tmp_path / "long.jsonl"
    rows = [
        {"prompt": "the printer " * (number % 5 + 1), "completion": "is late " * (number % 3 + 1)}
        for number in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def copies(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_equal_plain_peft(family: str, make_request: MakeRequest, long_rows: Path) -> None:
    """Compare packed rows, the streamed loss and our products with padded rows, all logits and PEFT's layers."""
    spec = make_spec("lora", training={"max_steps": 20, "batch_size": 5, "learning_rate": 1e-3}, adapter={"rank": 4})
    channel = Recorder()
    run = prepare(make_request(family=family, spec=spec, dataset_path=long_rows), channel)
    assert max(row.num_inputs for row in run.rows.training) > 2 * WINDOW
    before = copies(run.model.trainable)
    own = set() if family in {"phi", "gpt2"} else {"norm", "mlp", "attention"}
    assert run.model.paths == {"packing", "products", "loss"} | own
    plain = plain_adapter(plain_model(run.request.base_model_path), spec.adapter, before)

    expected = reference_run(plain, run)
    run.loop()

    assert channel.losses() == pytest.approx(expected, rel=1e-5)
    assert_moved_alike(run.model.trainable, plain, before)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_full_fine_tuning_equals_plain_transformers(family: str, make_request: MakeRequest, long_rows: Path) -> None:
    spec = make_spec("full", training={"max_steps": 8, "batch_size": 5, "learning_rate": 1e-3})
    channel = Recorder()
    run = prepare(make_request(family=family, spec=spec, dataset_path=long_rows), channel)
    assert run.model.paths == {"packing", "loss"}
    plain = plain_model(run.request.base_model_path)
    expected = reference_run(plain, run)
    run.loop()
    assert channel.losses() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_packing_changes_nothing(method: str, make_request: MakeRequest, long_rows: Path, tmp_path: Path) -> None:
    losses = []
    for budget in (1, 1000):
        resolved = FP32 | {"engine": {"compute_dtype": "float32", "micro_batch_tokens": budget}}
        channel = Recorder()
        request = make_request(method, family="gemma3", dataset_path=long_rows, resolved=resolved)
        train(request, channel)
        losses.append(channel.losses())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_changes_nothing(method: str, make_request: MakeRequest) -> None:
    losses = []
    for checkpointing in (False, True):
        resolved = FP32 | {"training": {"gradient_checkpointing": checkpointing}}
        channel = Recorder()
        request = make_request(method, resolved=resolved)
        run = prepare(request, channel)
        layer = run.model.causal.get_decoder().layers[0]
        assert layer.gradient_checkpointing == checkpointing
        run.loop()
        losses.append(channel.losses())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_at_step_0_the_adapted_model_is_the_plain_one_to_the_last_bit(
    method: str, family: str, tiny: Callable[[str], Path]
) -> None:
    folder = tiny(family)
    for dtype in ("float32", "bfloat16"):
        model = load_model(folder, load_config(folder), make_spec(method), Plan("cpu", dtype, False, 64))
        assert model.peft is not None
        ids = torch.arange(20)[None]
        for paths in ((), paths_of(method)):
            model.use_paths(paths)
            adapted = model.hidden_states(ids, ids, [20])
            with model.peft.disable_adapter():
                assert model.hidden_states(ids, ids, [20]).equal(adapted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_family_learns_by_every_method(method: str, family: str, make_request: MakeRequest) -> None:
    channel = Recorder()
    resolved = FP32 | {"engine": {"compute_dtype": "bfloat16", "micro_batch_tokens": 64}}
    spec = make_spec(method, training={"max_steps": 10})
    train(make_request(family=family, spec=spec, resolved=resolved), channel)
    losses = channel.losses()
    assert losses[-1] < 0.7 * losses[0]
    assert channel.warnings() == set()


def test_float16_trains_with_a_scaled_loss(make_request: MakeRequest) -> None:
    channel = Recorder()
    resolved = FP32 | {"engine": {"compute_dtype": "float16", "micro_batch_tokens": 64}}
    request = make_request("qlora", spec=make_spec("qlora", training={"max_steps": 12}), resolved=resolved)
    run = prepare(request, channel)
    assert run.scaler.is_enabled()
    run.loop()
    assert channel.losses()[-1] < 0.8 * channel.losses()[0]


def test_a_float16_step_that_overflows_is_skipped_and_reported(make_request: MakeRequest) -> None:
    """Omit the norm, which is not finite and which JSON cannot hold: the parent must be able to parse every message."""
    channel = Recorder()
    resolved = FP32 | {"engine": {"compute_dtype": "float16", "micro_batch_tokens": 64}}
    run = prepare(make_request("lora", resolved=resolved), channel)
    run.scaler._init_scale = 2.0**20  # type: ignore[attr-defined]  # far more than float16 holds
    run.loop()
    heard = [parse_child_message.validate_json(line.model_dump_json()) for line in channel.lines]
    measured = {line.step: line.values for line in heard if isinstance(line, MetricsMessage)}
    skipped = [event.step for event in channel.events("step_skipped")]
    assert 1 in skipped
    assert len(skipped) < len(measured)
    for step, values in measured.items():
        assert ("grad_norm" in values) == (step not in skipped)
        assert "loss" in values
    assert measured[1]["loss"] == pytest.approx(channel.losses()[0])
    assert channel.events("step_skipped")[0].loss_scale == 2.0**19


def test_a_job_on_the_cpu_does_not_use_a_gpu(make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the process's memory and the CPU's random state. CUDA is not even initialized."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # calling CUDA raises here
    channel = Recorder(stop_at=2)
    spec = make_spec("lora", adapter={"init": "gaussian"})
    train(make_request(device="cpu", spec=spec), channel)
    measured = next(line for line in channel.lines if isinstance(line, MetricsMessage))
    assert measured.values["peak_memory_bytes"] > 50e6
    assert load_file(channel.checkpoints()[0].path / "random.safetensors").keys() == {"cpu"}


def test_cancel_stops_after_the_step_and_writes_nothing(make_request: MakeRequest) -> None:
    channel = Recorder(stop_at=3, why="cancel")
    request = make_request()
    train(request, channel)
    assert channel.lines[-1] == Stopped(step=3)
    assert channel.checkpoints() == []
    assert list(request.work_dir.iterdir()) == []


def test_a_drain_at_the_last_step_lets_the_run_finish(make_request: MakeRequest) -> None:
    channel = Recorder(stop_at=6)
    train(make_request(), channel)
    assert isinstance(channel.lines[-1], Finished)


def test_a_stop_before_the_first_step_reports_the_current_step(make_request: MakeRequest) -> None:
    first = Recorder(stop_at=2)
    train(make_request(), first)
    second = Recorder()
    second.stop_wish = "drain"
    train(make_request(checkpoint_path=first.checkpoints()[0].path), second)
    assert second.lines[-1] == Stopped(step=2)


def test_the_order_of_the_messages(make_request: MakeRequest) -> None:
    channel = Recorder()
    spec = make_spec(validation_split=0.25, training={"epochs": 2, "batch_size": 6})
    train(make_request(spec=spec), channel)
    phases = [line.phase for line in channel.lines if isinstance(line, PhaseEntered)]
    assert phases == [
        JobPhase.preparing,
        JobPhase.training,
        JobPhase.evaluating,
        JobPhase.training,
        JobPhase.evaluating,
        JobPhase.training,
        JobPhase.publishing,
    ]
    planned = next(line for line in channel.lines if isinstance(line, Planned))
    assert (planned.total_steps, planned.start_step) == (6, 0)
    paths = ["attention", "loss", "mlp", "norm", "packing", "products"]
    training = FP32["training"] | {"learning_rate": 0.01, "max_seq_len": 512, "train_on": "auto"}
    engine = FP32["engine"] | {"fast_paths": paths}
    assert planned.resolved == FP32 | {"engine": engine, "training": training, "adapter": {"alpha": 32.0}}
    (prepared,) = channel.events("dataset_prepared")
    assert (prepared.num_rows, prepared.num_validation_rows, prepared.chat_template) == (18, 6, None)
    (loaded,) = channel.events("model_loaded")
    assert 0 < loaded.num_trainable_parameters < loaded.num_parameters
    measured = [line for line in channel.lines if isinstance(line, MetricsMessage) and "loss" in line.values]
    assert [line.step for line in measured] == [1, 2, 3, 4, 5, 6]
    assert [line.values["epoch"] for line in measured][2::3] == [1.0, 2.0]
    assert measured[-1].values["num_tokens"] == 2 * prepared.num_tokens
    assert measured[0].values.keys() == {
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "epoch",
        "num_tokens",
        "peak_memory_bytes",
    }


def test_half_an_epoch(make_request: MakeRequest) -> None:
    channel = Recorder()
    train(make_request(spec=make_spec(training={"epochs": 0.5})), channel)
    assert len(channel.losses()) == 3


def test_validation_rows_from_a_separate_file(make_request: MakeRequest, long_rows: Path) -> None:
    channel = Recorder()
    train(make_request(validation_path=long_rows, validation_sha256="2" * 64), channel)
    assert channel.events("dataset_prepared")[0].num_validation_rows == 12
    (evaluated,) = channel.events("evaluated")
    assert evaluated.validation_loss > 0


def test_nan_names_the_step_and_the_rows(make_request: MakeRequest) -> None:
    channel = Recorder()
    run = prepare(make_request(), channel)
    with torch.no_grad():
        next(iter(run.model.trainable.values())).fill_(float("nan"))
    lines = sorted(run.rows.training[row].line for row in run.epochs.rows(1))
    with pytest.raises(TrainingFailed, match=rf"step 1 .*rows {', '.join(map(str, lines))}\)") as caught:
        run.loop()
    assert caught.value.reason is FailureReason.non_finite_loss


def test_no_labelled_token_at_all(make_request: MakeRequest, tmp_path: Path) -> None:
    path = tmp_path / "hopeless.jsonl"
    path.write_text(json.dumps({"prompt": "a" * 100, "completion": "b"}) + "\n")
    with pytest.raises(TrainingFailed) as caught:
        train(make_request(spec=make_spec(training={"max_seq_len": 8}), dataset_path=path), Recorder())
    assert caught.value.reason is FailureReason.no_labelled_tokens


def test_warnings_about_rows(make_request: MakeRequest, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "a<eos>", "completion": "b"},
        {"prompt": "a", "completion": "b" * 90},
        {"prompt": "a" * 90, "completion": "b"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    channel = Recorder()
    train(make_request(spec=make_spec(training={"max_seq_len": 32}), dataset_path=path), channel)
    assert channel.warnings() == {"rows_dropped", "rows_truncated", "special_tokens_in_content"}


def test_an_unknown_target_module(make_request: MakeRequest) -> None:
    spec = make_spec(adapter={"target_modules": ["nowhere"]})
    with pytest.raises(TrainingFailed, match="does not fit") as caught:
        train(make_request(spec=spec), Recorder())
    assert caught.value.reason is FailureReason.model_unusable


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")  # PEFT's warning, in the reference
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "phi"])
def test_an_adapter_on_the_head_equals_plain_peft(
    family: str, make_request: MakeRequest, long_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use heads that are tied and untied, with a bias and with a soft cap, and several chunks of rows."""
    monkeypatch.setattr(cross_entropy, "ADAPTED_LOGITS", 4096)
    targets = ["lm_head", "q_proj", "v_proj"]
    spec = make_spec("lora", training={"max_steps": 8, "learning_rate": 1e-3}, adapter={"target_modules": targets})
    channel = Recorder()
    run = prepare(make_request(family=family, spec=spec, dataset_path=long_rows), channel)
    assert any("lm_head" in name for name in run.model.trainable)
    plain = plain_adapter(plain_model(run.request.base_model_path), spec.adapter, copies(run.model.trainable))
    expected = reference_run(plain, run)
    run.loop()
    assert channel.losses() == pytest.approx(expected, rel=1e-5)
    run.publish()
    saved = load_file(run.request.work_dir / "result" / "adapter_model.safetensors")
    assert {name.rsplit(".", 2)[-2] for name in saved if "lm_head" in name} == {"lora_A", "lora_B"}


@pytest.mark.usefixtures("own_verdicts")
def test_a_model_with_broken_weights(make_request: MakeRequest, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("llama"), tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingFailed, match="not finite") as caught:
        train(make_request(base_model_path=folder), Recorder())
    assert caught.value.reason is FailureReason.model_unusable


def test_a_folder_without_weights(make_request: MakeRequest, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in tiny("llama").iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(TrainingFailed, match="cannot be loaded") as caught:
        train(make_request(base_model_path=folder), Recorder())
    assert caught.value.reason is FailureReason.model_unusable
