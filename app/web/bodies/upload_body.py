"""Stores a request's body as one object: never whole in memory, with its digest computed and checked during the
transfer."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.db.session import Sessions, transaction
from app.domain.artifact import StoredFile
from app.errors import BadRequest, DigestMismatch, InvalidDigest, TooLarge, UnsupportedMediaType
from app.storage import Storage

T = TypeVar("T")

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):", re.IGNORECASE)
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class BodyDigest:
    """Reads the client's `Content-Digest` or `Repr-Digest` (RFC 9530), if there is one. Both cover the same bytes here,
    because no body is sent in part. Only SHA-256 is used."""

    def __init__(self, request: Request) -> None:
        self._expected = {
            _sha256(value)
            for name in ("content-digest", "repr-digest")
            for value in request.headers.getlist(name)
            if "sha-256" in value.lower()
        }
        self._found = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        if self._expected:
            self._found.update(chunk)

    def check(self, found: str | None = None) -> None:
        """Check the digest. `found` is the body's SHA-256 in hex, if it was computed elsewhere."""
        found = found or self._found.hexdigest()
        for expected in self._expected:
            if expected != found:
                raise DigestMismatch(found, expected)


def _sha256(header: str) -> str:
    match = SHA256.search(header)
    try:
        if match:
            return base64.b64decode(match[1], validate=True).hex()
    except binascii.Error:
        pass
    raise InvalidDigest


def refuse_forms(request: Request) -> None:
    """Refuse forms: their bytes are not the file's, and `curl --data` sends files without their line breaks."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        message = f"The Content-Type {kind} is not accepted; send the file's bytes as the body, as `curl -T` does."
        raise UnsupportedMediaType(message)


async def chunks_of(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise BadRequest("The connection closed before the whole body arrived; send it again.") from error


async def store_body(request: Request, storage: Storage, key: str, max_bytes: int, min_bytes: int = 0) -> StoredFile:
    """Store the body unchanged under `key`. An error leaves nothing behind."""
    digest = BodyDigest(request)
    async with storage.writer(key) as writer:
        async for chunk in chunks_of(request):
            await writer.write(chunk)
            if writer.size > max_bytes:
                raise TooLarge(f"The body is larger than the limit of {max_bytes:,} bytes; split it.")
        if writer.size < min_bytes:
            raise BadRequest("The body is empty; send the file's bytes as the body.")
        digest.check(await writer.sha256())
    return await writer.stored(key)


def entered(
    sessions: Sessions,
    storage: Storage,
    stored: StoredFile,
    enter: Callable[[Session], T],
    find: Callable[[Session], object],
    step: str,
) -> T:
    """Return what `enter` creates for the stored bytes, in a separate transaction. If that fails, the bytes are
    deleted, unless `find` sees a row that names them."""
    try:
        with transaction(sessions, step) as session:
            return enter(session)
    except Exception:
        # A commit whose answer was lost may have happened, and bytes that a row names must stay.
        with transaction(sessions, "find_upload") as session:
            is_entered = find(session) is not None
        if not is_entered:
            storage.delete(stored.key)
        raise
