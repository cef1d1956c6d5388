import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app.local import orphans
from app.local.errors import StartError
from app.local.postgres import embedded_postgres

HOLD = """
import sys, time
from pathlib import Path
from app.local.postgres import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), durable=False) as url:
    print(url, flush=True)
    time.sleep(600)
"""
NEW_TABLE = "DROP TABLE IF EXISTS kept; CREATE TABLE kept ()"


def scalar(url: str, statement: str) -> object:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.scalar() if result.returns_rows else None


def count_rows(url: str) -> object:
    return scalar(url, "SELECT count(*) FROM kept")


def test_data_survives_a_restart_and_the_parent_folder_keeps_its_mode(public_folder: Path) -> None:
    parent = public_folder / "parent"
    parent.mkdir()
    parent.chmod(0o711 if os.geteuid() == 0 else 0o700)
    before = parent.stat().st_mode
    with embedded_postgres(parent / "data", durable=False) as url:
        assert url.startswith("postgresql+psycopg://tunewright@/tunewright?host=")
        scalar(url, "CREATE TABLE kept AS SELECT 'Grüße' AS word")
        assert scalar(url, "SELECT upper(word) FROM kept") == "GRÜßE"
        assert scalar(url, "SHOW server_encoding") == "UTF8"
    assert orphans.find_processes(parent / "data/postgres", "postgres") == []
    with embedded_postgres(parent / "data", durable=False) as url:
        assert count_rows(url) == 1
    assert parent.stat().st_mode == before


def test_the_server_is_closed_to_the_network_and_to_other_users(cluster: Path) -> None:
    with embedded_postgres(cluster, durable=False) as url:
        assert scalar(url, "SHOW listen_addresses") == ""
        sockets = Path(url.partition("host=")[2])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert scalar(url, "SELECT usesuper FROM pg_user WHERE usename = current_user") is False
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(host=str(sockets), user="pg_monitor", dbname="tunewright")


def test_two_clusters_run_side_by_side(cluster: Path, long_path: Path) -> None:
    with (
        embedded_postgres(cluster, durable=False) as first,
        embedded_postgres(long_path, durable=False) as second,
    ):
        scalar(first, NEW_TABLE)
        assert scalar(second, "SELECT to_regclass('kept')") is None


def test_a_folder_in_use_is_refused_and_its_server_keeps_running(cluster: Path) -> None:
    with embedded_postgres(cluster, durable=False) as url:
        with pytest.raises(StartError, match="already running"), embedded_postgres(cluster):
            pytest.fail("two servers hold the same cluster")
        assert scalar(url, "SELECT 1") == 1


def test_a_stale_pid_file_does_not_end_an_unrelated_process(cluster: Path) -> None:
    with embedded_postgres(cluster, durable=False) as url:
        scalar(url, NEW_TABLE)
        pid_file = (cluster / "postgres/postmaster.pid").read_text()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        stale = "\n".join([str(stranger.pid), *pid_file.splitlines()[1:]]) + "\n"
        (cluster / "postgres/postmaster.pid").write_text(stale)
        (cluster / "run/pg/.s.PGSQL.5432.lock").write_text(stale)
        with embedded_postgres(cluster, durable=False) as url:
            assert count_rows(url) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_the_server_ends_with_its_killed_parent_and_recovers_at_the_next_start(
    cluster: Path, spawn: Callable[..., subprocess.Popen[str]], eventually: Callable[..., None]
) -> None:
    holder = spawn("-c", HOLD, str(cluster))
    assert holder.stdout
    scalar(holder.stdout.readline().strip(), NEW_TABLE)
    holder.kill()
    holder.wait()
    with embedded_postgres(cluster, durable=False) as url:
        assert count_rows(url) == 0
    eventually(lambda: not orphans.find_processes(cluster / "postgres", "postgres"))


def test_a_suspended_orphan_that_holds_the_cluster_is_ended(
    cluster: Path, spawn: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = spawn("-c", HOLD, str(cluster))
    assert holder.stdout
    scalar(holder.stdout.readline().strip(), NEW_TABLE)
    postmaster = int((cluster / "postgres/postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGSTOP)
    holder.kill()
    holder.wait()
    assert postmaster in orphans.find_processes(cluster / "postgres", "postgres")
    monkeypatch.setattr("app.local.postgres.ORPHAN_SECONDS", 0.5)
    with embedded_postgres(cluster, durable=False) as url:
        assert count_rows(url) == 0
        assert postmaster not in orphans.find_processes(cluster / "postgres", "postgres")


def test_the_files_of_an_interrupted_initdb_are_removed(public_folder: Path) -> None:
    (public_folder / "postgres.half/base").mkdir(parents=True)
    with embedded_postgres(public_folder, durable=False) as url:
        assert scalar(url, "SELECT 1") == 1
    assert not (public_folder / "postgres.half").exists()


def test_a_failed_start_reports_the_cause_and_the_log(public_folder: Path) -> None:
    with embedded_postgres(public_folder, durable=False):
        pass
    (public_folder / "postgres/global/pg_control").unlink()
    expected = r"did not start \(exit code 2\).*pg_control.*postgres\.log"
    with pytest.raises(StartError, match=expected) as caught, embedded_postgres(public_folder, durable=False):
        pass
    assert "\n" not in str(caught.value)


def test_a_cluster_of_an_unknown_version_is_refused(public_folder: Path) -> None:
    (public_folder / "postgres").mkdir(parents=True)
    (public_folder / "postgres/PG_VERSION").write_text("12\n")
    with pytest.raises(StartError, match="PostgreSQL 12"), embedded_postgres(public_folder):
        pass
