"""The books proved: the same run with one guard left out must show the damage that this guard prevents."""

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
"""Words of the damage that shows where a guard is left out."""


def run_without(guard: str, given: Namespace) -> dict[str, Any]:
    """The same plan in a process of its own, so that what it leaves behind is nobody else's; what its books said."""
    print(f"--- the same run without the {guard}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tw-chaos-guard-") as folder:
        out = Path(folder) / "report.json"
        same = ["--seed", str(given.seed), "--jobs", str(given.jobs), "--real", str(given.real)]
        command = [sys.executable, "-m", "tests.chaos", *same, "--limit", str(given.limit), "--off", guard]
        subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=False)
        report = json.loads(out.read_text()) if out.exists() else {"damage": [], "seconds": None}
    telling = [found for found in report["damage"] if SEEN[guard] in found]
    return {
        "seconds": report["seconds"],
        "damage": len(report["damage"]),
        "damage_that_tells": len(telling),
        "for_example": telling[:SHOWN],
        "verdict": "seen" if telling else "NOT SEEN",
    }
