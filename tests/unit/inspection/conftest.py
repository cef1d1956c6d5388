from pathlib import Path
from typing import Any

import pytest

from tests.unit.inspection.files import Dribble, Open
from worker.inspection.formats.containers import UploadedRows, read_rows


@pytest.fixture
def open_rows(tmp_path: Path) -> Open:
    def open_rows(data: bytes, name: str = "rows", step: int = 10**9, **asked: Any) -> UploadedRows:
        return read_rows(Dribble(data, step), name, tmp_path, **asked)  # type: ignore[arg-type]

    return open_rows
