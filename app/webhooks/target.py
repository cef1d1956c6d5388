"""Checks a webhook's target: a public address, or one that the operator allows by `TUNEWRIGHT_WEBHOOK_ALLOWLIST`.

A URL is parsed only once. A name is resolved once per delivery, and the connection is made to the addresses that were
checked, so that a second answer of a name server cannot redirect it.
"""

import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from app.settings import Allowed

MAX_URL_CHARS: Final = 2000
PORTS: Final = {"http": 80, "https": 443}
NAME: Final = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")
NUMBER: Final = re.compile(r"(\d+|0x[0-9a-f]*)")
"""Matches what the C library reads as (a part of) an address: 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1."""

Address = IPv4Address | IPv6Address

NOT_PUBLIC_V4: Final = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a public number, but the host of a virtual machine in Azure
    )
]
"""Lists IANA's special-purpose registry and one more; these include the clouds' metadata addresses."""
PUBLIC_V6: Final = ip_network("2000::/3")
"""Covers all addresses assigned so far; loopback, link-local, unique local, multicast and embedded IPv4 lie outside."""
NOT_PUBLIC_V6: Final = [ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
"""Lists the exceptions within it: protocols (including Teredo), documentation, and 6to4, which embeds IPv4."""


class BadTarget(Exception):
    """The target is not allowed. `code` is stable; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Target(NamedTuple):
    """Holds a URL's parts. `path` includes the query; `host` is lower-case, without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Return the value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def masked(self) -> str:
        """Return the URL without its path and query."""
        return f"{self.scheme}://{self.authority}/…"


def parse(url: str) -> Target:
    """Parse the URL. Raise BadTarget unless it is a plain http or https URL without credentials."""
    if len(url) > MAX_URL_CHARS or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        message = (
            f"The URL must have at most {MAX_URL_CHARS:,} characters, all ASCII; use the xn-- form of a host name."
        )
        raise BadTarget("bad_url", message)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget("bad_url", f"The URL is invalid: {error}.") from error
    if parts.scheme not in PORTS:
        raise BadTarget("bad_scheme", "Only https and http are supported; start the URL with https://.")
    if "@" in parts.netloc:
        raise BadTarget(
            "credentials_in_url",
            "Remove the user and password from the URL; deliveries are authenticated by their signature.",
        )
    if "#" in url:
        raise BadTarget("bad_url", "Remove the fragment (#…) from the URL; it is never sent.")
    host = (parts.hostname or "").lower()
    if port == 0 or not (is_name(host) or find_address(host)):
        raise BadTarget("bad_host", f"{host!r:.80} is not a valid host name or IP address.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or PORTS[parts.scheme], path)


def resolve(target: Target, allowed: Allowed, look_up: Callable[[str], Sequence[Address]]) -> Sequence[Address]:
    """Return the addresses to connect to. Raise BadTarget if there are none, or if any of them must not be reached."""
    literal = find_address(target.host)
    addresses = [literal] if literal else look_up(target.host)
    for address in addresses:
        if not (is_public(address) or is_allowed(target.host, address, allowed)):
            message = f"{target.host} resolves to {address}, which is not public; the operator can allow it."
            raise BadTarget("address_refused", message)
    return addresses


def look_up(host: str) -> list[Address]:
    """Look up the host with the system's resolver, which may take any time."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadTarget("host_not_found", f"The name {host} cannot be resolved: {error}.") from error
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def is_allowed(host: str, address: Address, allowed: Allowed) -> bool:
    return host.rstrip(".") in allowed.hosts or any(address in network for network in allowed.networks)


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    return address in PUBLIC_V6 and not any(address in network for network in NOT_PUBLIC_V6)


def find_address(host: str) -> Address | None:
    """Return a literal address: four decimal numbers, or IPv6 without a zone."""
    try:
        return ip_address(host) if "%" not in host else None
    except ValueError:
        return None


def is_name(host: str) -> bool:
    last = host.rstrip(".").rpartition(".")[2]
    return NAME.fullmatch(host) is not None and NUMBER.fullmatch(last) is None
