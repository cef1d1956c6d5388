"""Tests the process over its pipe, as a worker uses it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
import torch

from app.domain.jobs.state import FailureReason
from tests.fixtures.tiny_models import write_rows
from tests.fixtures.training_processes import TrainingProcess
from tests.unit.training.conftest import make_spec
from worker.training.__main__ import _failure, set_up
from worker.training.runtime.channel import PARENT_GONE
from worker.training.runtime.messages import (
    ChildMessage,
    Failed,
    Finished,
    MetricsMessage,
    Preload,
    Ready,
    Started,
    Stop,
    Stopped,
    TrainingRequest,
    WorkStarted,
    parse_child_message,
)

pytestmark = pytest.mark.usefixtures("own_verdicts")

ROOT = Path(__file__).parents[3]
Child = subprocess.Popen[str] | TrainingProcess
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the training process with a request, by its command if asked. Its stderr goes to `log`."""
    started: list[Child] = []

    def start(line: TrainingRequest | Preload, *, by_command: bool = False) -> Child:
        with (tmp_path / "log").open("w") as log:
            child = command(log) if by_command else TrainingProcess(log)
        started.append(child)
        send(child, line)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            pipe.close()


def command(log: IO[str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "worker.training"]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)


def send(child: Child, line: TrainingRequest | Stop | Preload) -> None:
    assert child.stdin is not None
    child.stdin.write(line.model_dump_json() + "\n")
    child.stdin.flush()


def messages_of(child: Child) -> Iterator[ChildMessage]:
    assert child.stdout is not None
    return (parse_child_message.validate_json(line) for line in child.stdout)


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_a_training_from_request_to_result(
    method: str, start: Start, make_request: Callable[..., TrainingRequest]
) -> None:
    request = make_request(method, resolved=None, spec=make_spec(method, training={"max_steps": 12}))
    child = start(request, by_command=method == "qlora")
    lines = list(messages_of(child))
    assert child.wait(timeout=20) == 0
    losses = [line.values["loss"] for line in lines if isinstance(line, MetricsMessage)]
    assert losses[-1] < 0.6 * losses[0]
    finished = lines[-1]
    assert isinstance(finished, Finished)
    assert (finished.path / "manifest.json").exists()


