"""Tests the supervisor with small programs. It runs in a separate process, since it handles signals and orphans."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.local import orphans

Spawn = Callable[..., subprocess.Popen[str]]

SUPERVISE = """
import sys
from pathlib import Path
from app.local.signals import block_signals, Waits
block_signals()
from app.local.child import ChildSpec
from app.local.errors import StopRequested
from app.local.supervisor import Supervisor
data = Path(sys.argv[1])
(data / "logs").mkdir()
supervisor = Supervisor(data, Waits())
try:
    for stage, (name, code) in enumerate(zip(sys.argv[2::2], sys.argv[3::2], strict=True)):
        command = [sys.executable, "-S", "-c", code, str(data / name)]
        supervisor.start(ChildSpec(name, command, stage=stage, stop_seconds=2))
    print("watching", flush=True)
    supervisor.watch()
except StopRequested:
    supervisor.stop()
    print("stopped", flush=True)
"""
MARK_START = "import os, sys, time, signal; open(sys.argv[1], 'a').write(str(os.getpid()) + chr(10)); "
SLEEP = MARK_START + "time.sleep(600)"
DIE = MARK_START + "sys.exit('broken')"
DEAF = MARK_START + "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1] + '.deaf', 'w'); time.sleep(600)"
NESTED = (
    "import os, sys, time, subprocess; "
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True); "
    "open(sys.argv[1], 'a').write(f'{child.pid}\\n{os.getpid()}\\n'); time.sleep(600)"
)
RECORD_END = """
import signal, sys, time
from pathlib import Path
me = Path(sys.argv[1])
def record_signal(*_):
    with me.with_name("order").open("a") as order:
        order.write(me.name)
    sys.exit()
signal.signal(signal.SIGTERM, record_signal)
me.write_text("ready")
time.sleep(600)
"""


def read_pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_grandchildren_too(
    tmp_path: Path, spawn: Spawn, eventually: Callable[..., None], number: signal.Signals
) -> None:
    supervisor = spawn("-c", SUPERVISE, str(tmp_path), "nested", NESTED)
    eventually(lambda: len(read_pids(tmp_path / "nested")) == 2)
    supervisor.send_signal(number)
    out, _ = supervisor.communicate(timeout=10)
    assert (supervisor.returncode, out) == (0, "watching\nstopped\n")
    assert not any(map(is_alive, read_pids(tmp_path / "nested")))


def test_children_end_in_the_order_of_their_stages(
    tmp_path: Path, spawn: Spawn, eventually: Callable[..., None]
) -> None:
    supervisor = spawn("-c", SUPERVISE, str(tmp_path), *("p", RECORD_END), *("r", RECORD_END), *("a", RECORD_END))
    eventually(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "pra"))
    supervisor.terminate()
    supervisor.communicate(timeout=10)
    assert (tmp_path / "order").read_text() == "arp"


def test_a_child_that_dies_is_restarted_and_reported_in_one_line(
    tmp_path: Path, spawn: Spawn, eventually: Callable[..., None]
) -> None:
    supervisor = spawn("-c", SUPERVISE, str(tmp_path), "steady", SLEEP, "broken", DIE)
    eventually(lambda: len(read_pids(tmp_path / "broken")) == 3)
    (steady,) = read_pids(tmp_path / "steady")
    os.kill(steady, signal.SIGKILL)
    eventually(lambda: len(read_pids(tmp_path / "steady")) == 2)
    supervisor.terminate()
    _, err = supervisor.communicate(timeout=10)
    broken = [line for line in err.splitlines() if "broken" in line]
    log = tmp_path / "logs/broken.log"
    assert broken[:2] == [
        f"tunewright: broken ended (exit code 1); restarting it in {seconds} s; see {log}" for seconds in (1, 2)
    ]
    assert f"steady ended (SIGKILL); restarting it in 1 s; see {tmp_path}/logs/steady.log" in err
    assert log.read_text().startswith("broken\n")


def test_a_child_that_ignores_the_signal_is_killed_at_once_after_a_second_one(
    tmp_path: Path, spawn: Spawn, eventually: Callable[..., None]
) -> None:
    supervisor = spawn("-c", SUPERVISE, str(tmp_path), "deaf", DEAF)
    eventually(lambda: (tmp_path / "deaf.deaf").exists())
    supervisor.terminate()
    supervisor.terminate()
    supervisor.communicate(timeout=10)
    assert not any(map(is_alive, read_pids(tmp_path / "deaf")))


def test_children_end_with_their_killed_supervisor(
    tmp_path: Path, spawn: Spawn, eventually: Callable[..., None]
) -> None:
    supervisor = spawn("-c", SUPERVISE, str(tmp_path), "steady", SLEEP)
    eventually(lambda: read_pids(tmp_path / "steady"))
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: not any(map(is_alive, read_pids(tmp_path / "steady"))), seconds=5)


def reap(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.poll()


def test_marked_processes_of_an_earlier_stack_are_found_and_ended(tmp_path: Path) -> None:
    """Processes are found by their environment, or by their command if the environment is not readable."""
    command = ["sleep", "600"]
    marked = [sys.executable, "-X", orphans.format_mark(tmp_path), "-c", "import time; time.sleep(600)"]
    with (
        subprocess.Popen(command, env={orphans.MARK: str(tmp_path), "PATH": os.defpath}) as ours,
        subprocess.Popen(marked, env={}) as program,
        subprocess.Popen(command, env={orphans.MARK: f"{tmp_path}/other", "PATH": os.defpath}) as stranger,
    ):
        assert sorted(orphans.find_marked(tmp_path)) == sorted([ours.pid, program.pid])
        orphans.end_processes(
            lambda: orphans.find_marked(tmp_path), signal.SIGTERM, 5, sleep=lambda _: reap(ours, program)
        )
        assert [ours.wait(5), program.wait(5)] == [-signal.SIGTERM] * 2
        assert stranger.poll() is None
        stranger.kill()
