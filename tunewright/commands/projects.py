"""`tunewright projects`"""

from typing import Annotated

import typer

from tunewright import local
from tunewright.commands.options import DataDir
from tunewright.commands.server import become, flags

app = typer.Typer(no_args_is_help=True, help="Projects and their limits (on the server's machine).")
Name = Annotated[str, typer.Argument(help="The project's name.")]


@app.command()
def create(name: Name, data_dir: DataDir = None) -> None:
    """Create a project. A new server has one, `default`."""
    become("app.projects", "create", name, **local.server_environment(data_dir))


@app.command("list")
def list_projects(data_dir: DataDir = None) -> None:
    """List the projects, their limits and their labels and their labels."""
    become("app.projects", "list", **local.server_environment(data_dir))


@app.command()
def set_limit(
    name: Name,
    jobs: Annotated[str, typer.Argument(metavar="N", help="0 or more; `none` for no limit.")],
    data_dir: DataDir = None,
) -> None:
    """Say how many jobs of a project may run at once; what runs already goes on."""
    become("app.projects", "set-limit", name, jobs, **local.server_environment(data_dir))


@app.command()
def set_labels(
    name: Name,
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="pool=a,pool=b; `none` for every worker.")],
    data_dir: DataDir = None,
) -> None:
    """Say on which workers a project's jobs may run: on those with one of the values of each key."""
    become("app.projects", "set-labels", name, labels, **local.server_environment(data_dir))


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once; the server goes on.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase a project: its keys, rows, stored files, caches and work folders. Prints a list of what was erased."""
    options = flags(yes=yes, no_wait=no_wait)
    become("app.projects", "delete", name, *options, **local.server_environment(data_dir))
