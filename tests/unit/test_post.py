"""A POST to receivers that are slow, that redirect, that talk too much, and that prove who they are."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.webhooks.target import Target, parse
from tests.fixtures.receiver import Receiver
from worker.light import webhook_request as module
from worker.light.webhook_request import NoAnswer, send_post

HERE = [ip_address("127.0.0.1")]


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[Target]:
    """A server that does with its one connection as it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    talk(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield parse(f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
        thread.join(5)
        assert not thread.is_alive()


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"a" * 2**16)


def babble(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"hello\r\n")


def keep_silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("talk", [drip, keep_silent], ids=["drips", "is silent"])
def test_a_slow_receiver_is_cut_off_in_time(talk: Callable[[socket.socket], None]) -> None:
    with talking(talk) as target:
        began = time.monotonic()
        with pytest.raises(NoAnswer, match=r"No response within 0\.5 s"):
            send_post(target, HERE, b"{}", {}, 0.5)
        assert 0.4 < time.monotonic() - began < 1.5


def test_a_long_answer_is_not_read_to_its_end() -> None:
    with talking(flood) as target:
        assert send_post(target, HERE, b"{}", {}, 5) == 200


def test_what_is_no_http_is_no_answer() -> None:
    with talking(babble) as target, pytest.raises(NoAnswer, match="BadStatusLine"):
        send_post(target, HERE, b"{}", {}, 5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoAnswer, match="refused"):
        send_post(parse(f"http://127.0.0.1:{port}/"), HERE, b"{}", {}, 5)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with Receiver().serving() as receiver:
        receiver.statuses = [307]
        assert send_post(parse(receiver.url), HERE, b"{}", {}, 5) == 307
        assert [heard.path for heard in receiver.heard] == ["/hook"]


def test_the_checked_address_is_connected_to_whatever_the_name_says() -> None:
    with Receiver().serving() as receiver:
        target = parse(receiver.url)._replace(host="hooks.example.com")
        assert send_post(target, [ip_address("::1"), *HERE], b"{}", {"X-A": "b"}, 5) == 204
        [heard] = receiver.heard
        assert (heard.headers["host"], heard.headers["x-a"]) == (f"hooks.example.com:{target.port}", "b")


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For `hooks.example.com`, trusted as the system's own are."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hooks.example.com"
    more = ["-addext", "subjectAltName=DNS:hooks.example.com", "-keyout", path, "-out", tmp_path / "cert.pem"]
    subprocess.run([program, *words.split(), *more], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "cert.pem").read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    module.make_tls_context.cache_clear()
    yield path
    module.make_tls_context.cache_clear()


def test_a_certificate_must_be_the_names(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            asked = b""
            while not asked.endswith(b"{}"):
                asked += encrypted.recv(10_000)
            encrypted.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    for host, accepted in (("hooks.example.com", True), ("other.example.com", False), ("127.0.0.1", False)):
        with talking(talk) as target:
            named = target._replace(scheme="https", host=host)
            if accepted:
                assert send_post(named, HERE, b"{}", {}, 5) == 202
            else:
                with pytest.raises(NoAnswer, match="certificate verify failed"):
                    send_post(named, HERE, b"{}", {}, 5)


def test_a_silent_handshake_is_cut_off_too(certificate: Path) -> None:
    with talking(keep_silent) as target, pytest.raises(NoAnswer, match="No response within"):
        send_post(target._replace(scheme="https", host="hooks.example.com"), HERE, b"{}", {}, 0.4)
