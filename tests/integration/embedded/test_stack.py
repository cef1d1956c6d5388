"""Tests the local stack as an operator starts it: `python -m app.local`."""

import fcntl
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Spawn = Callable[..., subprocess.Popen[str]]


def read_refusal(spawn: Spawn, *flags: str, **environment: str) -> str:
    """Start a stack that must fail; return the only line that it prints."""
    process = spawn("-m", "app.local", *flags, **environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    return err.rstrip()


def test_a_port_in_use_is_reported_before_anything_starts(public_folder: Path, spawn: Spawn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert read_refusal(spawn, "--data-dir", str(public_folder / "data"), "--port", str(port)) == (
            f"tunewright: port {port} on 127.0.0.1 is in use by another program; "
            "choose another with --port or TUNEWRIGHT_PORT (0 selects a free one)"
        )
    assert not (public_folder / "data/postgres").exists()


def test_a_running_stack_is_named(public_folder: Path, spawn: Spawn) -> None:
    (public_folder / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:8400", "pid": 4242}))
    with (public_folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = read_refusal(spawn, "--data-dir", str(public_folder), "--port", "0")
    assert line == (
        f"tunewright: a stack is already running on the data folder {public_folder}: "
        "http://127.0.0.1:8400, process 4242; "
        "stop it, or choose another with --data-dir"
    )


def test_a_stack_that_is_still_starting_is_named(public_folder: Path, spawn: Spawn) -> None:
    with (public_folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = read_refusal(spawn, "--data-dir", str(public_folder), "--port", "0")
    assert "a stack is already starting" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--data-dir", "/proc/tunewright"), "cannot use the data folder /proc/tunewright: "),
        (("--host", "256.0.0.1"), "cannot listen on 256.0.0.1 port 0: "),
        (("--port", "99999"), "setting port: Input should be less than or equal to 65535"),
    ],
)
def test_an_unusable_setting_gives_one_line(
    public_folder: Path, spawn: Spawn, flags: tuple[str, ...], words: str
) -> None:
    line = read_refusal(spawn, *flags, TUNEWRIGHT_DATA_DIR=str(public_folder), TUNEWRIGHT_PORT="0")
    assert line.startswith(f"tunewright: {words}")


def test_given_servers_are_used_and_none_are_started(public_folder: Path, spawn: Spawn) -> None:
    given = {
        "DATABASE_URL": f"postgresql+psycopg://nobody@/nothing?host={public_folder}",
        "REDIS_URL": f"unix://{public_folder}/none.sock?db=0",
    }
    process = spawn("-m", "app.local", "--data-dir", str(public_folder), "--port", "0", **given)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "migrate failed (exit code 1)" in err
    assert str(public_folder / ".s.PGSQL.5432") in err
    assert not (public_folder / "postgres").exists()
    assert not (public_folder / "redis").exists()
