"""A file on its way: small ones in one request, large ones in parts that can be gone on with."""

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
"""Called with the bytes read and the bytes in all."""
WHOLE_BYTES = 64 * 2**20
"""Up to so much goes in one request."""
PART_BYTES = 32 * 2**20
"""The server takes 64 MiB at most. Smaller ones lose less when a connection breaks, and larger ones less time."""
PASSING = (500, 502, 503, 504)
"""Answers of a server, or of a proxy before it, that may be others in a moment."""


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
    """One part of the file, which lies at `start`."""

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
    """The id of the dataset that the file becomes; `wanted` is what else is asked of it. With `resume`, parts that a
    pending upload of a file of this name and size holds already are not sent again: they are known by their SHA-256, so
    that no other bytes can come in."""
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
    """The latest upload of such a file that can be gone on with, with its parts."""
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
    """Asked again for as long as a restart of the server takes. For what may be done twice."""
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
