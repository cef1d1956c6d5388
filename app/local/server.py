"""Describes an embedded server: one child, a URL, and a readiness check."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.local.child import Child, ChildSpec, Sleep, stop_children
from app.local.errors import StartError
from app.local.folder import space_note


@dataclass(frozen=True)
class Server:
    title: str
    spec: ChildSpec
    url: str
    is_ready: Callable[[int], bool]
    """Checks readiness, given the process id."""
    complete: Callable[[], None]
    """Creates what its users expect to find. It is called at the first start."""


def start_server(server: Server, child: Child, data: Path, sleep: Sleep) -> None:
    """Start the server and wait for as long as the process lives: recovery after a crash may take any time."""
    child.start()
    note_at = time.monotonic() + 10
    while not (child.process and server.is_ready(child.process.pid)):
        if not child.is_running():
            raise StartError(
                f"{server.title} did not start ({child.describe_exit()}): {child.find_error_line()}"
                f"{space_note(data)}; see {child.log}"
            )
        if time.monotonic() > note_at:
            note_at = float("inf")
            print(f"{server.title} is still starting, possibly recovering; see {child.log}", file=sys.stderr)
        sleep(0.02)
    server.complete()


@contextmanager
def running(server: Server, data: Path) -> Iterator[str]:
    child = Child(server.spec, data / "logs")
    try:
        start_server(server, child, data, time.sleep)
        yield server.url
    finally:
        stop_children([child], time.sleep)
