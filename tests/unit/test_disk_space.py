import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from app.settings import Settings
from worker.host import disk_space
from worker.host.disk_space import DiskSpace


class Usage(NamedTuple):
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def leave(num_bytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(num_bytes))

    return leave


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def show(seconds: float) -> None:
        monkeypatch.setattr(disk_space.time, "monotonic", lambda: seconds)

    return show


def test_space_is_short_below_a_limit_and_for_a_lease_after_it_ran_out(
    tmp_path: Path, free: Callable[[int], None], clock: Callable[[float], None]
) -> None:
    space = DiskSpace(Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", lease_seconds=60))
    clock(1000)
    free(disk_space.LEAST_FREE_BYTES - 1)
    assert space.is_short()
    free(disk_space.LEAST_FREE_BYTES)
    assert not space.is_short()
    message = space.note_full("OSError: no space")
    assert f"32.0 MB in {tmp_path / 'data/work'}, 32.0 MB in {tmp_path / 'cache'}. OSError: no space" in message
    clock(1059)
    assert space.is_short(), "there is space again, but it was too little for the attempt"
    clock(1060)
    assert not space.is_short()
