"""Runs pytest with the budgets: it lists what is slow, and fails for a file that takes too long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import budgets
from tests.budgets import BUDGETS, SHARED_STACK, scope_of

ROOT = Path(__file__).parents[2]
CONFTEST = """
import time
import pytest
from tests import budgets

budgets.slowness = lambda: 1.0

def pytest_configure(config):
    given = {"test_stated.py": budgets.Budget(3, "it sleeps")}
    config.pluginmanager.register(budgets.Budgets(given, file_seconds=0.2))

@pytest.fixture(scope="session")
def server():
    time.sleep(1)
"""
SLEEPING = "import time\n\ndef test_it():\n    time.sleep(0.8)\n"
SHARING = "def test_it(server):\n    pass\n"


def run(folder: Path, *options: str) -> tuple[int, str]:
    """Run pytest on the folder's tests, apart from this suite; return its exit status and output."""
    (folder / "conftest.py").write_text(CONFTEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        *options,
        str(folder),
    ]
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "options", [(), ("-p", "xdist.plugin", "-n", "2", "--dist", "loadfile")], ids=["alone", "in two"]
)
def test_a_file_that_takes_too_long_without_a_budget_fails_the_run(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_stated.py").write_text(SLEEPING.replace("0.8", "1.1"))
    (tmp_path / "test_sharing.py").write_text(SHARING)
    status, output = run(tmp_path, *options)
    assert status == 0, output
    assert output.index("the 20 slowest files") < output.index("s  test_stated.py\n"), output
    (tmp_path / "test_sleeping.py").write_text(SLEEPING)
    status, output = run(tmp_path, *options)
    assert status == 1
    assert "3 passed" in output
    assert "test_sleeping.py took 1 s and may take 1 s here: make it quicker, or give it a budget" in output
    assert output.count("and may take") == 1


def test_the_longest_files_run_first(tmp_path: Path) -> None:
    for name in ("test_a.py", "test_stated.py"):
        (tmp_path / name).write_text(SHARING)
    output = run(tmp_path, "-v")[1]
    assert output.index("test_stated.py::") < output.index("test_a.py::")


def test_every_budget_belongs_to_an_existing_file() -> None:
    for file, budget in BUDGETS.items():
        assert (ROOT / file).exists(), file
        assert budget.seconds > budgets.FILE_SECONDS, f"{file} needs no budget"


def test_files_that_share_a_stack_run_in_one_process() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / SHARED_STACK).rglob("test_*.py")}
    alone = {file for file in files if scope_of(f"{file}::test_it") == file}
    with_own_stack = {
        file for file in files if "make_stack" in (text := (ROOT / file).read_text()) or "own_stack" in text
    }
    assert alone == with_own_stack
