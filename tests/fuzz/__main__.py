"""`python -m tests.fuzz`: malformed datasets, inspected in this process, and some of them in one of their own.

The seed of a file that breaks something is printed; `--first SEED --files 1` does it again.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.datasets import check_file, inspect, make_file
from worker.inspection.protocol import REPORT, Request, Task
from worker.inspection_process import InspectionFailed, run

GB = 10**9


def check_in_process(seed: int, scratch: Path) -> None:
    """The real process tells what the same code tells here."""
    name, data, named = make_file(seed)
    request = Request(
        task=Task.inspect,
        filename=name,
        format=named,
        memory_bytes=2 * GB,
        cpu_seconds=30,
        max_file_bytes=GB,
    )
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-") as folder:
        try:
            run(request, iter([data]), Path(folder), lambda: False)
        except InspectionFailed as error:
            raise AssertionError(error) from error
        told = (Path(folder) / REPORT).read_text()
    assert told == inspect(scratch, name, data, named).report.model_dump_json()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument(
        "--processes", type=int, default=100, help="of them, how many go through a process of their own"
    )
    parser.add_argument("--first", type=int, default=0, help="the seed of the first file")
    arguments = parser.parse_args()
    began = time.monotonic()
    every = max(arguments.files // max(arguments.processes, 1), 1)
    codes: Counter[str] = Counter()
    num_valid = 0
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-") as path:
        for seed in range(arguments.first, arguments.first + arguments.files):
            try:
                report = check_file(seed, Path(path))
                if arguments.processes and seed % every == 0:
                    check_in_process(seed, Path(path))
            except BaseException:
                print(f"seed {seed}: python -m tests.fuzz --first {seed} --files 1", flush=True)
                raise
            codes.update(report.problem_counts.keys())
            num_valid += report.valid
    seconds = time.monotonic() - began
    print(f"{arguments.files:,} files in {seconds:,.0f} s, {num_valid:,} of them valid; codes: {dict(codes)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
