from pathlib import Path

import pytest

from app.domain.record import RecordFormat
from tests.unit.inspection.files import Dribble, Open
from worker.inspection.containers import Rows, read_rows


@pytest.fixture
def open_rows(tmp_path: Path) -> Open:
    def open_rows(data: bytes, name: str = "rows", step: int = 10**9, format: RecordFormat | None = None) -> Rows:
        return read_rows(Dribble(data, step), name, tmp_path, format)  # type: ignore[arg-type]

    return open_rows
