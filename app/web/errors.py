"""Defines the errors of requests for how to answer: waiting, headers, and the version
and origin of a browser's page."""

from app.errors import Busy, NotFound, TunewrightError


class TooManyWaiting(Busy):
    """Too many requests are waiting for a change; send yours again without `wait`, or in a few seconds."""

    code = "too_many_waiting"


class HeadersTooLarge(TunewrightError):
    """The request's URL, headers and trailers exceed 64 KiB or 256 lines."""

    status, code = 431, "headers_too_large"


class PageOutdated(NotFound):
    """The server now has another version of the web page; reload the page."""

    code = "page_outdated"


class OriginMismatch(TunewrightError):
    """The request does not come from a page of this server, which the session cookie requires."""

    status, code = 403, "origin_mismatch"

    def __init__(self, header: str, expected: str, found: str | None) -> None:
        value = "is missing" if found is None else f"is {found!r:.200}"
        super().__init__(
            f"The header {header} {value}, and should be {expected!r:.200}. Send the request from a page of this "
            "server, or send `Authorization: Bearer <key>` and no cookie. Behind a proxy with TLS, pass on the Host "
            "header, set X-Forwarded-Proto, and set FORWARDED_ALLOW_IPS of the API to the proxy's address."
        )
