"""Checks the file in which metric points wait."""

import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.metric import MetricPoint
from worker.attempt.metrics.spool import BATCH, CHUNK_BYTES, FILE_NAME, Spool

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from app.domain.metric import MetricPoint
from worker.attempt.metrics.spool import Spool
spool = Spool.create(Path(sys.argv[1]))
for number in range(1, 8):
    now = datetime.now(UTC)
    spool.append(MetricPoint(attempt=1, number=number, step=number, measured_at=now, values={"loss": 1.0}))
print("written", flush=True)
time.sleep(600)
"""


def points(first: int, last: int) -> list[MetricPoint]:
    at = datetime.now(UTC)
    return [
        MetricPoint(attempt=1, number=n, step=n, measured_at=at, values={"loss": n / 3}) for n in range(first, last + 1)
    ]


def append(spool: Spool, *added: MetricPoint) -> None:
    for point in added:
        spool.append(point)


def drain(spool: Spool) -> list[MetricPoint]:
    found: list[MetricPoint] = []
    while not spool.is_empty:
        batch = spool.peek()
        found += batch.points
        spool.drop(batch)
    return found


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Simulate a full disk: the kernel lets no file of this process grow beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    created = Spool.create(tmp_path)
    yield created
    created.close()


def test_points_are_read_in_batches_until_the_file_is_empty(spool: Spool, tmp_path: Path) -> None:
    put = points(1, 2 * BATCH + 7)
    append(spool, *put)
    assert (tmp_path / FILE_NAME).stat().st_size > 0
    assert len(spool.peek().points) == BATCH
    assert drain(spool) == put
    assert (tmp_path / FILE_NAME).stat().st_size == 0


def test_a_long_file_needs_no_more_memory_than_a_batch(tmp_path: Path) -> None:
    """An outage can make the file any length."""
    put = points(1, BATCH)
    lines = b"".join(point.model_dump_json().encode() + b"\n" for point in put)
    (tmp_path / FILE_NAME).write_bytes(lines * 100)
    found = Spool.find_abandoned(tmp_path)
    assert found is not None
    tracemalloc.start()
    try:
        batch = found.peek()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        found.close()
    assert batch.points == put
    assert batch.num_bytes == len(lines)
    assert peak < 20 * len(lines), "the points take most of the memory"


def test_a_batch_of_long_lines_is_complete(spool: Spool) -> None:
    at = datetime.now(UTC)
    values = {f"a name as long as the child may say {n}": n / 3 for n in range(30)}
    put = [MetricPoint(attempt=1, number=n, step=n, measured_at=at, values=values) for n in range(1, BATCH + 2)]
    append(spool, *put)
    batch = spool.peek()
    assert batch.points == put[:BATCH]
    assert batch.num_bytes > 2 * CHUNK_BYTES
    spool.drop(batch)
    assert drain(spool) == put[BATCH:]


def test_a_batch_that_is_not_dropped_is_returned_again_without_reading(spool: Spool) -> None:
    """In an outage of half an hour, the worker tries 1,800 times to store it."""
    put = points(1, BATCH + 1)
    append(spool, *put[:3])
    batch = spool.peek()
    append(spool, *put[3:])
    assert spool.peek() is batch
    spool.drop(batch)
    assert drain(spool) == put[3:]


def test_points_added_after_a_peek_are_kept(spool: Spool) -> None:
    first, second = points(1, 3), points(4, 5)
    append(spool, *first)
    batch = spool.peek()
    append(spool, *second)
    spool.drop(batch)
    assert drain(spool) == second


def test_a_full_disk_loses_no_point_and_leaves_no_partial_line(spool: Spool, tmp_path: Path) -> None:
    put = points(1, 30)
    append(spool, *put[:10])
    size = (tmp_path / FILE_NAME).stat().st_size
    with full_disk(size + 150):
        append(spool, *put[10:20])
    content = (tmp_path / FILE_NAME).read_bytes()
    assert content.endswith(b"\n")
    assert size <= len(content) <= size + 150
    batch = spool.peek()
    assert batch.points == put[:20], "from the file and from memory"
    append(spool, *put[20:])  # all points go to the file now
    assert (tmp_path / FILE_NAME).read_bytes().count(b"\n") == 30
    spool.drop(batch)
    assert drain(spool) == put[20:]


def test_points_of_a_killed_writer_are_found(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert Spool.find_abandoned(tmp_path) is None, "its writer is alive"
        writer.send_signal(signal.SIGSTOP)
        assert Spool.find_abandoned(tmp_path) is None, "its writer may continue"
        writer.kill()
    found = Spool.find_abandoned(tmp_path)
    assert found is not None
    assert [point.number for point in drain(found)] == [1, 2, 3, 4, 5, 6, 7]
    found.close()


@pytest.mark.parametrize("torn", [b'{"attempt":1,"numb', b"\0\0\0\0", b"\0\0\0\0\n"])
def test_a_truncated_line_hides_no_other_line(tmp_path: Path, torn: bytes) -> None:
    put = points(1, 3)
    lines = b"".join(point.model_dump_json().encode() + b"\n" for point in put)
    (tmp_path / FILE_NAME).write_bytes(lines + torn)
    found = Spool.find_abandoned(tmp_path)
    assert found is not None
    assert drain(found) == put
    assert found.is_empty
    found.close()


def test_without_a_file_no_spool_is_abandoned(tmp_path: Path) -> None:
    assert Spool.find_abandoned(tmp_path) is None
