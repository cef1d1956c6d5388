"""Checks that the API's log under `tunewright up` does not grow without limit while the process runs."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
from pathlib import Path
import app.local.child
from app.local import api

print("first", file=sys.stderr)
os.write(2, b"x" * (app.local.child.LOG_BYTES + 1) + b"\\n")
api.begin_log(Path(sys.argv[1]))
print("second", file=sys.stderr, flush=True)
print("third", flush=True)
"""


def test_a_large_log_is_rotated_while_the_process_runs(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with log.open("ab") as file:
        command = [sys.executable, "-c", SCRIPT, str(log)]
        subprocess.run(command, stdout=file, stderr=file, check=True)
    assert log.read_text().splitlines() == ["second", "third"]
    old = log.with_suffix(".log.1").read_bytes()
    assert old.startswith(b"first\n")
    assert len(old) > 10 * 2**20
