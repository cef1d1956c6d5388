"""Checks that tests also pass when they are started by `nohup`, or in the background of a script."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import signal, subprocess, sys
from tests.fixtures.signals import let_children_hear
let_children_hear()
number = int(sys.argv[1])
signal.raise_signal(number)
child = subprocess.Popen(["sleep", "60"])
child.send_signal(number)
print(child.wait())
"""


@pytest.mark.parametrize("name", ["INT", "HUP"])
def test_a_child_receives_the_signals_that_the_run_ignores(name: str) -> None:
    ignoring = f"trap '' {name}; exec \"$@\""
    number = {"INT": 2, "HUP": 1}[name]
    command = ["sh", "-c", ignoring, "sh", sys.executable, "-c", SCRIPT, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == -number
