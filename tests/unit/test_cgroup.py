"""Reads the kernel's count of the processes that it killed because memory ran out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.processes.cgroup import OutOfMemoryKills, find_counter

ROOT = Path(__file__).parents[2]
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {root}/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 {seen} {root}/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "29 23 0:26 {seen} {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HUNGRY = """
import os, sys
from pathlib import Path
(Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))
from worker.processes.training import TrainingProcess
from worker.attempt.watchdog import explain_exit
child = TrainingProcess.logging_to(Path(sys.argv[2]))
child.log_path = Path(sys.argv[2])
assert child.messages.get(timeout=120) is None
child.wait_for_exit()
code = child.end()
print(code, child.killed, explain_exit(None, child, code).reason, sep="|")
"""


def write_proc(tmp_path: Path, mounts: str, groups: str, seen: str = "/") -> tuple[Path, Path]:
    """Write a /proc with the two files of the kernel; return it and the folder that its mounts name."""
    proc, root = tmp_path / "proc", tmp_path / "groups"
    for folder in (proc / "7", proc / "self", root):
        folder.mkdir(parents=True)
    (proc / "7/cgroup").write_text(groups)
    (proc / "self/mountinfo").write_text(mounts.format(root=root, seen=seen))
    return proc, root


def write_counter(folder: Path, name: str, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return folder / name


def test_the_counter_of_cgroup_version_2(tmp_path: Path) -> None:
    proc, root = write_proc(tmp_path, V2_MOUNTS, "0::/system.slice/worker.service\n")
    counter = write_counter(root / "system.slice/worker.service", "memory.events", "low 0\noom 3\noom_kill 2\n")
    assert find_counter(7, proc) == counter
    kills = OutOfMemoryKills(counter)
    assert not kills.have_risen()
    counter.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert kills.have_risen()


def test_the_counter_of_cgroup_version_1_with_an_empty_version_2(tmp_path: Path) -> None:
    proc, root = write_proc(tmp_path, V1_MOUNTS, "4:memory:/jobs/x\n1:cpu,cpuacct:/\n0::/\n")
    write_counter(root / "unified", "cgroup.procs", "")
    counter = write_counter(
        root / "memory/jobs/x", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"
    )
    assert find_counter(7, proc) == counter
    kills = OutOfMemoryKills(counter)
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert kills.have_risen()


def test_the_counter_in_a_container_that_sees_its_group_as_the_root(tmp_path: Path) -> None:
    proc, root = write_proc(tmp_path, V1_MOUNTS, "4:memory:/docker/abc\n", seen="/docker/abc")
    counter = write_counter(root / "memory", "memory.oom_control", "oom_kill 5\n")
    assert find_counter(7, proc) == counter


def test_without_a_counter_no_kill_is_reported(tmp_path: Path) -> None:
    proc, _ = write_proc(tmp_path, V2_MOUNTS, "0::/\n")  # the root group has no such file
    assert find_counter(7, proc) is None
    assert not OutOfMemoryKills(None).have_risen()


@pytest.fixture
def small_group() -> Iterator[Path]:
    """Make a control group with less memory than a worker and torch's import need together, and twice what a worker
    needs. Which process the kernel kills is decided long before memory runs out."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    group = root / f"tunewright-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(200 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    until = time.monotonic() + 10
    while group.exists():
        try:
            group.rmdir()
        except OSError:  # a killed process has not ended yet
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_child_that_the_kernel_kills_is_recognised_and_its_worker_survives(small_group: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HUNGRY, str(small_group), str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{-signal.SIGKILL}|False|out_of_memory"
