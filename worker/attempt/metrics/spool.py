"""Buffers metric points for PostgreSQL as JSON lines in a file of the attempt's folder, oldest first.

The writer holds a lock on the file, which ends with its process. A spool without a lock was left by a dead worker; any
worker that finds it can store its points."""

import os
import stat
import threading
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog
from pydantic import ValidationError

from app.domain.metric import MetricPoint
from app.failpoints import around
from app.files import lock_file

log = structlog.get_logger()

FILE_NAME: Final = "points.jsonl"
PROOF_NAME: Final = "points.proof"
MAX_PROOF_CHARS: Final = 100
BATCH: Final = 500
CHUNK_BYTES: Final = 64 * 1024
LONGEST_BATCH_BYTES: Final = BATCH * 4096
MAX_HELD: Final = 100_000
"""Limits the points kept in memory (some tens of megabytes) while the disk accepts none."""


class PointBatch(NamedTuple):
    points: list[MetricPoint]
    num_bytes: int


class Spool:
    """Queues points in a file. One thread reads and drops; any thread may append."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._read, self._end = 0, os.fstat(file).st_size
        self._held: deque[bytes] = deque()
        self._peeked: PointBatch | None = None
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, proof: str = "") -> Self:
        """Create the spool under a temporary name until it is locked, so that it never looks abandoned.

        `proof` identifies the attempt (see `AttemptService.record_late`) and is stored next to the spool, readable by
        this user only."""
        written = os.open(folder / PROOF_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(written, "w") as file_of_proof:
            file_of_proof.write(proof)
        partial = folder / f".{FILE_NAME}"
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        lock_file(file)
        with around("open_spool"):
            partial.rename(folder / FILE_NAME)
        return cls(file)

    @classmethod
    def find_abandoned(cls, folder: Path) -> Self | None:
        """Return the folder's spool if there is one and its writer is dead."""
        try:
            file = os.open(folder / FILE_NAME, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None  # There is no spool, or the name belongs to something else.
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        if not lock_file(file, wait=False):
            os.close(file)
            return None
        return cls(file)

    @staticmethod
    def read_proof(folder: Path) -> str:
        """Return the stored proof, or an empty string if there is none."""
        try:
            with os.fdopen(os.open(folder / PROOF_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                return file.read(MAX_PROOF_CHARS).decode("ascii", "replace")
        except OSError:
            return ""

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return self._read == self._end and not self._held

    def append(self, point: MetricPoint) -> None:
        """Append a point. While the disk is full, points wait in memory."""
        with self._lock:
            if len(self._held) == MAX_HELD:
                log.error("lost a metric point: the disk and the memory buffer are full", step=point.step)
                return
            self._held.append(point.model_dump_json().encode() + b"\n")
            self._write_held()

    def _write_held(self) -> None:
        while self._held:
            line = self._held[0]
            try:
                whole = os.write(self._file, line) == len(line)
            except OSError as error:
                log.warning("could not write metric points to disk; they are kept in memory", error=str(error))
                whole = False
            if not whole:
                os.ftruncate(self._file, self._end)
                return
            self._end += len(line)
            self._held.popleft()

    def peek(self) -> PointBatch:
        """Return the oldest points, at most `BATCH`; drop them with `drop` once they are stored.

        Until then every call returns the same batch, which is read once: a failed try to store the points keeps them
        alive in the exception's frames until garbage collection."""
        if self._peeked is None:
            with self._lock:
                lines = self._lines_of_file()
                if len(lines) < BATCH and self._read + sum(map(len, lines)) == self._end:
                    lines += islice(self._held, BATCH - len(lines))
            points = [point for line in lines if (point := parse(line))]
            self._peeked = PointBatch(points, sum(map(len, lines)))
        return self._peeked

    def _lines_of_file(self) -> list[bytes]:
        """Return the next lines of the file, without an incomplete line that a killed writer left at the end. Reads no
        more of the file than a batch needs."""
        content = bytearray()
        while content.count(b"\n") < BATCH and len(content) < LONGEST_BATCH_BYTES:
            chunk = os.pread(self._file, CHUNK_BYTES, self._read + len(content))
            if not chunk:
                break
            content += chunk
        found = bytes(content).splitlines(keepends=True)[:BATCH]
        if found and not found[-1].endswith(b"\n"):
            torn = found.pop()
            if not found:
                self._end = self._read
                log.warning("dropped an incomplete metric point", line=torn[:200])
        return found

    def drop(self, batch: PointBatch) -> None:
        """Remove a batch. Some of its points may have moved from memory to the file since `peek`; the order is the
        same."""
        self._peeked = None
        with self._lock:
            of_file = min(batch.num_bytes, self._end - self._read)
            self._read += of_file
            rest = batch.num_bytes - of_file
            while rest > 0:
                rest -= len(self._held.popleft())
            if self._read == self._end:
                os.ftruncate(self._file, 0)
                self._read = self._end = 0
            self._write_held()

    def close(self) -> None:
        os.close(self._file)


def parse(line: bytes) -> MetricPoint | None:
    """Parse a point; return None for a line that a power failure corrupted."""
    try:
        return MetricPoint.model_validate_json(line)
    except ValidationError:
        log.warning("dropped an unreadable metric point", line=line[:200])
        return None