def test_a_failure_is_reported_and_its_trace_is_logged(
    start: Start, make_request: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    child = start(make_request(base_model_path=tmp_path / "nowhere"))
    *_, last = messages_of(child)
    assert child.wait(timeout=20) == 1
    assert isinstance(last, Failed)
    assert last.reason is FailureReason.model_unusable
    assert "Traceback" in (tmp_path / "log").read_text()


def test_out_of_memory_errors_are_recognized() -> None:
    for exhaust in (lambda: torch.empty(10**15), lambda: bytearray(10**15)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            exhaust()
        failed = _failure(caught.value)
        assert failed.reason is FailureReason.out_of_memory
        assert "gradient_checkpointing" in failed.message
    for words in (
        "CUDA error: out of memory\nCUDA kernel errors might be reported at some other call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert _failure(RuntimeError(words)).reason is FailureReason.out_of_memory
    assert _failure(RuntimeError("CUDA error: an illegal memory access was encountered")).reason is (
        FailureReason.internal_error
    )
    assert _failure(RuntimeError("other")).reason is FailureReason.internal_error


def endless(make_request: Callable[..., TrainingRequest]) -> TrainingRequest:
    return make_request(spec=make_spec(training={"max_steps": 1_000_000}))


def wait_for_step(child: Child, step: int) -> None:
    next(line for line in messages_of(child) if isinstance(line, MetricsMessage) and line.step >= step)


def test_stop_drains(start: Start, make_request: Callable[..., TrainingRequest]) -> None:
    child = start(endless(make_request))
    wait_for_step(child, 2)
    send(child, Stop(why="drain"))
    *_, checkpoint, last = messages_of(child)
    assert child.wait(timeout=20) == 0
    assert isinstance(last, Stopped)
    assert checkpoint.kind == "checkpoint"
    assert checkpoint.step == last.step >= 2
    assert (checkpoint.path / "state.json").exists()


def test_it_ends_when_its_parent_does(start: Start, make_request: Callable[..., TrainingRequest]) -> None:
    child = start(endless(make_request))
    wait_for_step(child, 1)
    assert child.stdin is not None
    child.stdin.close()
    closed = time.monotonic()
    assert child.wait(timeout=10) == PARENT_GONE
    assert time.monotonic() - closed < 5


def begin_long_work(make_request: Callable[..., TrainingRequest], tmp_path: Path, num_rows: int) -> TrainingRequest:
    """Return a request whose steps have many micro-batches."""
    rows = write_rows(tmp_path / "many.jsonl", num_rows=num_rows)
    return make_request(spec=make_spec(training={"max_steps": 100, "batch_size": 400}), dataset_path=rows)


def is_doing(what: str) -> Callable[[ChildMessage], bool]:
    return lambda line: isinstance(line, WorkStarted) and line.what.startswith(what)


def is_at_work(process: psutil.Process) -> bool:
    """Say whether the process runs. A zombie does not: its new parent may reap it late."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["the tokenization", "the loading", "the parity check", "the dry run", "step 1"])
def test_it_ends_with_its_parent_in_the_middle_of_whatever_it_does(
    moment: str, start: Start, make_request: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    num_rows = 20_000 if moment == "the tokenization" else 800  # 20,000 take seconds to tokenize
    child = start(begin_long_work(make_request, tmp_path, num_rows), by_command=True)  # a fork meets other moments
    next(line for line in messages_of(child) if is_doing(moment)(line))
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    if moment == "the tokenization":
        assert len(family) == 2, "must include the tokenizing process"
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()
    closed = time.monotonic()
    child.wait(timeout=10)
    while any(is_at_work(process) for process in family[1:]):
        assert time.monotonic() < closed + 10
        time.sleep(0.1)
    print(f"{moment}: gone after {time.monotonic() - closed:.2f} s")


def test_a_partial_line_from_a_dead_parent_ends_it_too(
    start: Start, make_request: Callable[..., TrainingRequest]
) -> None:
    child = start(endless(make_request))
    wait_for_step(child, 1)
    assert child.stdin is not None
    child.stdin.write('{"kind":"st')
    child.stdin.close()
    assert child.wait(timeout=10) == PARENT_GONE


def test_it_reports_the_rows_of_each_micro_batch(start: Start, make_request: Callable[..., TrainingRequest]) -> None:
    """Report the rows, so that the parent can name them if no message follows."""
    request = make_request(spec=make_spec(training={"max_steps": 2, "eval_every": 1}, validation_split=0.2))
    began = [line.what for line in messages_of(start(request)) if isinstance(line, WorkStarted)]
    steps = [what for what in began if what.startswith("step 2 ")]
    assert all(re.fullmatch(r"step 2 \(dataset rows [\d, ]+\)", what) for what in steps)
    named = {int(line) for what in steps for line in re.findall(r"(?<!step )\b\d+", what)}
    assert len(named) == request.spec.training.batch_size
    assert any(what.startswith("the evaluation after step 1 (dataset rows ") for what in began)
    parts = ["the tokenization", "the loading", "the parity check", "the dry run", "step 1", "the export of the result"]
    firsts = [next(number for number, what in enumerate(began) if what.startswith(part)) for part in parts]
    assert firsts == sorted(firsts)


def test_a_standby_process(start: Start, make_request: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    """Check that the process writes to the job's log and works in the job's folder, and that its tokenizing process
    has ended when it trains."""
    request = make_request(log_path=tmp_path / "job.log", spec=make_spec(training={"max_steps": 1_000_000}))
    child = start(Preload(base_model_path=request.base_model_path), by_command=True)
    ready = next(messages_of(child))
    assert ready == Ready(base_model_path=request.base_model_path)
    process = psutil.Process(child.pid)
    [tokenizing] = process.children()
    send(child, request)
    lines = []
    for line in messages_of(child):
        lines.append(line)
        if isinstance(line, MetricsMessage):
            break
    [started] = [line for line in lines if isinstance(line, Started)]
    assert 0 < started.parity_seconds < 60
    assert Path(process.cwd()) == request.work_dir
    assert {Path(f"/proc/{child.pid}/fd/{number}").readlink() for number in (1, 2)} == {request.log_path}
    tokenizing.wait(timeout=20)
    send(child, Stop(why="cancel"))
    assert isinstance(list(messages_of(child))[-1], Stopped)
    assert child.wait(timeout=20) == 0


def test_a_tokenizing_process_killed_while_idle_fails_no_job(
    start: Start, make_request: Callable[..., TrainingRequest]
) -> None:
    request = make_request(spec=make_spec(training={"max_steps": 2}))
    child = start(Preload(base_model_path=request.base_model_path))
    assert isinstance(next(messages_of(child)), Ready)
    [tokenizing] = psutil.Process(child.pid).children()
    tokenizing.kill()
    tokenizing.wait(timeout=10)
    send(child, request)
    assert isinstance(list(messages_of(child))[-1], Finished)


def test_an_idle_process_ends_when_its_parent_does(start: Start) -> None:
    child = start(Preload(base_model_path=None))
    assert next(messages_of(child)) == Ready(base_model_path=None)
    [tokenizing] = psutil.Process(child.pid).children()
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=10) == 0
    tokenizing.wait(timeout=10)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, {"PYTORCH_ALLOC_CONF": "backend:native"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}),
    ],
)
def test_the_allocator_has_expandable_segments_unless_the_user_sets_it(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    environ = dict(given)
    set_up(environ)
    assert {name: value for name, value in environ.items() if "ALLOC_CONF" in name} == expected
