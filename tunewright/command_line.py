"""Defines the command line `tunewright`. Its commands are in `tunewright.commands`, one module per noun."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from tunewright.commands import (
    adapters,
    checkpoints,
    dataset_checks,
    datasets,
    jobs,
    keys,
    models,
    projects,
    server,
    status,
    webhooks,
    workers,
)
from tunewright.display import notes, print_error
from tunewright.errors import TunewrightError

app = typer.Typer(
    name="tunewright",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Fine-tune language models on your own server.\n\n"
        "Commands use the server at TUNEWRIGHT_URL with the API key TUNEWRIGHT_API_KEY. Without them, they use the "
        "server that `tunewright up` runs on this machine."
    ),
)
app.command("up")(server.up)
app.command("status")(status.status)
app.command("support-bundle")(status.support_bundle)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
datasets.app.command("preview")(dataset_checks.preview)
datasets.app.command("overlap")(dataset_checks.overlap)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.app, name="jobs")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(adapters.app, name="adapters")
app.add_typer(webhooks.app, name="webhooks")
app.command("workers")(workers.list_workers)
app.add_typer(projects.app, name="projects")


def print_version(requested: bool) -> None:
    if requested:
        print(f"tunewright {version('tunewright')}")
        raise typer.Exit


@app.callback()
def read_global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    try:
        app(prog_name="tunewright")
    except TunewrightError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        notes.print(f"tunewright: {error.filename or 'I/O error'}: {error.strerror}", style="red")
        sys.exit(1)
