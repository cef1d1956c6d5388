"""Checks the locks and the atomic replacement of files by `app.files`."""

import os
import stat
import threading
from pathlib import Path

import pytest

from app.files import lock_file, open_locked, replacing


def test_a_lock_is_held_once_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = open_locked(path)
    assert held is not None
    assert open_locked(path, wait=False) is None
    assert open_locked(path, wait=False, shared=True) is None
    os.close(held)
    again = open_locked(path, wait=False)
    assert again is not None
    os.close(again)


def test_a_shared_lock_is_held_by_several(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    files = [open_locked(path, wait=False, shared=True) for _ in range(2)]
    assert None not in files
    assert open_locked(path, wait=False) is None
    for file in filter(None, files):
        os.close(file)


def test_a_lock_file_that_its_holder_removed_is_created_again(tmp_path: Path) -> None:
    """Otherwise two locks have the same name: one of the removed file, one of the new file."""
    path, taken = tmp_path / "lock", []
    held = open_locked(path)
    assert held is not None
    waiting = threading.Thread(target=lambda: taken.append(open_locked(path)))
    waiting.start()
    waiting.join(0.2)
    path.unlink()
    os.close(held)
    waiting.join()
    assert taken[0] is not None
    assert open_locked(path, wait=False) is None
    os.close(taken[0])


def test_an_open_file_is_locked(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as first, (tmp_path / "a").open("rb") as second:
        assert lock_file(first.fileno())
        assert not lock_file(second.fileno(), wait=False)


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path, "keep_parity") as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replacing(path, "keep_parity") as file:
        file.write(b"new")
        raise KeyError
