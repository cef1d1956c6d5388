"""Tests the fallback for a lack of memory: checkpointing first, then smaller micro-batches for the same rows, then a
suggestion.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from app.domain.jobs.state import FailureReason
from tests.fixtures.tiny_models import ENDS
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.loop import training_loop
from worker.training.loop.training_loop import prepare, train
from worker.training.model import memory_plan as planning
from worker.training.model.loading import Model, load_config
from worker.training.model.memory_plan import LEAST_TOKENS, Plan, next_smaller_plan, suggest_smaller_settings
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import (
    EventMessage,
    Failed,
    Finished,
    Planned,
    Replanned,
    TrainingRequest,
    parse_child_message,
)

pytestmark = pytest.mark.usefixtures("own_verdicts")

ROOT = Path(__file__).parents[3]
MIB = 2**20
MakeRequest = Callable[..., TrainingRequest]
ROOMY = {
    "resources": {"device": "cpu"},
    "training": {"gradient_checkpointing": False},
    "engine": {"compute_dtype": "float32", "micro_batch_tokens": 4096},
}


@pytest.fixture(scope="module")
def wide(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a model whose activations take most of its memory."""
    folder = Path(shutil.copytree(tiny("llama"), tmp_path_factory.mktemp("wide") / "model"))
    sizes = {"hidden_size": 64, "intermediate_size": 512, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(LlamaConfig(**ENDS | sizes | heads)).save_pretrained(folder)
    return folder


@pytest.fixture
def ask(wide: Path, make_request: MakeRequest, tmp_path: Path) -> Callable[..., TrainingRequest]:
    """Return a request of six steps of eight rows, of `tokens` each."""

    def ask(tokens: int, **fields: Any) -> TrainingRequest:
        path = tmp_path / f"rows-{tokens}.jsonl"
        rows = [{"prompt": f"{number} " + "the printer " * (tokens // 2), "completion": "red"} for number in range(48)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        training = {"batch_size": 8, "max_seq_len": 4096, "save_every": 4} | fields.pop("training", {})
        return make_request(
            base_model_path=wide,
            spec=make_spec(training=training),
            dataset_path=path,
            **{"resolved": ROOMY} | fields,
        )

    return ask


def train_narrowly(request: TrainingRequest, moment: str, room: int) -> list[Any]:
    """Return the messages of a process that gets `room` bytes from some moment on. Large blocks are freed at once."""
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "PYTHONPATH": str(ROOT)}
    with (request.work_dir.parent / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.training.narrow", moment, str(room)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment,
        )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(request.model_dump_json() + "\n")
        child.stdin.flush()
        return [parse_child_message.validate_json(line) for line in child.stdout]


def reductions(lines: list[Any]) -> list[tuple[int, bool, int]]:
    events = [
        line.event for line in lines if isinstance(line, EventMessage) and line.event.type == "out_of_memory_fallback"
    ]
    return [(event.step, event.gradient_checkpointing, event.micro_batch_tokens) for event in events]


def losses(lines: list[Any]) -> dict[int, float]:
    return {line.step: line.values["loss"] for line in lines if line.kind == "metrics"}


def test_a_real_lack_of_memory_is_met_and_the_training_is_the_same(
    ask: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    """Limit the process from step 3 on to 40 MiB more than it holds. A step of the first plan takes over 200."""
    request = ask(400, work_dir=tmp_path / "narrow")
    lines = train_narrowly(request, "2", 40 * MIB)

    assert isinstance(lines[-1], Finished)
    assert reductions(lines)[:2] == [(3, True, 4096), (3, True, 2048)]
    replanned = [line.resolved for line in lines if isinstance(line, Replanned)]
    assert len(replanned) == len(reductions(lines))
    assert replanned[0]["training"]["gradient_checkpointing"] is True
    assert replanned[1]["engine"]["micro_batch_tokens"] == 2048
    assert list(losses(lines)) == [1, 2, 3, 4, 5, 6]

    from_the_start = Recorder()
    train(ask(400, work_dir=tmp_path / "small", resolved=replanned[-1]), from_the_start)
    assert list(losses(lines).values()) == pytest.approx(from_the_start.losses(), rel=1e-5)
    assert from_the_start.events("out_of_memory_fallback") == []

    (checkpoint,) = [line for line in lines if line.kind == "checkpoint"]
    assert checkpoint.step == 4
    resumed = Recorder()
    train(ask(400, work_dir=tmp_path / "resumed", checkpoint_path=checkpoint.path), resumed)
    (planned,) = [line for line in resumed.lines if isinstance(line, Planned)]
    assert planned.resolved == replanned[-1], "must be the checkpoint's plan, not the request's"
    assert resumed.losses() == [losses(lines)[5], losses(lines)[6]]
    assert resumed.warnings() == set()
    results = [load_file(tmp_path / name / "result/adapter_model.safetensors") for name in ("narrow", "resumed")]
    assert all(results[0][name].equal(results[1][name]) for name in results[0])


def test_where_nothing_fits_the_failure_says_what_would(ask: Callable[..., TrainingRequest]) -> None:
    lines = train_narrowly(ask(400), "model_loaded", 6 * MIB)
    assert reductions(lines) == [(1, True, tokens) for tokens in (4096, 2048, 1024, 512, 256)]
    failed = lines[-1]
    assert isinstance(failed, Failed)
    assert failed.reason is FailureReason.out_of_memory
    assert "256 tokens per micro-batch, with gradient checkpointing" in failed.message
    assert "max_seq_len 203 (the longest row has 406 tokens)" in failed.message
    assert 'the method "qlora"' in failed.message
    assert losses(lines) == {}


def exhaust(*args: Any) -> None:
    torch.empty(10**15)


@pytest.mark.parametrize("part", ["the rows", "an evaluation"])
def test_the_fallback_works_in_steps_and_evaluations(
    part: str, ask: Callable[..., TrainingRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Simulate other processes that take memory after the dry run: in the middle of a step's micro-batches, or of an
    evaluation's."""
    training = {"max_steps": 2, "eval_every": 1}
    plan = ROOMY | {"engine": {"compute_dtype": "float32", "micro_batch_tokens": 300}}
    validation = {"validation_path": ask(30).dataset_path, "validation_sha256": "1" * 64}
    whole = Recorder()
    train(ask(60, training=training, **validation, resolved=plan, work_dir=tmp_path / "whole"), whole)

    run = prepare(ask(60, training=training, **validation, resolved=plan, work_dir=tmp_path / "narrow"), Recorder())
    channel = run.channel
    assert isinstance(channel, Recorder)
    real, calls = Model.losses, 0

    def losses(self: Model, batch: Any, *, with_hits: bool = False) -> Any:
        nonlocal calls
        calls += with_hits == (part == "an evaluation") and "dry_run_passed" in {
            line.event.type for line in channel.lines if isinstance(line, EventMessage)
        }
        if calls == 2 and not self.plan.gradient_checkpointing:
            exhaust()
        return real(self, batch, with_hits=with_hits)

    monkeypatch.setattr(Model, "losses", losses)
    with run.writer:
        run.loop()
    assert reductions(channel.lines) == [(1 if part == "the rows" else 2, True, 300)]
    assert channel.losses() == pytest.approx(whole.losses(), rel=1e-5)
    assert [event.validation_loss for event in channel.events("evaluated")] == pytest.approx(
        [event.validation_loss for event in whole.events("evaluated")], rel=1e-5
    )


def test_other_errors_are_not_retried(ask: Callable[..., TrainingRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(ask(30), Recorder())
    calls = []

    def fail(*args: Any) -> None:
        calls.append(args)
        raise RuntimeError("something else")

    monkeypatch.setattr(training_loop, "run_dry_run", fail)
    with pytest.raises(RuntimeError, match="something else"):
        run._run_dry_run()
    assert len(calls) == 1


def test_rows_of_validation_can_be_the_longest(
    ask: Callable[..., TrainingRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the micro-batch at the longest row's length: a smaller one would not help, since this row gets a separate
    one."""
    request = ask(30, validation_path=ask(1100).dataset_path, validation_sha256="1" * 64)
    run = prepare(request.model_copy(update={"resolved": ROOMY}), Recorder())
    monkeypatch.setattr(training_loop, "run_dry_run", exhaust)
    with pytest.raises(TrainingFailed, match="longest row has 1,1") as caught:
        run._run_dry_run()
    assert caught.value.reason is FailureReason.out_of_memory
    assert isinstance(run.channel, Recorder)
    assert reductions(run.channel.lines) == [(1, True, 4096), (1, True, 2048), (1, True, 1024)]


LARGE = Plan("cpu", "float32", False, 1024, ("loss",))


def smaller_plans(plan: Plan, wish: Any, longest_row: int) -> list[tuple[bool, int]]:
    steps = []
    while (less := next_smaller_plan(plan, wish, longest_row)) is not None:
        assert (less.device, less.compute_dtype, less.fast_paths) == ("cpu", "float32", ("loss",))
        steps.append((less.gradient_checkpointing, less.micro_batch_tokens))
        plan = less
    return steps


@pytest.mark.parametrize(
    ("wish", "longest_row", "expected"),
    [
        ("auto", 20, [(True, 1024), (True, 512), (True, LEAST_TOKENS)]),
        (False, 20, [(False, 512), (False, LEAST_TOKENS)]),
        ("auto", 600, [(True, 1024), (True, 512)]),
        ("auto", 5000, [(True, 1024)]),
        (False, 5000, []),
    ],
)
def test_checkpointing_is_enabled_first_and_only_if_the_spec_allows_it(
    wish: Any, longest_row: int, expected: list[tuple[bool, int]]
) -> None:
    assert smaller_plans(LARGE, wish, longest_row) == expected


@pytest.fixture
def advise(ask: Callable[..., TrainingRequest], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return the suggestion for a row of 2,000 tokens where `fitting_tokens` fit by the estimate."""

    def advise(fitting_tokens: int, *, held: float = 0.0, **fields: Any) -> str:
        request = ask(30)
        request = request.model_copy(update={"spec": make_spec(**({"method": "lora"} | fields))})
        config = load_config(request.base_model_path)
        sizes = planning.Sizes.of(request, config)
        needed = sizes.bytes_needed(fitting_tokens, "float32", checkpointing=True) if fitting_tokens else 0
        monkeypatch.setattr(planning, "_free_memory", lambda device: (1 - held) * needed / planning.USABLE_SHARE + 1)
        monkeypatch.setattr(planning, "_held_memory", lambda device: held * needed / planning.USABLE_SHARE)
        return suggest_smaller_settings(request, sizes, LARGE, 2000)

    return advise


def test_the_suggestion_follows_the_estimate(advise: Callable[..., str]) -> None:
    assert advise(10_000).startswith("max_seq_len 1,000 (the longest row has 2,000 tokens)"), "that length does not fit"
    assert advise(300).startswith("max_seq_len 250 ")
    assert advise(300, held=0.9).startswith("max_seq_len 250 "), "memory that the process holds is usable"
    assert "max_seq_len" not in advise(0), "the model alone is too large"


def test_the_suggestion_names_settings_that_the_spec_can_change(advise: Callable[..., str]) -> None:
    assert 'the method "qlora"' in advise(300)
    assert "a smaller adapter rank" in advise(300, adapter={"rank": 32})
    assert "gradient_checkpointing true" in advise(300, training={"gradient_checkpointing": False})
    assert advise(0, method="qlora", adapter={"rank": 8}) == "a worker with more memory"
