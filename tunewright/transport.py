"""Sends the client's HTTP requests. Every failure is raised as TunewrightError."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from tunewright.errors import ConnectionFailed, TunewrightError, read_error

T = TypeVar("T")
TIMEOUT = httpx2.Timeout(60, connect=10)
POLL_SECONDS = 0.5
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TRUST_HINT = "Set SSL_CERT_FILE to the certificate file of the authority that signed it."

LISTS = ("cursor", "next_cursor")
"""Names the query parameter that requests the next page, and the field of a page that holds its value."""
EVENTS = ("after", "next_after")
METRICS = ("after_step", "next_after_step")


class Transport:
    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        host = parse_host(url)
        if not api_key.isascii() or not api_key.isprintable():
            raise TunewrightError(None, "bad_settings", "The API key is malformed: it contains invalid characters.")
        self.http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": "tunewright"},
            timeout=TIMEOUT,
            # A proxy from the environment cannot reach a server on this machine. SSL_CERT_FILE still applies there.
            trust_env=host not in LOOPBACK,
            verify=httpx2.create_ssl_context() if url.startswith("https") else True,
        )

    def close(self) -> None:
        self.http.close()

    @contextmanager
    def stream(self, method: str, *path: str, good: int = 200, **options: Any) -> Iterator[httpx2.Response]:
        """Yield a successful response, whose body the caller reads. `good` is another status that counts as success."""
        try:
            with self.http.stream(method, quote_path(path), **options) as response:
                if not response.is_success and response.status_code != good:
                    response.read()
                    raise read_error(response)
                yield response
        except httpx2.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                detail = f"The certificate of {self.url} is not trusted ({error}). {TRUST_HINT}"
                raise ConnectionFailed(detail) from error
            detail = f"Cannot connect to {self.url} ({error}). Check that the server is running."
            raise ConnectionFailed(detail) from error
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(f"Lost the connection to {self.url} ({reason}). Try again.") from error

    def request(self, method: str, *path: str, **options: Any) -> httpx2.Response:
        with self.stream(method, *path, **options) as response:
            response.read()
            return response

    def request_json(self, method: str, *path: str, **options: Any) -> Any:
        response = self.request(method, *path, **options)
        if response.status_code == httpx2.codes.NO_CONTENT:
            return None
        if response.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise read_error(response)
        return response.json()

    def iterate_pages(
        self, *path: str, params: Mapping[str, Any] = {}, following: tuple[str, str] = LISTS
    ) -> Iterator[Any]:
        """Yield the items of all pages. `following` is LISTS, EVENTS or METRICS."""
        parameter, next_field = following
        query = {name: value for name, value in params.items() if value is not None}
        while True:
            page = self.request_json("GET", *path, params=query)
            yield from page["items"]
            if page.get(next_field) is None:
                return
            query[parameter] = page[next_field]


def parse_host(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        detail = f"Invalid server URL {url!r}; use the form http://localhost:8400."
        raise TunewrightError(None, "bad_settings", detail)
    return parsed.host


def quote_path(parts: tuple[str, ...]) -> str:
    """Join the parts into a path, each one quoted, so that an id or a file name cannot address another route."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def idempotency_header(key: str | None) -> dict[str, str]:
    """Return the header that makes a POST safe to repeat."""
    return {"Idempotency-Key": key} if key is not None else {}


def jittered(seconds: float) -> float:
    """Vary `seconds` by up to a fifth, so that many clients do not send their requests at the same time."""
    return seconds * random.uniform(0.8, 1.2)


def poll(fetch: Callable[[], T], is_done: Callable[[T], bool]) -> T:
    """Call `fetch` until `is_done`, and return its last result."""
    while not is_done(found := fetch()):
        time.sleep(jittered(POLL_SECONDS))
    return found
