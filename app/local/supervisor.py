"""Keeps children running: starts them, restarts those that die, and ends them all."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from app.local import orphans
from app.local.child import Child, ChildSpec, stop_children
from app.local.errors import StartError
from app.local.folder import space_note
from app.local.server import Server, start_server
from app.local.signals import Waits

PR_SET_CHILD_SUBREAPER = 36
LONGEST_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""Is the run time after which a child counts as recovered: its next death is a first one again."""


class Restarts:
    """Counts one child's deaths in a row, and schedules its restart."""

    def __init__(self) -> None:
        self.deaths = 0
        self.due: float | None = None

    def note_death(self, lived_seconds: float) -> float:
        """Record a death, and return the seconds to wait: 1, 2, 4 … 30."""
        self.deaths = 1 if lived_seconds > STEADY_SECONDS else self.deaths + 1
        backoff = min(2.0 ** (self.deaths - 1), LONGEST_BACKOFF_SECONDS)
        self.due = time.monotonic() + backoff
        return backoff


class Supervisor:
    """Supervises children. `waits` must be the only sleeper of this process, and all of its children and their orphans
    are treated as the supervisor's."""

    def __init__(self, data: Path, waits: Waits):
        self.data = data
        self.waits = waits
        self.children: dict[Child, Restarts] = {}
        # Adopt grandchildren whose parent died, so that the stop finds them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def add(self, spec: ChildSpec) -> Child:
        child = Child(spec, self.data / "logs")
        self.children[child] = Restarts()
        return child

    def serve(self, server: Server) -> None:
        start_server(server, self.add(server.spec), self.data, self.waits.sleep)

    def deaths(self, child: Child) -> int:
        return self.children[child].deaths

    def start(self, spec: ChildSpec) -> Child:
        child = self.add(spec)
        child.start()
        return child

    def finish(self, spec: ChildSpec) -> Child:
        """Run a child that must end with success."""
        child = self.start(spec)
        while child.is_running():
            self.waits.sleep(1)
        del self.children[child]
        if child.exit_code() != 0:
            raise StartError(
                f"{spec.name} failed ({child.describe_exit()}): {child.find_error_line()}{space_note(self.data)}; "
                f"see {child.log}"
            )
        return child

    def watch(self) -> None:
        """Restart children until StopRequested."""
        while True:
            self.revive()
            self.waits.sleep(1)

    def revive(self) -> None:
        running = {child.process.pid for child in self.children if child.process}
        reap_adopted(running)
        for child, restarts in self.children.items():
            if child.is_running():
                continue
            if restarts.due is None:
                backoff = restarts.note_death(time.monotonic() - child.started)
                print_message(
                    f"{child.spec.name} ended ({child.describe_exit()}){space_note(self.data)}; restarting it "
                    f"in {backoff:.0f} s; see {child.log}"
                )
            elif time.monotonic() >= restarts.due:
                restarts.due = None
                child.start()

    def stop(self) -> None:
        self.waits.stopping = True
        stop_children(list(self.children), self.waits.sleep, self.waits.limit_wait)
        while left := orphans.children_of(os.getpid()):
            for pid in left:
                orphans.send(pid, signal.SIGKILL)
            reap_adopted(set())
            self.waits.sleep(0.02)


def reap_adopted(own: set[int]) -> None:
    """Reap ended grandchildren. The exit codes of children are left to their Popen objects."""
    for pid in set(orphans.children_of(os.getpid())) - own:
        os.waitpid(pid, os.WNOHANG)


def print_message(text: str) -> None:
    print(f"tunewright: {text}", file=sys.stderr, flush=True)
