"""Refuses requests with a session cookie that another site, or another server on the same host, made a browser send."""

import re
from typing import Final, NamedTuple

from fastapi import Request

from app.web.errors import OriginMismatch

READING: Final = ("GET", "HEAD")
SAME_ORIGIN: Final = "same-origin"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FORM: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::(\d{1,5}))?", re.IGNORECASE)


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


def require_origin(request: Request) -> None:
    """Raise OriginMismatch unless the header `Origin` names this server."""
    expected, found = describe_server(request), request.headers.get("origin")
    if found is None or (origin := parse_origin(found)) is None or origin != parse_origin(expected):
        raise OriginMismatch("Origin", expected, found)


def require_own_page(request: Request) -> None:
    """Raise OriginMismatch unless a page of this server may have sent the request. A change needs the header `Origin`.
    Browsers omit it from reads, and send `Sec-Fetch-Site` only over HTTPS and to localhost."""
    if request.method not in READING:
        require_origin(request)
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != SAME_ORIGIN:
        raise OriginMismatch("Sec-Fetch-Site", SAME_ORIGIN, site)
    if "origin" in request.headers:
        require_origin(request)


def describe_server(request: Request) -> str:
    """Return the origin to which the request was sent."""
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}"


def parse_origin(text: str) -> Origin | None:
    """Return None for text that is no origin, such as `null`."""
    match = FORM.fullmatch(text)
    if match is None:
        return None
    scheme = match[1].lower()
    return Origin(scheme, match[2].lower(), int(match[3] or DEFAULT_PORTS[scheme]))
