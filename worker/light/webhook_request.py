"""Sends one POST to a webhook's receiver: only to checked addresses, within a time limit, without redirects or a
proxy."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache

from app.secrets.redaction import redact_error
from app.webhooks.target import Address, Target

MAX_READ_BYTES = 2**16
"""Limits how much of the ignored response body is read. A receiver whose response is read to the end closes the
connection normally."""


class NoAnswer(Exception):
    """Raised when the receiver did not answer. The message says why."""


@cache
def make_tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def send_post(
    target: Target, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str], seconds: float
) -> int:
    """Send the request and return the response's status. Raises NoAnswer if it is not complete within `seconds`,
    however slowly its bytes arrive."""
    until = time.monotonic() + seconds
    cut = threading.Event()
    connection = http.client.HTTPConnection(target.host, target.port, timeout=seconds)
    try:
        with open_socket(target, addresses, until, cut) as connection.sock:
            connection.request("POST", target.path, body, {"Host": target.authority, **headers})
            with connection.getresponse() as response:
                if cut.is_set():  # The parser accepts truncated headers as complete.
                    raise TimeoutError
                with suppress(OSError, http.client.HTTPException, ValueError):
                    response.read(MAX_READ_BYTES)
                return response.status
    except (OSError, http.client.HTTPException) as error:
        if cut.is_set() or isinstance(error, TimeoutError):
            raise NoAnswer(f"No response within {round(seconds, 1):g} s.") from error
        # The receiver's text may repeat the URL, which may hold a secret.
        raise NoAnswer(redact_error(error) if isinstance(error, OSError) else type(error).__name__) from error
    finally:
        connection.close()


@contextmanager
def open_socket(
    target: Target, addresses: Sequence[Address], until: float, cut: threading.Event
) -> Iterator[socket.socket]:
    """Connect to the first address that accepts. The connection is cut when the time is over, even in the middle of an
    operation."""
    raw = connect_first(target, addresses, until)
    handle = raw.dup()  # TLS takes ownership of the first descriptor.
    timer = threading.Timer(max(until - time.monotonic(), 0), cut_connection, (handle, cut))
    timer.daemon = True
    timer.start()
    try:
        if target.scheme == "https":
            with make_tls_context().wrap_socket(raw, server_hostname=target.host) as encrypted:
                yield encrypted
        else:
            yield raw
    finally:
        timer.cancel()
        timer.join()
        handle.close()
        raw.close()


def connect_first(target: Target, addresses: Sequence[Address], until: float) -> socket.socket:
    """Connect to the first address that accepts. Each address but the last gets half of the remaining time."""
    failure: OSError | None = None
    for number, address in enumerate(addresses, start=1):
        left = max(until - time.monotonic(), 0.001)
        try:
            place = str(address), target.port
            raw = socket.create_connection(place, timeout=left if number == len(addresses) else left / 2)
        except OSError as error:
            failure = error
        else:
            raw.settimeout(max(until - time.monotonic(), 0.001))
            return raw
    assert failure is not None
    raise failure


def cut_connection(handle: socket.socket, cut: threading.Event) -> None:
    cut.set()
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
