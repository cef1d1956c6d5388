"""`tunewright up` and `tunewright keys`: what must work before a server answers, so the server's own programs do it."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunewright import local
from tunewright.commands.options import DataDir
from tunewright.errors import TunewrightError

keys = typer.Typer(no_args_is_help=True, help="API keys.")


def become(module: str, *arguments: str, **environment: str) -> NoReturn:
    """Goes on as a program of the server."""
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

    Without DATABASE_URL and REDIS_URL it brings PostgreSQL and Redis of its own.
    """
    become("app.embedded", *flags(data_dir=data_dir, host=host, port=port))


@keys.callback()
def explain() -> None:
    """API keys, made on the server's machine: it needs DATABASE_URL or the data folder of `tunewright up`."""


@keys.command()
def create(
    project: Annotated[str, typer.Option(help="Project it belongs to, which must exist.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "unnamed",
    read_only: Annotated[bool, typer.Option("--read-only", help="Without the right to change anything.")] = False,
    scope: Annotated[str | None, typer.Option(metavar="admin", help="Also changes what serves all projects.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make an API key and print it, once."""
    options = flags(project=project, name=name, read_only=read_only, scope=scope)
    become("app.keys", "create", *options, **local.server_environment(data_dir))
