"""Tests the explanation of a training process's death, with a small program as the process."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.jobs.state import FailureReason
from worker.attempt.watchdog import explain_exit
from worker.processes.cgroup import OutOfMemoryKills
from worker.processes.training import TrainingProcess
from worker.training.runtime.messages import Failed

DYING = "import sys, time; print('its last line', file=sys.stderr, flush=True); time.sleep(60)"


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingProcess]:
    """Yield a process that has logged its last line, in a control group with a count of 2."""
    monkeypatch.setattr("worker.processes.training.COMMAND", (sys.executable, "-S", "-c", DYING))
    (tmp_path / "memory.events").write_text("oom 2\noom_kill 2\n")
    child = TrainingProcess.logging_to(tmp_path / "training.log")
    child.log_path = tmp_path / "training.log"
    child.memory = OutOfMemoryKills(tmp_path / "memory.events")
    until = time.monotonic() + 20
    while not child.log_tail():
        assert time.monotonic() < until
        time.sleep(0.02)
    yield child
    child.end()


def ended(child: TrainingProcess) -> Failed:
    assert child.messages.get(timeout=20) is None
    child.wait_for_exit()
    found = explain_exit(None, child, child.end())
    assert isinstance(found, Failed)
    return found


def test_a_killed_process_is_reported_with_the_signal_and_the_logs_end(child: TrainingProcess) -> None:
    child._process.send_signal(signal.SIGKILL)
    failed = ended(child)
    assert failed.reason is FailureReason.training_process_died
    assert failed.message == "The training process was killed by signal 9. Last lines of its log:\nits last line"


def test_a_process_that_the_kernel_killed_ran_out_of_memory(child: TrainingProcess, tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 3\n")
    child._process.send_signal(signal.SIGKILL)
    failed = ended(child)
    assert failed.reason is FailureReason.out_of_memory
    assert "max_seq_len" in failed.message
    assert failed.message.endswith("its last line")


def test_another_signal_is_no_lack_of_memory_whatever_was_counted(child: TrainingProcess, tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 3\n")
    child._process.send_signal(signal.SIGTERM)
    assert ended(child).reason is FailureReason.training_process_died


def test_nor_is_our_own_kill(child: TrainingProcess, tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 3\n")
    child.kill()
    assert ended(child).reason is FailureReason.training_process_died
