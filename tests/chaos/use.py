"""What programs hold, looked at again and again: resident memory and open files."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import psutil

MOST_GROWN_MB: Final = 10.0
MOST_GROWN_SHARE: Final = 0.05
"""Memory may grow by whichever of the two is more: allocators do not give back every page, and Celery keeps about
0.1 MB for each connection to Redis that it loses."""
MOST_GROWN_FILES: Final = 2
LEAST_LOOKS: Final = 8


class Look(NamedTuple):
    memory_mb: float
    num_files: int


class Use:
    def __init__(self, processes: Mapping[str, psutil.Process]) -> None:
        self.processes = processes
        self.looks: dict[str, list[Look]] = defaultdict(list)

    def look(self) -> None:
        for name, process in self.processes.items():
            try:
                self.looks[name].append(Look(process.memory_info().rss / 1e6, process.num_fds()))
            except psutil.NoSuchProcess:
                continue  # `gone` tells it

    def gone(self) -> list[str]:
        return [name for name, process in self.processes.items() if not process.is_running()]

    def verdicts(self) -> dict[str, dict[str, Any]]:
        return {name: verdict(looks) for name, looks in self.looks.items()}


def verdict(looks: Sequence[Look]) -> dict[str, Any]:
    """The first quarter of the looks against the last: memory by its median, files by the most, since a connection that
    is lost is none until it is there again."""
    assert len(looks) >= LEAST_LOOKS
    quarter = len(looks) // 4
    first, last = looks[:quarter], looks[-quarter:]
    memory = [round(median(look.memory_mb for look in part), 1) for part in (first, last)]
    files = [max(look.num_files for look in part) for part in (first, last)]
    flat = (
        memory[1] - memory[0] <= max(MOST_GROWN_MB, MOST_GROWN_SHARE * memory[0])
        and files[1] - files[0] <= MOST_GROWN_FILES
    )
    return {"memory_mb": memory, "files": files, "verdict": "flat" if flat else "GROWS"}


def grown(verdicts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, found in verdicts.items():
        if found["verdict"] != "flat":
            yield f"{name} grows: memory {found['memory_mb']} MB, open files {found['files']}"
