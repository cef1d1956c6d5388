"""Sends stored bytes: one Range (RFC 9110), strong ETag, Repr-Digest (RFC 9530), safe file names (RFC 6266)."""

import base64
import re
from collections.abc import Generator, Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import NotFound, RangeNotSatisfiable
from app.storage import Storage

RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
CHUNK_BYTES: Final = 128 * 1024
"""Limits the chunks. A client that does not read occupies up to three times as much memory."""
OCTETS: Final = "application/octet-stream"
TAR: Final = "application/x-tar"
CONDITIONS: Final[dict[str, Any]] = {
    "parameters": [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}
        for name, description in (
            ("Range", "`bytes=0-999` returns only this part. Only a single range is supported."),
            ("If-None-Match", "One or more `ETag`s of content that the client already has."),
        )
    ]
}
"""Documents the headers of a download request in OpenAPI."""


class StoredBytes(StreamingResponse):
    """Closes the stored object as soon as the response ends, for any reason. Otherwise a disconnected client would
    leave it open until Python's garbage collection."""

    def __init__(
        self,
        chunks: Generator[bytes, None, None],
        status_code: int,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__(chunks, status_code, headers, media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._chunks.close()


def bytes_as(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for a route that answers with stored bytes."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}
    return {
        200: {"description": "The content.", "content": content},
        206: {"description": "The part that `Range` requests.", "content": content},
        304: {"description": "`If-None-Match` names the current content."},
    }


def tar_of(name: str) -> str:
    """Return the file name. A colon would make tar contact another machine, and is not allowed in file names on some
    systems."""
    return f"{re.sub('[:/]+', '-', name)}.tar"


def download(
    request: Request,
    storage: Storage,
    *,
    key: str,
    size: int,
    sha256: str,
    filename: str,
    at: datetime,
    media_type: str = OCTETS,
) -> Response:
    """Answer with the object, or the part that `Range` requests; only its headers for HEAD. Raise NotFound if storage
    has lost it."""
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Last-Modified": format_datetime(at, usegmt=True),
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
        "Content-Disposition": content_disposition(filename),
    }
    if etag in _parse_tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    start, end = 0, size
    is_head = request.method == "HEAD"
    wanted = None if is_head else request.headers.get("range")  # a range is defined for GET alone (RFC 9110, 14.2)
    if wanted and request.headers.get("if-range", etag) == etag and (span := parse_range(wanted, size)):
        start, end = span
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if "Content-Range" in headers else 200
    if is_head:
        _open_object(storage, key, 0, min(size, 1))
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StoredBytes(_open_object(storage, key, start, end), status, headers, media_type)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return start and exclusive end; None for a header to ignore (another unit, several ranges, nonsense)."""
    match = RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < int(first):
        return None
    if start >= size or (not first and int(last) == 0):
        raise RangeNotSatisfiable(size)
    return start, end


def content_disposition(filename: str) -> str:
    plain = re.sub(r'[^ -~]|["\\%/]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _parse_tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _open_object(storage: Storage, key: str, start: int, end: int) -> Generator[bytes, None, None]:
    # Open the object here, not in the response, so that a lost object is a 404 and not a broken 200.
    try:
        return storage.read(key, start, end, chunk_bytes=CHUNK_BYTES)
    except FileNotFoundError as error:
        missing = NotFound()
        missing.args = ("The stored content is missing; check the server's storage.",)
        raise missing from error
