"""Runs the inspection process: `python -m worker.inspection`, in its working folder. See `protocol`."""

import errno
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from app.files import print_trace
from worker.inspection.cleaning import clean
from worker.inspection.formats.containers import Unreadable, UploadedRows, read_rows
from worker.inspection.inspection import InspectedRows, Inspection
from worker.inspection.protocol import GROUPS, HASHES, PROBLEMS, REPORT, ROWS, InspectionRequest, InspectionTask
from worker.rlimits import DISK_FULL, FILE_TOO_LARGE, OUT_OF_MEMORY, limit_self

GC_THRESHOLD: Final = 200_000
"""Sets the number of allocations between two garbage collections. Rows hold no cycles, and a batch creates thousands of
objects."""


def main() -> int:
    source = sys.stdin.buffer
    request = InspectionRequest.model_validate_json(source.readline())
    limit(request)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        work = {InspectionTask.inspect: inspect, InspectionTask.clean: clean_rows}[request.task]
        work(request, source)
    except MemoryError:
        print_trace()
        return OUT_OF_MEMORY
    except OSError as error:
        print_trace()
        return error.errno if error.errno in (FILE_TOO_LARGE, DISK_FULL, OUT_OF_MEMORY) else errno.EIO
    return 0


def limit(request: InspectionRequest) -> None:
    limit_self(request.memory_bytes, request.cpu_seconds, request.max_file_bytes)


def inspect(request: InspectionRequest, source: BinaryIO) -> None:
    folder = Path()
    try:
        rows = read_rows(source, request.filename, folder, request.format, request.columns)
    except Unreadable as error:
        rows = unreadable(error)
    if rows.verbatim:
        inspection = Inspection(folder, request.format)
        inspection.read(rows.blocks)
    else:
        with Path(ROWS).open("wb") as file:
            inspection = Inspection(folder, request.format, InspectedRows(file, good_only=False))
            inspection.read(rows.blocks)
    inspection.note_file(rows, unsafe_filename=request.unsafe_filename)
    inspection.conclude(Path(HASHES))
    for name, found in ((PROBLEMS, inspection.problems.in_order()), (GROUPS, inspection.problems.grouped())):
        with Path(name).open("w", encoding="utf-8") as file:
            file.writelines(problem.model_dump_json() + "\n" for problem in found)
    Path(REPORT).write_text(inspection.report(rows).model_dump_json(), encoding="utf-8")


def unreadable(error: Unreadable) -> UploadedRows:
    """Return rows that raise the error when read, for a file whose first bytes are already unreadable."""

    def blocks() -> Iterator[list[bytes]]:
        raise error
        yield

    return UploadedRows("jsonl", "none", "The file could not be read.", True, blocks())


def clean_rows(request: InspectionRequest, source: BinaryIO) -> None:
    with Path(ROWS).open("wb") as target:
        clean(source, target, Path(), request.format, drop_duplicates=request.drop_duplicates)


if __name__ == "__main__":
    sys.exit(main())
