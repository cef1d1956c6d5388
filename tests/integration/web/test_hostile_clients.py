"""Tests clients that send too much, or send nothing and stay connected."""

import gc
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2
import pytest

from app.main import create_app
from app.settings import Settings
from app.web.server.guarded_protocol import GuardedProtocol
from tests.conftest import serving
from tests.fixtures.asgi_app import answer

ROOT = Path(__file__).parents[3]
LINE = b"x-filler: " + b"a" * 1000 + b"\r\n"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
SOON = 3.0
"""Is the time in seconds within which these tests' deadlines pass and are noticed."""


class Downloads(NamedTuple):
    id: str
    clients: list[socket.socket]

    def await_open_files(self, wanted: int) -> None:
        """Wait until this process has the wanted number of open files of the dataset."""
        until = time.monotonic() + SOON
        while (found := self._count_open_files()) != wanted:
            assert time.monotonic() < until, f"{found} files are open"
            time.sleep(0.02)

    def _count_open_files(self) -> int:
        found = 0
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # closed by now
                found += self.id in str(link.readlink())
        return found


Begin = Callable[[str, int], Downloads]


Connect = Callable[..., socket.socket]


class Impatient(GuardedProtocol):
    HEADER_SECONDS = 0.5
    BODY_SECONDS = 0.6
    RESPONSE_SECONDS = 0.8
    CHECK_SECONDS = 0.05


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(answer, Impatient) as url:
        yield url


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    with ExitStack() as opened:

        def connect(to: str = url, sent: bytes = b"") -> socket.socket:
            address = urlsplit(to)
            connection = opened.enter_context(socket.create_connection((address.hostname, address.port), timeout=5))
            connection.sendall(sent)
            return connection

        yield connect


def read_to_end(connection: socket.socket, seconds: float = SOON) -> bytes:
    """Return what is received until the server closes the connection, which must happen within the seconds."""
    received, until = bytearray(), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(2**20)
        except ConnectionResetError:
            break
        except TimeoutError:
            pytest.fail(f"still open; received {bytes(received[:200])!r}")
        if not data:
            break
        received += data
    else:
        pytest.fail(f"still open; received {len(received)} bytes")
    return bytes(received)


def trickle(connection: socket.socket, pieces: list[bytes], pause: float = 0.15) -> None:
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(pause)


