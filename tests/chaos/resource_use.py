"""Measures programs' resident memory and open files repeatedly."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import psutil

MOST_GROWN_MB: Final = 10.0
MOST_GROWN_SHARE: Final = 0.05
"""Memory may grow by the larger of the two limits: allocators do not return every page, and Celery keeps about 0.1 MB
for each connection to Redis that it loses."""
MOST_GROWN_FILES: Final = 2
LEAST_SAMPLES: Final = 8


class Sample(NamedTuple):
    memory_mb: float
    num_files: int


class ResourceUse:
    def __init__(self, processes: Mapping[str, psutil.Process]) -> None:
        self.processes = processes
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    def sample(self) -> None:
        for name, process in self.processes.items():
            try:
                self.samples[name].append(Sample(process.memory_info().rss / 1e6, process.num_fds()))
            except psutil.NoSuchProcess:
                continue  # `gone` reports it.

    def gone(self) -> list[str]:
        return [name for name, process in self.processes.items() if not process.is_running()]

    def verdicts(self) -> dict[str, dict[str, Any]]:
        return {name: judge(samples) for name, samples in self.samples.items()}


def judge(samples: Sequence[Sample]) -> dict[str, Any]:
    """Compare the first quarter of the samples with the last: memory by its median, files by their maximum, since a
    lost connection is missing until it is open again."""
    assert len(samples) >= LEAST_SAMPLES
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    memory = [round(median(sample.memory_mb for sample in part), 1) for part in (first, last)]
    files = [max(sample.num_files for sample in part) for part in (first, last)]
    flat = (
        memory[1] - memory[0] <= max(MOST_GROWN_MB, MOST_GROWN_SHARE * memory[0])
        and files[1] - files[0] <= MOST_GROWN_FILES
    )
    return {"memory_mb": memory, "files": files, "verdict": "flat" if flat else "GROWS"}


def grown(verdicts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, found in verdicts.items():
        if found["verdict"] != "flat":
            yield f"{name} grows: memory {found['memory_mb']} MB, open files {found['files']}"
