"""`tunewright projects`"""

from typing import Annotated

import typer

from tunewright import local
from tunewright.commands.server import become

app = typer.Typer(no_args_is_help=True, help="Projects and their limits (on the server's machine).")


@app.command()
def limit(
    name: Annotated[str, typer.Argument(help="The project's name.")],
    jobs: Annotated[str, typer.Argument(metavar="N", help="0 or more; `none` for no limit.")],
) -> None:
    """Say how many jobs of a project may run at once; what runs already goes on."""
    become("app.projects", "limit", name, jobs, **local.server_environment())


@app.command("set-labels")
def set_labels(
    name: Annotated[str, typer.Argument(help="The project's name.")],
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="pool=a,pool=b; `none` for every worker.")],
) -> None:
    """Say on which workers a project's jobs may run: on those with one of the values of each key."""
    become("app.projects", "set-labels", name, labels, **local.server_environment())


@app.command("list")
def list_projects() -> None:
    """List the projects, their limits and their labels."""
    become("app.projects", "list", **local.server_environment())
