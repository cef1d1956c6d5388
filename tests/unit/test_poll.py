"""Checks that the worker's poll survives any exception: it starts jobs when no wake-up arrives."""

import os
import subprocess
import sys
from pathlib import Path

POLL = """
from worker.celery_app import draining
from worker.poller import poll

looks = []

def look():
    looks.append(1)
    if len(looks) == 3:
        draining.set()
    raise OSError(28, "No space left on device")

poll([look])
assert len(looks) == 3
"""


def test_a_failed_look_is_repeated() -> None:
    """Run in a separate process, because the poll ends by the event of the whole worker."""
    environment = os.environ | {"TUNEWRIGHT_POLL_SECONDS": "0.01"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", POLL], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No space left on device") == 3
