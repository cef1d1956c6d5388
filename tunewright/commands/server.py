"""Defines `tunewright up`, and executes the server's programs."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunewright.errors import TunewrightError


def exec_program(module: str, *arguments: str, **environment: str) -> NoReturn:
    """Replace this process with one of the server's programs."""
    if importlib.util.find_spec("fastapi") is None:
        detail = "The server is not installed. Install it: pip install 'tunewright[server,worker,local]'"
        raise TunewrightError(None, "server_not_installed", detail)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], os.environ | environment)


def to_flags(**given: object) -> list[str]:
    return [word for name, value in given.items() if value is not None for word in to_flag(name, value)]


def to_flag(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option] if value else []
    return [f"{option}={value}"]


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the server.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8400]; 0 picks a free port.")] = None,
) -> None:
    """Run the server and its workers on this machine.

    Runs in the foreground until Ctrl-C. Also starts PostgreSQL and Redis, unless DATABASE_URL and REDIS_URL are set."""
    exec_program("app.local", *to_flags(data_dir=data_dir, host=host, port=port))
