"""Checks which local folders of attempts are in use."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.host.work_folders import find_abandoned_attempts, hold_folder

ROOT = Path(__file__).parents[2]
WORK = """
import pathlib, shutil, sys
from worker.host.work_folders import hold_folder
folder = pathlib.Path(sys.argv[1])
with hold_folder(folder):
    (folder / "state.bin").write_bytes(bytes(1000))
    print("at work", flush=True)
    sys.stdin.read()
    shutil.rmtree(folder)
"""


def clear(work: Path) -> None:
    for folder in find_abandoned_attempts(work):
        shutil.rmtree(folder)


Begin = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Return a function that starts a process, which works in a folder until its input ends."""
    processes: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORK, str(folder)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_killed_workers_folder_is_removed_and_a_live_workers_stays(tmp_path: Path, begin: Begin) -> None:
    dead, live = tmp_path / "default/ftjob-1/1", tmp_path / "default/ftjob-1/2"
    other = tmp_path / "default/ftjob-2/1"
    killed, working, another = begin(dead), begin(live), begin(other)
    clear(tmp_path)
    assert (dead / "state.bin").exists()
    for process in (killed, another):
        process.kill()
        process.wait()
    clear(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "default",
        "default/ftjob-1",
        "default/ftjob-1/2",
        "default/ftjob-1/2.lock",
        "default/ftjob-1/2/state.bin",
    }
    working.communicate()
    assert working.returncode == 0
    assert list(tmp_path.glob("default/*")) == [], "a worker that ends removes its folder"


def test_a_stopped_worker_keeps_its_folder(tmp_path: Path, begin: Begin) -> None:
    process = begin(folder := tmp_path / "default/ftjob-1/1")
    process.send_signal(signal.SIGSTOP)
    clear(tmp_path)
    assert (folder / "state.bin").exists()


def test_a_folder_without_a_lock_file_is_abandoned(tmp_path: Path) -> None:
    (tmp_path / "default/ftjob-1/1/checkpoints").mkdir(parents=True)
    (tmp_path / "default/ftjob-2").mkdir()
    (tmp_path / "default/ftjob-2/7.lock").touch()
    (tmp_path / "notes").mkdir()
    clear(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"default", "notes"}
    clear(tmp_path / "nowhere")


def test_an_abandoned_folder_that_is_kept_is_found_again(tmp_path: Path) -> None:
    """Saving its files may have to wait."""
    (tmp_path / "default/ftjob-1/1").mkdir(parents=True)
    assert list(find_abandoned_attempts(tmp_path)) == [tmp_path / "default/ftjob-1/1"]
    assert list(find_abandoned_attempts(tmp_path)) == [tmp_path / "default/ftjob-1/1"]


def test_attempts_begin_and_end_while_others_remove_abandoned_folders(tmp_path: Path) -> None:
    """A folder exists as long as it is held, even while lock files are created and removed."""
    stop, failures = threading.Event(), []

    def clearing() -> None:
        while not stop.is_set():
            clear(tmp_path)

    def work(name: str) -> None:
        try:
            for number in range(200):
                with hold_folder(folder := tmp_path / "default/ftjob-1" / f"{name}{number % 3}"):
                    (folder / "file").write_text(name)
                    assert (folder / "file").read_text() == name
                    shutil.rmtree(folder)
        except BaseException as error:
            failures.append(error)

    cleaners = [threading.Thread(target=clearing) for _ in range(2)]
    workers = [threading.Thread(target=work, args=(name,)) for name in "123"]
    for thread in cleaners + workers:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    for thread in cleaners:
        thread.join()
    assert failures == []
    clear(tmp_path)
    assert list(tmp_path.glob("default/*")) == []
