"""Uploads a file: a small one in one request, a large one in parts that can be resumed."""

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from tunewright.errors import ConnectionFailed, TunewrightError
from tunewright.transport import Transport
from tunewright.watch import Outage

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Is called with the number of bytes sent and the total."""
WHOLE_BYTES = 64 * 2**20
"""Files up to this size are sent in one request."""
PART_BYTES = 32 * 2**20
"""Is the size of a part; the server accepts up to 64 MiB. A smaller part loses less when a connection breaks; a larger
one needs fewer requests."""
TRANSIENT_STATUSES = (500, 502, 503, 504)
"""Lists the status codes that a server or a proxy returns during a short outage."""


class Upload(io.FileIO):
    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(path, "rb")
        self.filename = encode_file_name(path)
        self.progress = progress
        self.total = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size) or b""
        if self.progress:
            self.progress(self.tell(), self.total)
        return chunk


class Part(io.BytesIO):
    """Holds the part of the file that begins at `start`."""

    def __init__(self, data: bytes, start: int, total: int, progress: Progress | None) -> None:
        super().__init__(data)
        self.start, self.total, self.progress = start, total, progress
        self.digest = hashlib.sha256(data)

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if self.progress:
            self.progress(self.start + self.tell(), self.total)
        return chunk


def send_in_parts(
    transport: Transport, path: Path, progress: Progress | None, fields: Mapping[str, Any], resume: bool
) -> str:
    """Upload the file in parts, and return the dataset's id. `fields` are the other fields of the request.

    With `resume`, parts that a pending upload of a file with this name and size already has are not sent again. Parts
    are compared by SHA-256."""
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        pending = find_pending(transport, encode_file_name(path), total) if resume else None
        if pending is None:
            body = {"bytes": total, "filename": encode_file_name(path), **fields}
            pending = transport.request_json("POST", "uploads", json=body)
        known = {part["sha256"]: part["id"] for part in pending["parts"]}
        part_ids = []
        for part in read_parts(file, total, progress):
            digest = part.digest.hexdigest()
            if digest not in known:
                known[digest] = send_part(transport, pending["id"], part)
            elif progress:
                progress(part.start + len(part.getbuffer()), total)
            part_ids.append(known[digest])
    completion = {"part_ids": part_ids}
    path_parts = ("uploads", pending["id"], "complete")
    completed = retry_outage(lambda: transport.request_json("POST", *path_parts, json=completion))
    return str(completed["dataset_id"])


def find_pending(transport: Transport, filename: str, size: int) -> Any:
    """Return the latest pending upload of a file with this name and size, with its parts."""
    for each in transport.iterate_pages("uploads"):
        if (each["state"], each["filename"], each["bytes"]) == ("pending", filename, size):
            return transport.request_json("GET", "uploads", each["id"])
    return None


def read_parts(file: IO[bytes], total: int, progress: Progress | None) -> Iterator[Part]:
    start = 0
    while data := file.read(PART_BYTES):
        yield Part(data, start, total, progress)
        start += len(data)


def send_part(transport: Transport, upload_id: str, part: Part) -> str:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Digest": f"sha-256=:{base64.b64encode(part.digest.digest()).decode()}:",
    }

    def send() -> Any:
        part.seek(0)
        return transport.request_json("POST", "uploads", upload_id, "parts", content=part, headers=headers)

    return str(retry_outage(send)["id"])


def retry_outage(call: Callable[[], T]) -> T:
    """Retry a call during a short outage of the server. The call must be safe to repeat."""
    outage = Outage()
    while True:
        try:
            return call()
        except TunewrightError as error:
            if not isinstance(error, ConnectionFailed) and error.status not in TRANSIENT_STATUSES:
                raise
            outage.wait(error)


def encode_file_name(path: Path) -> str:
    return os.fsencode(path.name).decode(errors="replace")
