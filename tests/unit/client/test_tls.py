"""A server behind TLS whose certificate an authority of the house has signed."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.client.conftest import Server
from tunewright import Client, ConnectionFailed


def write_certificate(folder: Path) -> Path:
    """One for 127.0.0.1 that has signed itself, and its key behind it; the file's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "house")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "house.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *plain)
    )
    return path


@pytest.fixture
def certificate(server: Server, tmp_path: Path) -> Path:
    """The server of this folder speaks TLS with it."""
    path = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["GET /jobs"] = lambda request: request.send_json({"items": [], "next_cursor": None})
    return path


def test_a_certificate_of_the_house_is_trusted_once_it_is_named(
    server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url.replace("http", "https")
    with Client(url, "tw_test") as client, pytest.raises(ConnectionFailed, match="Set SSL_CERT_FILE"):
        list(client.list_jobs())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(url, "tw_test") as client:
        assert list(client.list_jobs()) == []
