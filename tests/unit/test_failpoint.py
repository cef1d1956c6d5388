"""Checks in a separate process that a failpoint does exactly what FAILPOINT asks, and nothing otherwise."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import failpoints

ROOT = Path(__file__).parents[2]


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from app.failpoints import around, reach\n{script}"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


def test_an_empty_variable_does_nothing() -> None:
    done = run("reach('after_claim'); print('on')", FAILPOINT="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_failpoint_can_kill_at_its_second_time() -> None:
    done = run("for _ in range(3): print('by', flush=True); reach('after_claim')", FAILPOINT="after_claim:kill@2")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "by\nby\n"
    assert "failpoint after_claim:kill@2" in done.stderr


def test_a_failpoint_can_exit_raise_or_sleep() -> None:
    assert run("reach('a')", FAILPOINT="b:kill, a:exit").returncode == 1
    raised = run("reach('a')", FAILPOINT="a:raise")
    assert raised.returncode == 1
    assert "OSError: [Errno 5] failpoint a" in raised.stderr
    slept = run("import time; t = time.monotonic(); reach('a'); print(time.monotonic() - t)", FAILPOINT="a:sleep=0.2")
    assert float(slept.stdout) >= 0.2


def test_stop_halts_the_process_until_it_is_continued() -> None:
    script = "from app.failpoints import reach\nprint('by', flush=True); reach('a'); print('on')"
    variables = os.environ | {"FAILPOINT": "a:stop"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
    )
    stat = Path(f"/proc/{process.pid}/stat")
    ends = time.monotonic() + 30
    while stat.read_text().rsplit(")")[1].split()[0] != "T":
        assert time.monotonic() < ends
        time.sleep(0.05)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30) == ("by\non\n", None)


def test_a_failpoint_that_fired_in_an_earlier_process_does_not_fire_again(tmp_path: Path) -> None:
    variables = {"FAILPOINT": "a:exit,b:exit", "FAILPOINT_ONCE": str(tmp_path)}
    assert run("reach('a')", **variables).returncode == 1
    assert run("reach('a')", **variables).returncode == 0
    assert run("reach('a'); reach('b')", **variables).returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a:exit", "b:exit"]


def test_around_does_not_reach_the_second_failpoint_after_an_error() -> None:
    failed = run("with around('claim'): raise SystemExit(7)", FAILPOINT="after_claim:exit")
    assert failed.returncode == 7
    assert run("with around('claim'): raise SystemExit(7)", FAILPOINT="before_claim:exit").returncode == 1
    killed = run("with around('claim'): print('claimed', flush=True)", FAILPOINT="after_claim:kill")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "claimed\n")


@pytest.mark.parametrize("words", ["after_claim", "after_claim:die", "a:kill@0", "a:sleep"])
def test_a_malformed_failpoint_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="is not name:action"):
        failpoints.arm({"FAILPOINT": words})
    failpoints.arm({})
