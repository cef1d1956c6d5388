"""Proves the consistency check: a run with one guard disabled must show the damage that the guard prevents."""

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
SHOWN = 5
SEEN: Final = {"fence": "its history says", "relay": "never relayed", "recovery": "is stuck in"}
"""Maps each guard to a part of the damage that its absence causes."""


def run_without(guard: str, given: Namespace) -> dict[str, Any]:
    """Run the same plan without the guard in a separate process, so that its leftovers are not counted here. Return
    its result."""
    print(f"--- the same run without the {guard}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tw-chaos-guard-") as folder:
        out = Path(folder) / "report.json"
        same = ["--seed", str(given.seed), "--jobs", str(given.jobs), "--real", str(given.real)]
        command = [sys.executable, "-m", "tests.chaos", *same, "--limit", str(given.limit), "--off", guard]
        subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=False)
        report = json.loads(out.read_text()) if out.exists() else {"damage": [], "seconds": None}
    matching = [found for found in report["damage"] if SEEN[guard] in found]
    return {
        "seconds": report["seconds"],
        "damage": len(report["damage"]),
        "damage_that_tells": len(matching),
        "for_example": matching[:SHOWN],
        "verdict": "seen" if matching else "NOT SEEN",
    }
