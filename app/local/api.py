"""Runs the API on a listening socket inherited from the supervisor: `python -m app.local.api FD LOG`.

The supervisor keeps the socket open, so that a restart of the API keeps its port and refuses no connection.
"""

import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import sleep

import uvicorn

from app.local.child import LOG_BYTES, rotated

STREAMS_END_SECONDS = 5
"""Is the time that open event streams get at a stop before they are cut. Their readers resume."""
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


def main() -> None:
    threading.Thread(target=keep_log_short, args=(Path(sys.argv[2]),), name="log", daemon=True).start()
    uvicorn.Server(configure()).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


def configure() -> uvicorn.Config:
    return uvicorn.Config(
        "app.main:create_server",
        factory=True,
        http="app.web.server.guarded_protocol:GuardedProtocol",
        ws="none",
        access_log=False,
        timeout_graceful_shutdown=STREAMS_END_SECONDS,
    )


def keep_log_short(log: Path) -> None:
    """Move a large log aside while the process runs: every request writes a line."""
    while True:
        sleep(1)
        if os.fstat(STANDARD_ERROR).st_size > LOG_BYTES:
            # Without disk space for a new file, logging continues in the old one.
            with suppress(OSError):
                begin_log(log)


def begin_log(log: Path) -> None:
    """Continue in a new file. Concurrent writes to the standard streams go to one of the two."""
    with rotated(log).open("ab") as file:
        for stream in (STANDARD_OUTPUT, STANDARD_ERROR):
            os.dup2(file.fileno(), stream)


if __name__ == "__main__":
    main()
