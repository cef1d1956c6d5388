"""Checks the standby training process of a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.fixtures.tiny_models import build_tiny_model
from worker.processes.standby import StandbyProcess
from worker.processes.training import COMMAND, TrainingProcess

ROOT = Path(__file__).parents[2]
OWNER = """
import time
from worker.processes.standby import StandbyProcess
standby = StandbyProcess(wanted=True)
standby.start()
time.sleep(600)
"""


@pytest.fixture
def standby() -> Iterator[StandbyProcess]:
    kept = StandbyProcess(wanted=True)
    yield kept
    kept.close()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def trainers(parent: psutil.Process) -> list[psutil.Process]:
    return [child for child in parent.children() if command_line(child)[-1:] == ["worker.training"]]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def trainer(parent: psutil.Process) -> psutil.Process:
    """Wait for the training process: a process has no command line at the moment of its exec."""
    wait_until(lambda: bool(trainers(parent)))
    [found] = trainers(parent)
    return found


def test_the_next_standby_process_is_ready_for_the_last_jobs_model(standby: StandbyProcess, tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    assert standby.take(model) is None
    standby.start()
    process = trainer(psutil.Process())
    standby.start()
    assert trainers(psutil.Process()) == [process], "there must be one standby process"
    child = standby.take(model)
    assert child is not None
    assert child.pid == process.pid
    wait_until(lambda: child.ready is not None)
    assert child.ready is not None
    assert child.ready.base_model_path == model
    assert Path(process.cwd()) == Path("/")
    assert standby.take(model) is None, "a standby process serves one job"
    below = process.children()
    assert len(below) == 1
    child.end()
    assert not psutil.pid_exists(child.pid)
    for each in below:
        each.wait(timeout=10)


def test_a_dead_standby_process_is_not_used(standby: StandbyProcess, tmp_path: Path) -> None:
    standby.start()
    process = trainer(psutil.Process())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    assert standby.take(tmp_path) is None
    standby.start()
    assert trainers(psutil.Process()) == [], "a process that failed must not start again at once"


def test_closing_ends_the_standby_process(standby: StandbyProcess) -> None:
    standby.start()
    process = trainer(psutil.Process())
    standby.close()
    assert not process.is_running()
    standby.start()
    assert trainers(psutil.Process()) == []


def test_no_process_is_kept_when_none_is_wanted(tmp_path: Path) -> None:
    standby = StandbyProcess(wanted=False)
    standby.start()
    assert standby.take(tmp_path) is None


def test_a_killed_worker_leaves_no_standby_process() -> None:
    owner = psutil.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        process = trainer(owner)
        wait_until(lambda: bool(process.children()))
        family = [process, *process.children()]
    finally:
        owner.kill()
        owner.wait()
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_the_training_process_is_given_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
    for name in (*secrets, "TUNEWRIGHT_API_KEY"):
        monkeypatch.setenv(name, "secret-word")
    monkeypatch.setattr("worker.processes.training.COMMAND", ("/bin/sh", "-c", "env >&2"))
    child = TrainingProcess.logging_to(tmp_path / "training.log")
    wait_until(lambda: not child.is_alive())
    child.end()
    log = (tmp_path / "training.log").read_text()
    assert "PYTHONPATH=" in log
    assert "secret-word" not in log


def test_the_first_output_of_a_jobs_process_is_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's user sees why a process could not import its modules."""
    monkeypatch.setattr("worker.processes.training.COMMAND", ("/usr/bin/env", *COMMAND[1:]))
    child = TrainingProcess.logging_to(tmp_path / "training.log")
    wait_until(lambda: not child.is_alive())
    child.end()
    assert "invalid option" in (tmp_path / "training.log").read_text()
