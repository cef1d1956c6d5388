"""Runs rolling releases: each training worker in turn is drained and restarted as another version.

A release that keeps the numbers changes only the package's version: a worker registers the version from the metadata
that its Python finds first. A release that changes the numbers also changes a fact of the fingerprint.
"""

import random
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.faults import Faults, send
from tests.chaos.job_views import Registered, registered
from tests.chaos.plan import Release
from tests.chaos.stack import ROOT, THREADS, Stack

PATIENCE_SECONDS = {"scripted": 3.0, "real": 10.0}
"""Is the wait for a worker that trains. After it an idle worker is drained."""
KINDS = 4
"""Counts the numbers of threads. Between releases two of them are in use."""


class Draining(NamedTuple):
    name: str
    pid: int


class Releases:
    def __init__(self, stack: Stack, faults: Faults, planned: Sequence[Release]) -> None:
        self.stack, self.faults, self.planned = stack, faults, list(planned)
        self.release: Release | None = None
        """Is the release in progress."""
        self.num_done = 0
        self.num_begun = 0
        self.waiting: dict[str, list[str]] = {}
        """Lists the workers still to be drained, in one queue for scripted and one for real ones."""
        self.due_at: dict[str, float] = {}
        """Says from when on an idle worker may be drained."""
        self.draining: dict[str, Draining] = {}
        self.versions: set[str] = set()
        """Holds the package versions that workers have registered."""

    def advance(self, share_final: float) -> list[str]:
        """Start or advance a release. Return the names of the workers that start to drain now."""
        if self.release is None:
            if not self.planned or share_final < self.planned[0].after_share:
                return []
            self._begin(self.planned.pop(0))
        workers = registered(self.stack.sessions)
        self.versions |= {worker.version for worker in workers.values()}
        for kind, (name, pid) in list(self.draining.items()):
            process = self.stack.programs[name].process
            if process and process.pid != pid and process.pid in workers:
                del self.draining[kind]
                self.due_at[kind] = time.monotonic() + PATIENCE_SECONDS[kind]
        asked = [name for kind in self.waiting if (name := self._drain_next(kind, workers))]
        if not self.draining and not any(self.waiting.values()):
            self.release = None
            self.num_done += 1
        return asked

    def _begin(self, release: Release) -> None:
        self.release = release
        self.num_begun += 1
        names = sorted(name for name in self.stack.programs if name.startswith(("scripted", "real")))
        random.Random(release.seed).shuffle(names)
        for kind in ("scripted", "real"):
            self.waiting[kind] = [name for name in names if name.startswith(kind)]
            self.due_at[kind] = time.monotonic() + PATIENCE_SECONDS[kind]
        self.folder = write_version(self.stack.data / "releases", f"{self.num_begun}.0.0")

    def _drain_next(self, kind: str, workers: Mapping[int, Registered]) -> str | None:
        if kind in self.draining:
            return None
        awake = {
            name: process
            for name, process in self.stack.workers().items()
            if name in self.waiting[kind] and name not in self.faults.stalled and process.pid in workers
        }
        training = [name for name, process in awake.items() if workers[process.pid].trains]
        idle = list(awake) if time.monotonic() > self.due_at[kind] else []
        name = next((name for name in self.waiting[kind] if name in (training or idle)), None)
        if name:
            self.waiting[kind].remove(name)
            self.draining[kind] = Draining(name, awake[name].pid)
            self.stack.change(name, self._environment(name))
            send([awake[name]], signal.SIGTERM)
        return name

    def _environment(self, name: str) -> dict[str, str]:
        assert self.release
        # Without PYTHONSAFEPATH the current folder comes first, which holds the metadata of an editable installation.
        environment = {"PYTHONPATH": f"{self.folder}:{ROOT}", "PYTHONSAFEPATH": "1"}
        if self.release.changes_numbers:
            threads = int(self.stack.programs[name].spec.env[THREADS])
            environment[THREADS] = str((threads + 1) % KINDS + 1)
        return environment


def write_version(folder: Path, version: str) -> Path:
    """Create a folder with package metadata of this version, which `importlib.metadata` finds first."""
    metadata = folder / version / f"tunewright-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: tunewright\nVersion: {version}\n")
    return folder / version
