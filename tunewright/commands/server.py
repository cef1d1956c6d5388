"""Defines `tunewright up`, and replaces a command by one of the server's programs."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunewright.errors import TunewrightError


def become(module: str, *arguments: str, **environment: str) -> NoReturn:
    """Replace this process with one of the server's programs."""
    if importlib.util.find_spec("fastapi") is None:
        said = "The server is not installed here. Install it: pip install 'tunewright[server,worker,local]'"
        raise TunewrightError(None, "server_not_installed", said)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], os.environ | environment)


def flags(**given: object) -> list[str]:
    return [word for name, value in given.items() if value is not None for word in flag(name, value)]


def flag(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option] if value else []
    return [f"{option}={value}"]


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Folder where everything is kept.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8400]; 0 takes a free one.")] = None,
) -> None:
    """Run the whole server on this machine, in the foreground, until ctrl-C.

    Without DATABASE_URL and REDIS_URL it also starts PostgreSQL and Redis."""
    become("app.local", *flags(data_dir=data_dir, host=host, port=port))
