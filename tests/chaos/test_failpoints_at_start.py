"""The supervisor, or a program that it runs before it is ready, is killed with SIGKILL at each step of a first start.
Restarted, it continues until the stack serves. The steps are chosen as in `test_failpoints`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.local.child import LOG_BYTES
from tests.acceptance.conftest import ROOT, Stack, environment, stop_stack
from tests.chaos.test_failpoints import SEED, chosen

STEPS = ("create_cluster", "keep_cluster", "create_role", "create_database", "ask_redis_version", "rotate_log")
AS_ROOT = ("keep_programs",) if os.geteuid() == 0 else ()
IN_CHILDREN = ("migrate", "ensure_first_project", "create_key")
"""If one of these is killed, the supervisor ends too and reports why."""
PLACES = [f"{step}:kill" for step in (*STEPS, *AS_ROOT, *IN_CHILDREN)]
# The first key; the first process, one in the middle and the last, which is the 7th once the key exists.
PLACES += ["write_private:kill@1", "start_process:kill@1", "start_process:kill@5", "start_process:kill@7"]
TERMS = [f"{when}_{place}" for place in PLACES for when in ("before", "after")]
CHOSEN = chosen(TERMS, ("before_keep_cluster:kill", "after_migrate:kill"))


@pytest.fixture
def data() -> Iterator[Path]:
    """Return a data folder with a log that is due for rotation."""
    with tempfile.TemporaryDirectory(prefix="tunewright-failpoints-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        (data / "logs").mkdir(parents=True, mode=0o700)
        data.chmod(0o711)
        os.truncate(_touched(data / "logs" / "api.log"), LOG_BYTES + 1)
        yield data


def _touched(path: Path) -> Path:
    path.touch()
    return path


def start(data: Path, terms: list[str], fired: Path) -> Stack | int:
    """Return the stack once it serves and has printed so, or the exit code of a supervisor that died before."""
    asked = {"FAILPOINT": ",".join(terms), "FAILPOINT_ONCE": str(fired)}
    with data.with_name("log").open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "app.local", "--data-dir", str(data), "--port", "0"],
            cwd=ROOT, env=environment(data) | asked, stdout=log, stderr=log,
        )  # fmt: skip
    until = time.monotonic() + 90
    while (code := process.poll()) is None:
        assert time.monotonic() < until, data.with_name("log").read_text()
        if b" is ready at " in data.with_name("log").read_bytes()[begin:]:
            return Stack(data, process, json.loads((data / "server.json").read_text()))
        time.sleep(0.05)
    return code


def finish(data: Path, terms: list[str]) -> tuple[Stack, list[int]]:
    """Start the stack repeatedly until it serves. Return it with the exit codes of the earlier starts."""
    fired = Path(tempfile.mkdtemp(prefix="fired-", dir=data.parent))
    ends: list[int] = []
    while not isinstance(stack := start(data, terms, fired), Stack):
        ends.append(stack)
        assert len(ends) <= len(terms), data.with_name("log").read_text()
    assert {path.name for path in fired.iterdir()} == set(terms)
    return stack, ends


@pytest.mark.ops
def test_a_first_start_killed_at_each_step_is_finished_by_the_next(data: Path) -> None:
    print(f"TUNEWRIGHT_FAILPOINT_SEED={SEED}: {CHOSEN}")
    stack, ends = finish(data, CHOSEN)
    killed_itself = [term for term in CHOSEN if not any(step in term for step in IN_CHILDREN)]
    assert ends.count(-9) == len(killed_itself)
    with stack.client() as client:
        assert list(client.list_jobs()) == []
    stop_stack(stack)
    if once_kept := [term for term in CHOSEN if "write_private" in term]:
        # The key is stored now, so `server.json` is written first.
        stack, ends = finish(data, once_kept)
        assert ends == [-9] * len(once_kept)
        stop_stack(stack)
    assert not [found for process in psutil.process_iter() if str(data) in (found := " ".join(words(process)))]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
