"""The API on a listening socket inherited from the supervisor: `python -m app.embedded.api FD`.

The supervisor keeps the socket open, so a restart of the API keeps its port and refuses no connection.
"""

import socket
import sys

import uvicorn

STREAMS_END_SECONDS = 5
"""Time open event streams get at a stop before they are cut; their readers resume."""


def main() -> None:
    config = uvicorn.Config(
        "app.main:create_server",
        factory=True,
        access_log=False,
        timeout_graceful_shutdown=STREAMS_END_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


main()
