"""`python -m tests.fuzz` inspects malformed datasets in this process, some of them also in an inspection process, and
some through a server.

It prints the seed of a file that breaks something; `--first SEED --files 1` inspects that file again.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from app.domain.datasets.report import Report
from benchmarks import machine
from tests.fuzz.datasets import check_file, inspect, make_file
from tests.fuzz.server import check_uploads
from worker.inspection.protocol import REPORT, InspectionRequest, InspectionTask
from worker.processes.inspection import InspectionFailed, run

GB = 10**9


def check_in_process(seed: int, scratch: Path) -> None:
    """Check that the inspection process reports what the same code reports here."""
    name, data, named = make_file(seed)
    request = InspectionRequest(
        task=InspectionTask.inspect,
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
        written = (Path(folder) / REPORT).read_text()
    assert written == inspect(scratch, name, data, named).report.model_dump_json()


class Seen:
    """Counts what was inspected, and adds it to the result of an earlier run in `path`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        found = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.counts: Counter[str] = Counter({name: found.get(name, 0) for name in ("files", "valid", "processes")})
        self.seconds: float = found.get("seconds", 0.0)
        self.slowest: float = found.get("slowest_check_seconds", 0.0)
        self.first: int | None = found.get("first_seed")
        self.containers, self.codes = Counter(found.get("containers", {})), Counter(found.get("codes", {}))
        self.uploads: Counter[str] = Counter(found.get("uploads_by_status", {}))

    def add(self, report: Report, seconds: float) -> None:
        self.counts["files"] += 1
        self.counts["valid"] += report.valid
        self.containers[f"{report.statistics.container}, {report.statistics.compression}"] += 1
        self.codes.update(report.problem_counts.keys())
        self.slowest = max(self.slowest, seconds)

    def write(self) -> None:
        if self._path is not None:
            result = {
                "machine": machine.describe(),
                "first_seed": self.first,
                **self.counts,
                "seconds": round(self.seconds, 1),
                "slowest_check_seconds": round(self.slowest, 3),
                "containers": dict(self.containers.most_common()),
                "uploads_by_status": dict(self.uploads),
                "codes": dict(self.codes.most_common()),
            }
            self._path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def check(seeds: range, every: int, seen: Seen, scratch: Path) -> None:
    for seed in seeds:
        began = time.monotonic()
        try:
            report = check_file(seed, scratch)
            seen.add(report, time.monotonic() - began)
            if every and seed % every == 0:
                check_in_process(seed, scratch)
                seen.counts["processes"] += 1
        except BaseException:
            print(f"seed {seed}: python -m tests.fuzz --first {seed} --files 1", flush=True)
            raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument(
        "--processes", type=int, default=100, help="how many of the files also go through an inspection process"
    )
    parser.add_argument("--uploads", type=int, default=100, help="how many of the files also go through a server")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first file")
    parser.add_argument("--output", type=Path, help="a JSON file for the result; an existing one is added to")
    arguments = parser.parse_args()
    began = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.files)
    seen = Seen(arguments.output)
    seen.first = arguments.first if seen.first is None else seen.first
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-") as path:
        check(seeds, arguments.processes and max(arguments.files // arguments.processes, 1), seen, Path(path))
        if arguments.uploads:
            some = seeds[:: max(arguments.files // arguments.uploads, 1)][: arguments.uploads]
            seen.uploads.update({str(status): count for status, count in check_uploads(some, Path(path)).items()})
    seen.seconds += time.monotonic() - began
    seen.write()
    print(f"{dict(seen.counts)} in {seen.seconds:,.0f} s; uploads {dict(seen.uploads)}; codes {dict(seen.codes)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
