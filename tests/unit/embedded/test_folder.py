import os
import stat
from pathlib import Path

import pytest

from app.local import folder
from app.local.errors import StartError
from app.local.folder import LONGEST_SOCKET, locked, open_folder, socket_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_its_parents_keep_their_modes(tmp_path: Path) -> None:
    parent = tmp_path / "home"
    parent.mkdir(mode=0o700)
    data = open_folder(parent / "deep" / "data")
    assert mode(parent) == 0o700
    assert mode(data) & 0o066 == 0
    assert mode(data / "logs") == 0o700


def test_a_folder_that_is_not_empty_keeps_its_mode(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o750)
    (data / "mine").touch()
    open_folder(data)
    assert mode(data) == 0o750


@pytest.mark.parametrize("name", ["s", "a b", "a,b", "a%20b", "a?b", "é", "d" * 100])
def test_a_socket_path_is_short_plain_and_private(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    sockets = socket_folder(data)
    try:
        assert len(os.fsencode(sockets / LONGEST_SOCKET)) <= 103
        assert not set(str(sockets)) & set(" ,%?@")
        assert mode(sockets) & 0o066 == 0
        assert socket_folder(data) == sockets
    finally:
        sockets.rmdir()


def test_two_deep_folders_have_two_socket_folders(tmp_path: Path) -> None:
    both = [socket_folder(tmp_path / ("d" * 100) / name) for name in ("one", "two")]
    for sockets in both:
        sockets.rmdir()
    assert both[0] != both[1]


def test_a_link_in_place_of_the_socket_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(folder, "short_temporary_folder", lambda: temporary)
    data = tmp_path / ("d" * 100)
    sockets = socket_folder(data)
    sockets.rmdir()
    sockets.symlink_to(tmp_path)
    with pytest.raises(StartError, match="is not a folder owned by"):
        socket_folder(data)


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", lambda: "taken"),
        pytest.raises(StartError, match="taken"),
        locked(tmp_path / "lock", lambda: "taken"),
    ):
        pytest.fail("two hold the same lock")
    with locked(tmp_path / "lock", lambda: "taken"):
        pass


def test_a_private_file_is_complete_and_for_its_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "api_key", "secret\n")
    assert (tmp_path / "api_key").read_text() == "secret\n"
    assert mode(tmp_path / "api_key") == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "api_key"]


def test_a_file_in_place_of_the_folder_gives_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StartError, match=r"cannot use the data folder .*/file: Not a directory"):
        open_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
