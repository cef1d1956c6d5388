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
"""Is called with the bytes read and the total."""
WHOLE_BYTES = 64 * 2**20
"""Files up to this size are sent in one request."""
PART_BYTES = 32 * 2**20
"""The server accepts at most 64 MiB. Smaller parts lose less when a connection breaks; larger ones need fewer
requests."""
PASSING = (500, 502, 503, 504)
"""Lists the status codes of a server, or of a proxy before it, that may be temporary."""


class Upload(io.FileIO):
    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(path, "rb")
        self.filename = name_of(path)
        self.progress = progress
        self.total = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size) or b""
        if self.progress:
            self.progress(self.tell(), self.total)
        return chunk


class Part(io.BytesIO):
    """Holds a part of the file, which begins at `start`."""

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
    transport: Transport, path: Path, progress: Progress | None, wanted: Mapping[str, Any], resume: bool
) -> str:
    """Upload the file in parts, and return the dataset's id. `wanted` holds the other fields of the request.

    With `resume`, parts that a pending upload of a file with this name and size already holds are not sent again. They
    are compared by SHA-256, so that no other bytes can be included."""
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        begun = find_pending(transport, name_of(path), total) if resume else None
        if begun is None:
            fields = {"bytes": total, "filename": name_of(path), **wanted}
            begun = transport.ask("POST", "uploads", json=fields)
        there = {part["sha256"]: part["id"] for part in begun["parts"]}
        part_ids = []
        for part in parts_of(file, total, progress):
            digest = part.digest.hexdigest()
            if digest not in there:
                there[digest] = send_part(transport, begun["id"], part)
            elif progress:
                progress(part.start + len(part.getbuffer()), total)
            part_ids.append(there[digest])
    chosen = {"part_ids": part_ids}
    completed = patiently(lambda: transport.ask("POST", "uploads", begun["id"], "complete", json=chosen))
    return str(completed["dataset_id"])


def find_pending(transport: Transport, filename: str, size: int) -> Any:
    """Return the latest resumable upload of such a file, with its parts."""
    for each in transport.pages("uploads"):
        if (each["state"], each["filename"], each["bytes"]) == ("pending", filename, size):
            return transport.ask("GET", "uploads", each["id"])
    return None


def parts_of(file: IO[bytes], total: int, progress: Progress | None) -> Iterator[Part]:
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
        return transport.ask("POST", "uploads", upload_id, "parts", content=part, headers=headers)

    return str(patiently(send)["id"])


def patiently(ask: Callable[[], T]) -> T:
    """Repeat a call for as long as a restart of the server takes. The call must be safe to repeat."""
    outage = Outage()
    while True:
        try:
            return ask()
        except TunewrightError as error:
            if not isinstance(error, ConnectionFailed) and error.status not in PASSING:
                raise
            outage.wait(error)


def name_of(path: Path) -> str:
    return os.fsencode(path.name).decode(errors="replace")
