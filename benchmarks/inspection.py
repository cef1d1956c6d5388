"""Measures dataset inspection: megabytes per second of CPU time, and peak memory: `python -m benchmarks.inspection`.

It runs the worker's inspection process and feeds it through the same pipe. CPU time is user and system time of the
whole process. For comparison, msgspec parses the same lines untyped in a loop. Memory is measured with files of several
sizes, and with a file of a million invalid rows.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks import machine
from benchmarks.chat_rows import KINDS, write_chat, write_wrong
from benchmarks.processes import MemoryWatch
from worker.inspection.protocol import REPORT, InspectionRequest, InspectionTask
from worker.processes.inspection import COMMAND, environment

MB, GB = 10**6, 10**9
LEAST_RATE: Final = 150.0
"""Is the smallest rate for chat rows, in MB per second of CPU time."""
MOST_GROWTH: Final = 32 * 2**20
"""Limits the additional memory in bytes for a file ten times as large, which is used for sorting."""
CHUNK: Final = 2**20


class Spent(NamedTuple):
    cpu_seconds: float
    seconds: float
    peak_memory_bytes: int
    report: dict[str, Any]


def inspect(path: Path, scratch: Path) -> Spent:
    size = path.stat().st_size
    request = InspectionRequest(
        task=InspectionTask.inspect,
        filename=path.name,
        format=None,
        memory_bytes=2 * 2**30,
        cpu_seconds=3600,
        max_file_bytes=100 * GB,
    )
    folder = Path(tempfile.mkdtemp(dir=scratch))
    began = time.perf_counter()
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, cwd=folder, env=environment())
    assert process.stdin is not None
    with MemoryWatch(process.pid) as watch:
        with path.open("rb") as file, process.stdin as pipe:
            pipe.write(request.model_dump_json().encode() + b"\n")
            shutil.copyfileobj(file, pipe, CHUNK)
        _, status, usage = os.wait4(process.pid, 0)  # Its peak memory is useless: it includes the parent's before exec.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the inspection of {path.name} ({size:,} bytes) ended with {process.returncode}")
    seconds = time.perf_counter() - began
    report = json.loads((folder / REPORT).read_text())
    shutil.rmtree(folder)
    return Spent(usage.ru_utime + usage.ru_stime, seconds, watch.peak, report)


def parse(path: Path) -> float:
    """Return the CPU time that this process needs to parse the file."""
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as file:
        began = time.process_time()
        for line in file:
            decode(line)
        return time.process_time() - began


def speed(scratch: Path, num_bytes: int, repeats: int) -> dict[str, Any]:
    found = {}
    for kind, what in KINDS.items():
        path = write_chat(scratch / f"{kind}.jsonl", kind, num_bytes)
        size = path.stat().st_size
        spent = [(inspect(path, scratch), parse(path)) for _ in range(repeats)]
        rates = [size / each.cpu_seconds / MB for each, _ in spent]
        bare = [size / seconds / MB for _, seconds in spent]
        report = spent[0][0].report
        assert report["problem_counts"].keys() <= {"unused_key"}, report["problem_counts"]
        found[kind] = {
            "rows": what,
            "num_rows": report["num_examples"],
            "bytes": size,
            "megabytes_per_cpu_second": round(statistics.median(rates), 1),
            "every_rate": [round(rate, 1) for rate in rates],
            "bare_parse_megabytes_per_second": round(statistics.median(bare), 1),
            "ratio_to_bare_parse": round(statistics.median(rates) / statistics.median(bare), 3),
        }
        print(f"{kind}: {found[kind]['megabytes_per_cpu_second']} MB/s", flush=True)
        path.unlink()
    return found


def memory(scratch: Path, sizes: list[int]) -> dict[str, Any]:
    found = {}
    for size in sizes:
        spent = inspect(write_chat(scratch / "rows.jsonl", "chat", size), scratch)
        found[str(size)] = {"peak_memory_bytes": spent.peak_memory_bytes, "cpu_seconds": round(spent.cpu_seconds, 2)}
        print(f"{size:,} bytes: {spent.peak_memory_bytes:,} of memory", flush=True)
    return found


def problems(scratch: Path, num_rows: int) -> dict[str, Any]:
    path = write_wrong(scratch / "wrong.jsonl", num_rows)
    spent = inspect(path, scratch)
    num_problems = sum(spent.report["problem_counts"].values())
    assert num_problems >= spent.report["num_bad_rows"] == num_rows
    print(f"{num_problems:,} problems: {spent.cpu_seconds:.1f} s, {spent.peak_memory_bytes:,} of memory", flush=True)
    return {
        "num_rows": num_rows,
        "bytes": path.stat().st_size,
        "problem_counts": spent.report["problem_counts"],
        "cpu_seconds": round(spent.cpu_seconds, 2),
        "peak_memory_bytes": spent.peak_memory_bytes,
    }


def measure(scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    described = machine.describe()
    empty = scratch / "empty.jsonl"
    empty.write_bytes(b"")
    started = [inspect(empty, scratch) for _ in range(arguments.repeats)]
    rates = speed(scratch, arguments.megabytes * MB, arguments.repeats)
    sizes = memory(scratch, [arguments.gigabyte // 10, arguments.gigabyte])
    peaks = [each["peak_memory_bytes"] for each in sizes.values()]
    return {
        "machine": described,
        "repeats": arguments.repeats,
        "start_cpu_seconds": round(statistics.median(each.cpu_seconds for each in started), 3),
        "speed": rates,
        "least_megabytes_per_cpu_second": LEAST_RATE,
        "memory": sizes,
        "most_growth_bytes": MOST_GROWTH,
        "problems": problems(scratch, arguments.problems),
        "passed": rates["chat"]["megabytes_per_cpu_second"] >= LEAST_RATE and peaks[1] - peaks[0] <= MOST_GROWTH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="size of each file for the speed measurement (200)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gigabyte", type=int, default=GB, help="size of the largest file in bytes (1,000,000,000)")
    parser.add_argument("--problems", type=int, default=10**6, help="number of invalid rows (1,000,000)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "inspection.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as folder:
        result = measure(Path(folder), arguments)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'passed' if result['passed'] else 'FAILED'}; {arguments.output}", flush=True)


if __name__ == "__main__":
    main()
