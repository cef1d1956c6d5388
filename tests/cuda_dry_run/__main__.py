"""Runs the engine's forward and backward on a simulated CUDA device: `python -m tests.cuda_dry_run`.

It needs a C++ compiler and no GPU. It sees shapes, types, devices, memory, launches and waits; it computes no numbers
and measures no GPU times.
"""

import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.cuda_dry_run.cases import Case, all_cases, pairwise
from tests.cuda_dry_run.guard import CannotBuild, build_guard, load_guard

CANNOT_BUILD = 77
"""Is the exit status that test harnesses treat as a skipped test."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda_dry_run", description=__doc__)
    parser.add_argument("--all", action="store_true", help="run every combination of settings, not only each pair")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="run N cases at a time")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings to FILE as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            load_guard(build_guard(Path(folder)))
        except CannotBuild as error:
            print(f"The CUDA dry run cannot run: {error}", file=sys.stderr)
            return CANNOT_BUILD
    return run(all_cases() if asked.all else pairwise(), asked.processes, asked.out)


def run(cases: list[Case], processes: int, out: Path | None) -> int:
    """Return 0 if there is no fault, else 1."""
    import torch  # not at the top: the guard must be loaded first

    from tests.cuda_dry_run.bars import BARS
    from tests.cuda_dry_run.judge import judge_bar, judge_case, planted_waits

    started = time.monotonic()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # otherwise each garbage collection visits all modules
    faults = []
    with map_in(processes) as map_cases:  # before any backward, after which autograd cannot fork
        for number, found in enumerate(map_cases(judge_case, cases), 1):
            faults += found
            if number % 100 == 0:
                print(f"{number} of {len(cases)} cases, {len(faults)} faults", flush=True)
    costs = []
    for bar in BARS:
        cost, found = judge_bar(bar)
        faults += found
        if cost is not None:
            costs.append(cost)
            print(cost)
    for fault in faults:
        print(f"{fault.kind}: {fault.case}: {fault.message}")
    seconds = time.monotonic() - started
    print(f"{len(cases)} cases, {len(costs)} costs, {len(faults)} faults, {seconds:.0f} seconds")
    if out is not None:
        report = {"num_cases": len(cases), "planted_waits": planted_waits()}
        report |= {"costs": list(map(asdict, costs)), "faults": list(map(asdict, faults))}
        out.write_text(json.dumps(report))
    return int(bool(faults))


@contextmanager
def map_in(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    if processes == 1:
        yield map
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            yield pool.imap_unordered


if __name__ == "__main__":
    sys.exit(main())