def test_the_limits_of_production() -> None:
    limits = GuardedProtocol
    assert (limits.MAX_HEADER_BYTES, limits.MAX_HEADERS) == (65_536, 256)
    assert (limits.HEADER_SECONDS, limits.BODY_SECONDS, limits.RESPONSE_SECONDS) == (10, 30, 60)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(GET + b"x: " + b"a" * 70_000, id="a header without an end"),
        pytest.param(GET + LINE * 70, id="headers without an end"),
        pytest.param(GET + LINE * 70 + b"\r\n", id="a whole header"),
        pytest.param(GET + b"a:\r\n" * 256 + b"\r\n", id="many short headers"),
        pytest.param(b"GET /" + b"a" * 70_000, id="a URL"),
        pytest.param(CHUNKED + b"0\r\n" + LINE * 400, id="trailers"),
        pytest.param(CHUNKED + b"0\r\n" + b"a:\r\n" * 256, id="many short trailers"),
        pytest.param(b"\r\n" * 40_000, id="empty lines"),
    ],
)
def test_large_headers_are_refused_with_431(connect: Connect, sent: bytes) -> None:
    head, _, body = read_to_end(connect(sent=sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (431, "headers_too_large")


def test_the_api_refuses_large_headers(live_server: str) -> None:
    refused = httpx2.get(f"{live_server}/healthz", headers={"x-filler": "a" * 70_000}, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (431, "headers_too_large")
    assert httpx2.get(f"{live_server}/healthz", headers={"x-filler": "a" * 60_000}, trust_env=False).status_code == 200


def test_a_large_body_is_not_a_large_header(connect: Connect) -> None:
    sent = POST % (b"/", 200_000) + bytes(200_000)
    assert read_to_end(connect(sent=sent + sent)).count(b"200000 bytes") == 2


@pytest.mark.parametrize("before", [b"", GET[:-2], GET + b"\r\n\r\n"], ids=["silent", "half a header", "empty lines"])
def test_a_connection_without_a_request_is_closed(connect: Connect, before: bytes) -> None:
    received = read_to_end(connect(sent=before))
    assert received.count(b"HTTP/1.1 200") == before.count(b"\r\n\r\n")


def test_a_connection_with_a_slow_header_is_closed(connect: Connect) -> None:
    connection = connect()
    with pytest.raises(ConnectionError):
        trickle(connection, [GET, *[b"a: b\r\n"] * 10])


def test_each_request_has_its_own_time_limit(connect: Connect) -> None:
    connection = connect()
    trickle(connection, [GET + b"\r\n", GET, b"\r\n", GET, b"\r\n"])
    assert read_to_end(connection).count(b"0 bytes") == 3


def test_a_connection_with_a_stalled_body_is_closed(connect: Connect) -> None:
    assert read_to_end(connect(sent=POST % (b"/", 10) + b"123")) == b""


def test_a_slow_body_is_read(connect: Connect) -> None:
    connection = connect(sent=POST % (b"/", 7))
    trickle(connection, [b"a"] * 7)
    assert b"7 bytes" in read_to_end(connection)


def test_a_connection_stays_open_while_the_application_does_not_read(connect: Connect) -> None:
    assert b"300000 bytes" in read_to_end(connect(sent=POST % (b"/?sleep=1", 300_000) + bytes(300_000)))
    expecting = POST.replace(b"host: a", b"expect: 100-continue")
    connection = connect(sent=expecting % (b"/?sleep=1", 5))
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"hello")
    assert b"5 bytes" in read_to_end(connection)


def test_a_body_after_its_answer_is_read_only_for_a_while(connect: Connect) -> None:
    connection = connect(sent=POST % (b"/refused", 1_000_000))
    assert b"401" in connection.recv(1000)
    with pytest.raises(ConnectionError):
        trickle(connection, [b"a"] * 10)


def test_a_connection_whose_response_is_not_read_is_closed(connect: Connect) -> None:
    connection = connect(sent=GET.replace(b"/", b"/endless", 1) + b"\r\n")
    time.sleep(0.8 + 0.4)
    assert read_to_end(connection).startswith(b"HTTP/1.1 200")


def test_a_slow_reader_is_served(connect: Connect) -> None:
    connection = connect(sent=GET.replace(b"/", b"/endless", 1) + b"\r\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    for _ in range(8):
        time.sleep(0.2)
        read = sum(len(connection.recv(2**18)) for _ in range(16))
        assert read > 0


@pytest.fixture
def impatient_api(settings: Settings) -> Iterator[str]:
    settings.data_dir.mkdir(exist_ok=True)
    with serving(create_app(settings), Impatient) as url:
        yield url


@pytest.fixture
def begin_downloads(connect: Connect, make_key: Callable[..., str]) -> Begin:
    def begin(to: str, num_clients: int) -> Downloads:
        headers = {"Authorization": f"Bearer {make_key()}", "Content-Type": "application/octet-stream"}
        made = httpx2.put(f"{to}/datasets", content=bytes(30_000_000), headers=headers, trust_env=False)
        id = made.json()["id"]
        lines = [f"GET /datasets/{id}/content HTTP/1.1", "Host: a", f"Authorization: {headers['Authorization']}"]
        request = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
        downloads = Downloads(id, [connect(to, request) for _ in range(num_clients)])
        downloads.await_open_files(num_clients)
        return downloads

    return begin


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_file_is_closed_when_its_client_disconnects(live_server: str, begin_downloads: Begin) -> None:
    downloads = begin_downloads(live_server, 6)
    for client in downloads.clients[:3]:
        client.close()
    downloads.await_open_files(3)


@pytest.mark.usefixtures("no_collector")
def test_a_file_is_closed_when_its_client_does_not_read(impatient_api: str, begin_downloads: Begin) -> None:
    downloads = begin_downloads(impatient_api, 3)
    downloads.await_open_files(0)
    assert all(len(read_to_end(client)) < 30_000_000 for client in downloads.clients)


def test_silent_connections_leave_descriptors_for_others(connect: Connect) -> None:
    """They are closed long before their deadline, and a response in progress continues."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        fd = listener.fileno()
        options = [
            "--http",
            "app.web.server.guarded_protocol:GuardedProtocol",
            "--ws",
            "none",
            "--log-level",
            "warning",
        ]
        command = [sys.executable, "-m", "uvicorn", "tests.fixtures.asgi_app:answer", *options, "--fd", str(fd)]
        server = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[fd], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
        )
        to = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            httpx2.get(to, timeout=30, trust_env=False)
            reader = connect(to, GET.replace(b"/", b"/endless", 1) + b"\r\n")
            silent = [connect(to) for _ in range(200)]
            for _ in range(10):
                assert httpx2.get(to, timeout=2, trust_env=False).text == "0 bytes"
            assert reader.recv(1000)
            open_files = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
            assert 30 < open_files < 80
            assert read_to_end(silent[0]) == b""
        finally:
            server.kill()
            server.wait()
