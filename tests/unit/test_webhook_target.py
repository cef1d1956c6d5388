"""Checks which addresses a webhook must not reach, and that a name is looked up once."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import Allowed, Settings
from app.webhooks.target import BadTarget, is_public, look_up, parse, resolve

NONE = Allowed.read("")

INTERNAL = [
    "0.0.0.0",  # noqa: S104 - binds nothing
    *("0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1"),
    *("2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
    *("fec0::1", "ff02::1"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]


@pytest.mark.parametrize("address", INTERNAL)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(BadTarget) as caught:
        resolve(parse(f"https://{host}/hook"), NONE, look_up)
    assert caught.value.code == "address_refused"


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_accepted(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert is_public(ip_address(address))
    assert resolve(parse(f"https://{host}/hook"), NONE, look_up) == [ip_address(address)]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("gopher://example.com/", "bad_scheme"),
        ("//example.com/", "bad_scheme"),
        ("https://user:pass@example.com/", "credentials_in_url"),
        ("https://user@example.com/", "credentials_in_url"),
        ("https://8.8.8.8\\@127.0.0.1/", "bad_url"),
        ("https://example.com/#top", "bad_url"),
        ("https://example.com/a b", "bad_url"),
        ("https://example.com/\r\nX: y", "bad_url"),
        ("https://exämple.com/", "bad_url"),
        ("https://example.com:99999/", "bad_url"),
        ("https://[::1/", "bad_url"),
        ("https://" + "a" * 2000, "bad_url"),
        ("https://example.com:0/", "bad_host"),
        ("https:///path", "bad_host"),
        ("https://2130706433/", "bad_host"),
        ("https://134744072/", "bad_host"),
        ("https://0x7f000001/", "bad_host"),
        ("https://0x7f.1/", "bad_host"),
        ("https://0177.0.0.1/", "bad_host"),
        ("https://127.1/", "bad_host"),
        ("https://8.8.8.8./", "bad_host"),
        ("https://[fe80::1%25eth0]/", "bad_host"),
        ("https://exa%6dple.com/", "bad_host"),
        ("https://-a.com/", "bad_host"),
        ("https://a..b/", "bad_host"),
    ],
)
def test_a_malformed_or_unusual_url_is_refused(url: str, code: str) -> None:
    with pytest.raises(BadTarget) as caught:
        parse(url)
    assert caught.value.code == code


def test_a_url_is_split_into_its_parts() -> None:
    target = parse("https://Hooks.Example.com:8443/a/b?c=d")
    assert target == ("https", "hooks.example.com", 8443, "/a/b?c=d")
    assert target.authority == "hooks.example.com:8443"
    assert parse("http://[2606:4700::1]").authority == "[2606:4700::1]"
    assert parse("http://example.com?x").path == "/?x"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    asked: list[str] = []

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_is_refused_if_any_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, "8.8.8.8", "127.0.0.1")
    with pytest.raises(BadTarget) as caught:
        resolve(parse("https://rebind.example.com/"), NONE, look_up)
    assert (caught.value.code, asked) == ("address_refused", ["rebind.example.com"])


def test_localhost_and_a_name_without_an_address_are_refused() -> None:
    for url, code in (("http://localhost:8400/", "address_refused"), ("http://no.such.invalid/", "host_not_found")):
        with pytest.raises(BadTarget) as caught:
            resolve(parse(url), NONE, look_up)
        assert caught.value.code == code


def test_the_operator_allows_hosts_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "10.1.2.3")
    for text in ("10.0.0.0/8", "hooks.internal", " 127.0.0.1 , Hooks.Internal ", "10.1.2.3"):
        assert resolve(parse("http://hooks.internal./"), Allowed.read(text), look_up) == [ip_address("10.1.2.3")]
    for text in ("", "10.0.0.0/16", "internal", "127.0.0.1,::1"):
        with pytest.raises(BadTarget):
            resolve(parse("http://hooks.internal/"), Allowed.read(text), look_up)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "hooks internal", "http://x", "*"])
def test_a_malformed_allowlist_prevents_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="webhook_allowlist"):
        Settings(webhook_allowlist=text)
