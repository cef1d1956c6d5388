"""Defines what browsers may do with the server's answers."""

import base64
import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import URL
from starlette.types import Message

NO_FRAMES: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
POLICY: Final = b"content-security-policy"
OF_EVERY_ANSWER: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
NOTHING_LOADED: Final = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
"""Is the policy of every answer that has none: a file or a JSON body that is opened in a browser can do nothing."""

ISOLATED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
        "magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    }
)
OPENER: Final[Mapping[str, str]] = MappingProxyType({"Cross-Origin-Opener-Policy": "same-origin"})
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"{NO_FRAMES}; require-trusted-types-for 'script'; trusted-types 'none'"
)
INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def restrict(message: Message) -> None:
    """Add the headers of every answer to the message that starts one."""
    headers = message["headers"]
    if not any(name == POLICY for name, _ in headers):
        headers.append(NOTHING_LOADED)
    headers += OF_EVERY_ANSWER


def isolate(url: URL) -> dict[str, str]:
    """Return the headers that keep a document apart from other sites. Browsers ignore one of them, with an error in the
    console, on plain HTTP unless the host is this machine."""
    is_trustworthy = url.scheme == "https" or url.hostname in LOOPBACK
    return {**ISOLATED, **OPENER} if is_trustworthy else {**ISOLATED}


def allow_reference(html: str) -> str:
    """Return the policy of a page of Swagger UI: its inline scripts, and the styles that its library sets."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in INLINE_SCRIPT.findall(html))
    scripts = " ".join(("'self'", *(f"'sha256-{each.decode()}'" for each in hashes)))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        f"connect-src 'self'; {NO_FRAMES}"
    )
