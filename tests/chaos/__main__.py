"""Runs jobs on a separate stack and injects faults of every kind: `python -m tests.chaos`. See `plan` for what the seed
decides.

Exits with 1 if the consistency check finds damage or a bar is missed. With --guards it also exits with 1 if the check
misses the damage of a run without a guard. CHAOS_SEED, or --seed, repeats a run's plan.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos import entry
from tests.chaos.bars import bars
from tests.chaos.conductor import Conductor
from tests.chaos.consistency import ConsistencyCheck, check_leftovers
from tests.chaos.guards import SEEN, run_without
from tests.chaos.plan import DISTURBANCES, draw_disturbances, draw_failpoints, draw_jobs, draw_releases
from tests.chaos.report import describe, make_report
from tests.chaos.stack import THREADS, Stack, running_stack
from tests.chaos.stub_model import write_model
from tests.chaos.users import MODEL, Users

STANDBY_PROCESS = "TUNEWRIGHT_STANDBY_PROCESS"
OTHER_KIND = (2, 4, 6, 8)
"""Lists the workers whose checkpoints do not resume bit for bit on the others, and vice versa."""
WITHOUT_STANDBY = (3, 4, 5, 6, 7, 8)
"""Lists the workers that start a training process on demand. The others keep a standby process."""
MAX_IN_FLIGHT = 4
"""Limits the scripted jobs, and the real ones, that are posted and not final."""
FEW_JOBS = 50
"""Times are measured only in runs with at least this many jobs."""


def parse() -> argparse.Namespace:
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 10**6)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--real", type=int, default=40, help="how many of them use the real training process")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which unfinished jobs count as stuck")
    parser.add_argument(
        "--guards", action="store_true", help="repeat the run without each guard: the check must find the damage"
    )
    parser.add_argument(
        "--off", choices=sorted(entry.GUARDS), help="disable this guard: the check must find the damage"
    )
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return parser.parse_args()


def make_stack(folder: Path, given: argparse.Namespace) -> Stack:
    few = given.jobs < FEW_JOBS
    return Stack(
        folder,
        num_scripted=4 if few else 8,
        num_real=min(3 if few else 7, given.real),
        off=given.off,
        fatal=draw_failpoints(given.seed),
        over={f"{name}-{number}": of_worker(number) for name in ("scripted", "real") for number in range(1, 9)},
    )


def of_worker(number: int) -> dict[str, str]:
    """Return the environment variables that only this worker has."""
    threads = {THREADS: "2"} if number in OTHER_KIND else {}
    return threads | ({STANDBY_PROCESS: "false"} if number in WITHOUT_STANDBY else {})


def run(stack: Stack, given: argparse.Namespace) -> dict[str, object]:
    users = Users(stack.url, stack.key)
    stack.register_model(MODEL, write_model(stack.data / "model", given.real > 0))
    users.upload(stack.data)
    plans = draw_jobs(given.seed, given.jobs, given.real)
    kinds = DISTURBANCES | ({"disk_filled": 1} if stack.work_is_mounted else {})
    # Some workers stay free while others are dead or stopped, so that the measured times include no queueing.
    in_flight = {
        real: max(min(count - 1, MAX_IN_FLIGHT), 1)
        for real, count in ((False, stack.num_scripted), (True, stack.num_real))
    }
    disturbances = draw_disturbances(given.seed, kinds)
    releases = draw_releases(given.seed, few=given.jobs < FEW_JOBS)
    conductor = Conductor(stack, users, plans, disturbances, releases, in_flight)
    began = time.monotonic()
    conductor.run(given.limit)
    seconds = time.monotonic() - began
    check = ConsistencyCheck(stack, users.client, conductor.plans)
    damage = conductor.damage + check.run(users.accepted)
    users.close()
    damage += [f"{name} did not stop when requested" for name in stack.stop_programs()]
    damage += list(check_leftovers(stack))
    return make_report(given.seed, seconds, conductor, damage)


def main() -> int:
    given = parse()
    print(f"CHAOS_SEED={given.seed}", flush=True)
    with running_stack(lambda folder: make_stack(folder, given), keep=given.keep) as stack:
        report = run(stack, given)
    print(describe(report), flush=True)
    judged = list(bars(report))
    report["bars"] = {bar.name: bar.summary() for bar in judged}
    write(report, given.out)
    failed = bool(report["damage"]) or any(bar.is_missed for bar in judged)
    if given.guards:
        report["without"] = {guard: run_without(guard, given) for guard in SEEN}
        for guard, found in report["without"].items():
            print(f"without the {guard}: {found['verdict']}, {found['damage']} lines of damage", flush=True)
        failed = failed or any(found["verdict"] != "seen" for found in report["without"].values())
        write(report, given.out)
    return 1 if failed else 0


def write(report: dict[str, Any], out: Path | None) -> None:
    if out:
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
