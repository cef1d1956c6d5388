"""Compresses answers for clients that accept it."""

import gzip
import re
import sys
from typing import Final

from fastapi import Request

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS: Final = ("zstd", "gzip")
"""Lists the compressions, the preferred one first."""
REFUSED: Final = re.compile(r"\s*q=0(\.0*)?\s*")
HIGHEST: Final = {"zstd": 19, "gzip": 9}


def choose_coding(request: Request) -> str | None:
    """Return the compression that the client accepts, if any."""
    accepted = (each.strip().partition(";") for each in request.headers.get("accept-encoding", "").lower().split(","))
    names = {name.strip() for name, _, weight in accepted if not REFUSED.fullmatch(weight)}
    return next((coding for coding in CODINGS if coding in names), None)


def compress(body: bytes, coding: str, level: int) -> bytes:
    return gzip.compress(body, level, mtime=0) if coding == "gzip" else zstd.compress(body, level)
