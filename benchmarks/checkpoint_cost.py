"""Measures the cost of checkpoints: the share of training time that one checkpoint every 20 seconds adds.

It observes a training that saves checkpoints over its pipe. A checkpoint costs the additional time between its step and
the next one. If files are written in the background, it also costs the next step's additional time per token.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, ours
from benchmarks.engines import Engine, Work
from benchmarks.rows import make_rows, write_rows

INTERVAL_SECONDS = 20


def train(work: Work, folder: Path, *, steps: int, save_every: int) -> dict[str, Any]:
    folder.mkdir()
    spec = ours.make_spec(work, Engine("qlora", "", "ours"), epochs=None, max_steps=steps, save_every=save_every)
    return ours.train(ours.make_request(work, spec, work.rows, folder, None), folder / "log.txt")


def steps_every_interval(report: dict[str, Any]) -> int:
    seconds = float(statistics.median(report["step_seconds"][1:]))
    return max(1, round(INTERVAL_SECONDS / seconds))


def cost(report: dict[str, Any]) -> dict[str, Any]:
    """Return the cost of a checkpoint. The gap before step k is the time since step k - 1 ended, less the duration of
    step k."""
    ends, seconds = report["step_ended_at"], report["step_seconds"]
    rates = [took / tokens for took, tokens in zip(seconds, report["step_tokens"], strict=True)]
    gaps = {step: ends[step - 1] - ends[step - 2] - seconds[step - 1] for step in range(2, len(ends) + 1)}
    saved = {line["step"] for line in report["checkpoints"]}
    after = [step for step in gaps if step - 1 in saved]
    others = [step for step in gaps if step - 1 not in saved]
    usual_gap = statistics.median(gaps[step] for step in others)
    usual_rate = statistics.median(rates[step - 1] for step in others)
    waited = statistics.median(gaps[step] - usual_gap for step in after)
    slowed = statistics.median((rates[step - 1] - usual_rate) * report["step_tokens"][step - 1] for step in after)
    each = max(0.0, waited) + max(0.0, slowed)
    return {
        "share": round(each / (INTERVAL_SECONDS + each), 5),
        "seconds_waited": round(waited, 4),
        "seconds_slowed": round(slowed, 4),
        "num_checkpoints": len(after),
        "said": {name: value for name, value in report["checkpoints"][-1].items() if name != "path"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-model", type=Path)
    parser.add_argument("--checkpoints", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="save a checkpoint every other step, at any interval")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as name:
        folder = Path(name)
        rows = write_rows(folder / "rows.jsonl", make_rows(40, seed=0))
        base = arguments.base_model or machine.base_model()
        work = Work(base_model=base, rows=rows, num_rows=40, threads=arguments.threads)
        every = 2 if arguments.quick else steps_every_interval(train(work, folder / "pace", steps=6, save_every=1000))
        steps = every * arguments.checkpoints + 2
        result = cost(train(work, folder / "saving", steps=steps, save_every=every)) | {"save_every": every}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['share']:.2%} of the time: {result}", flush=True)


if __name__ == "__main__":
    main()
