"""Chooses PostgreSQL's user: the current one, or, because PostgreSQL refuses root, a dedicated system user."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from app.failpoints import around
from app.local.errors import StartError

SERVER_USER = "tunewright-postgres"


def server_account() -> pwd.struct_passwd:
    if os.geteuid() == 0:
        return find_user(SERVER_USER) or create_user()
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise StartError(
            f"user id {os.geteuid()} has no name in /etc/passwd, which PostgreSQL needs: "
            "run as a named user, or set DATABASE_URL"
        ) from error


def find_user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def create_user() -> pwd.struct_passwd:
    refusal = f"PostgreSQL refuses to run as root, and its user {SERVER_USER} cannot be created"
    advice = "create it, run as another user, or set DATABASE_URL"
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        raise StartError(f"{refusal} (useradd is missing): {advice}")
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    with around("create_user"):
        made = subprocess.run(
            [useradd, *options, "--shell", "/usr/sbin/nologin", SERVER_USER], capture_output=True, text=True
        )
    # Two stacks may start together: then the other one has created the user.
    account = find_user(SERVER_USER)
    if account is None:
        raise StartError(f"{refusal} ({made.stderr.strip()}): {advice}")
    return account


def require_searchable(data: Path) -> None:
    """Check that the server's user can reach the data folder. The modes of shared parent folders are not changed."""
    for folder in reversed((data, *data.parents)):
        if not folder.stat().st_mode & 0o001:
            raise StartError(
                f"PostgreSQL refuses to run as root, and its user {SERVER_USER} cannot enter {folder}: choose "
                "another data folder with --data-dir (root's default is /var/lib/tunewright), or set DATABASE_URL"
            )
