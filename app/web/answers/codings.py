"""Chooses the compression of an answer, and applies it."""

import gzip
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS: Final = ("zstd", "gzip")
"""Lists the compressions, the preferred one first."""
REFUSED: Final = re.compile(r"\s*q=0(\.0*)?\s*")
HIGHEST: Final = {"zstd": 19, "gzip": 9}


def choose_coding(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the compression that the client accepts, if any."""
    return next((find_coding(value) for name, value in headers if name == b"accept-encoding"), None)


@lru_cache(maxsize=64)
def find_coding(accepted: bytes) -> str | None:
    """Find the best compression in the value of `Accept-Encoding`. Clients send few different values."""
    each = (part.partition(";") for part in accepted.decode("latin-1").lower().split(","))
    names = {name.strip() for name, _, weight in each if not REFUSED.fullmatch(weight)}
    return next((coding for coding in CODINGS if coding in names), None)


def compress(body: bytes, coding: str, level: int) -> bytes:
    return gzip.compress(body, level, mtime=0) if coding == "gzip" else zstd.compress(body, level)
