"""Small versions of the runs of `make chaos`, and the proof that the consistency check finds what a guard prevents.
`make chaos` disables each guard in turn, over all its jobs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.guards import SEEN

ROOT = Path(__file__).parents[2]
SEED = 2857


def run(module: str, out: Path, *options: str, seed: int = SEED) -> dict[str, Any]:
    """Run the module in a separate process, which adopts the orphans of the processes that it kills."""
    command = [sys.executable, "-m", module, "--seed", str(seed), "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert out.exists(), done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    missed = [name for name, bar in report.get("bars", {}).items() if bar["verdict"] == "missed"]
    assert done.returncode == (1 if report["damage"] or missed else 0)
    return report


@pytest.mark.slow
def test_twelve_jobs_under_faults_leave_consistent_data(tmp_path: Path) -> None:
    report = run("tests.chaos", tmp_path / "report.json", "--jobs", "12", "--real", "0")
    assert report["damage"] == []
    assert report["num_jobs"] == 12
    assert report["hit_while_training"]["share_by_own_faults"] >= 0.6
    resumes = report["resumes"]
    assert resumes["rolling_releases"] == 1
    assert len(resumes["versions"]) == 2
    assert resumes["exact"] > 0
    assert resumes["inexact"] > 0
    assert report["attempts"]["released"] > 0
    assert report["states"].keys() <= {"succeeded", "cancelled"}
    assert report["bars"]["stuck"] == {"at most": 0, "found": 0, "verdict": "kept"}


@pytest.mark.ops
def test_without_the_fence_the_same_run_shows_the_damage(tmp_path: Path) -> None:
    options = ["--jobs", "12", "--real", "0", "--off", "fence", "--limit", "90"]
    report = run("tests.chaos", tmp_path / "report.json", *options)
    assert [damage for damage in report["damage"] if SEEN["fence"] in damage], report["damage"]


@pytest.mark.ops
def test_readers_cut_off_every_few_seconds_miss_nothing_and_hear_nothing_twice(tmp_path: Path) -> None:
    readers = os.environ.get("CHAOS_READERS", "40")
    report = run("tests.chaos.readers", tmp_path / "report.json", "--readers", readers, "--seconds", "8")
    assert report["damage"] == []
    assert report["num_cut"] >= int(readers)
    assert report["num_attempts"] >= 2
