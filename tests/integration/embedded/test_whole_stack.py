"""Tests the whole stack, started and stopped as an operator does it."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from app.local import orphans

pytestmark = pytest.mark.ops

Eventually = Callable[..., None]
Start = Callable[..., subprocess.Popen[str]]
TRACING_CAPABILITIES = "-sys_ptrace,-perfmon,-sys_admin,-checkpoint_restore"
AS_PLAIN_USER = ("setpriv", f"--bounding-set={TRACING_CAPABILITIES}") if os.geteuid() == 0 else ()
"""Precedes a command. Without these capabilities, root can read no more of a process than its user can."""
MARKER = "a-password-of-the-service"
READ = "import sys; print(open(sys.argv[1], 'rb').read())"


@pytest.fixture
def data(public_folder: Path) -> Path:
    return public_folder / "data"


@pytest.fixture
def start(data: Path, spawn: Callable[..., subprocess.Popen[str]], eventually: Eventually) -> Iterator[Start]:
    """Return a function that starts the stack and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        supervisor = spawn("-m", "app.local", "--data-dir", str(data), "--port", "0", prefix=prefix, **environment)
        started.append(supervisor)
        assert supervisor.stdout
        greeting = "".join(supervisor.stdout.readline() for _ in range(7))
        assert f" is ready at {url_of(data)} " in greeting
        assert f"The API key is in {data / 'api_key'}" in greeting
        assert f"export TUNEWRIGHT_DATA_DIR={data}\n" in greeting
        return supervisor

    yield start
    for supervisor in started:
        supervisor.kill()
    eventually(lambda: not find_processes_left(data), seconds=60)


def find_processes_left(data: Path) -> list[int]:
    servers = [orphans.find_processes(folder, *names) for folder, *names in server_folders(data)]
    return sum(servers, orphans.find_marked(data))


def server_folders(data: Path) -> list[tuple[Path, str, str]]:
    return [(data / "postgres", "postgres", "postgres")] + [
        (folder, "redis-server", "valkey-server") for folder in (data / "redis").glob("*")
    ]


def url_of(data: Path) -> str:
    return str(json.loads((data / "server.json").read_text())["url"])


def list_jobs(data: Path) -> httpx2.Response:
    key = (data / "api_key").read_text().strip()
    return httpx2.get(f"{url_of(data)}/jobs", headers={"Authorization": f"Bearer {key}"}, timeout=20, trust_env=False)


def test_the_stack_starts_restarts_a_killed_api_and_stops(
    data: Path, start: Start, spawn: Callable[..., subprocess.Popen[str]], eventually: Eventually
) -> None:
    supervisor = start()
    assert stat.S_IMODE((data / "api_key").stat().st_mode) == 0o600
    assert list_jobs(data).status_code == 200
    server = json.loads((data / "server.json").read_text())
    assert server["pid"] == supervisor.pid
    with sa.create_engine(server["database_url"], poolclass=sa.NullPool).connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM api_keys")).scalar() == 1

    second = spawn("-m", "app.local", "--data-dir", str(data), "--port", "0")
    _, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"already running on the data folder {data}: {url_of(data)}, process {supervisor.pid};" in err

    (api,) = [pid for pid in orphans.find_marked(data) if "app.local.api" in command_of(pid)]
    os.kill(api, signal.SIGKILL)
    assert list_jobs(data).status_code == 200, "the port stays open while the API restarts"

    supervisor.send_signal(signal.SIGINT)
    _, err = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 0
    assert "api ended (SIGKILL); restarting it in 1 s" in err
    assert find_processes_left(data) == []
    assert not (data / "server.json").exists()


def test_a_stack_starts_again_after_its_supervisor_was_killed(data: Path, start: Start, eventually: Eventually) -> None:
    """It first runs as a plain user. Other programs of that user, such as a training, cannot read its secrets."""
    supervisor = start(AS_PLAIN_USER, WANDB_API_KEY=MARKER)
    key = (data / "api_key").read_text()
    check_secrets_are_unreadable([supervisor.pid, *orphans.find_marked(data)], eventually)
    supervisor.kill()
    supervisor.wait()
    again = start()  # with all capabilities: the servers left behind may belong to another user
    assert (data / "api_key").read_text() == key
    assert list_jobs(data).status_code == 200
    again.terminate()
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert find_processes_left(data) == []


def check_secrets_are_unreadable(pids: list[int], eventually: Eventually) -> None:
    """A process makes its memory private while it starts; the stack is ready before its workers are."""
    commands = " ".join(map(command_of, pids))
    programs = re.findall(r" (app\.local|app\.local\.api|app\.dispatcher|celery) ", commands)
    assert sorted(programs) == ["app.dispatcher", "app.local", "app.local.api", "celery", "celery"]

    def read(file: str) -> subprocess.CompletedProcess[str]:
        reader = [*AS_PLAIN_USER, sys.executable, "-c", READ, file]
        return subprocess.run(reader, env={"WANDB_API_KEY": MARKER}, capture_output=True, text=True)

    assert MARKER in read("/proc/self/environ").stdout
    for pid in pids:
        eventually(lambda pid=pid: "PermissionError" in read(f"/proc/{pid}/environ").stderr, seconds=30)
    for pid in pids:
        for file in ("environ", "maps", "mem"):
            refused = read(f"/proc/{pid}/{file}")
            assert "PermissionError" in refused.stderr, (command_of(pid), file, refused.stdout)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
