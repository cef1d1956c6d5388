"""Defines `tunewright checkpoints`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tunewright import Checkpoint, Client, TunewrightError
from tunewright.commands.options import AsJson
from tunewright.display import console, format_size, format_time, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="List and download the checkpoints of jobs.")
METRIC_COLUMNS = {
    "loss": "loss",
    "validation loss": "validation_loss",
    "validation accuracy": "validation_token_accuracy",
    "validation reward accuracy": "validation_reward_accuracy",
}
"""Maps columns of the list to the metrics that they show."""


@app.command("list")
def list_checkpoints(
    jobs: Annotated[list[str], typer.Argument(help="Ids of one or more jobs, ftjob-….", metavar="JOB…")],
    as_json: AsJson = False,
) -> None:
    """List the checkpoints of jobs, with the metrics of their steps."""
    with Client() as client:
        found = [each for job in jobs for each in client.checkpoints(job)]
    if as_json:
        return print_json([each.raw for each in found])
    measured = {title: name for title, name in METRIC_COLUMNS.items() if any(name in each.metrics for each in found)}
    columns: dict[str, Callable[[Checkpoint], str]] = {
        "id": lambda c: c.id,
        "name": lambda c: c.name,
        "step": lambda c: str(c.step),
        **{title: show_metric(name) for title, name in measured.items()},
        "size": lambda c: format_size(c.size),
        "created": lambda c: format_time(c.created_at),
    }
    print_table(found, columns)


@app.command()
def download(
    job: Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="JOB")],
    checkpoint: Annotated[str, typer.Argument(help="The checkpoint's id, name or step.", metavar="CHECKPOINT")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Target folder, created if missing [./ID].")
    ] = None,
) -> None:
    """Download the adapter of a checkpoint, and verify its SHA-256."""
    with Client() as client:
        found = find_checkpoint(client, job, checkpoint)
        console.print(str(client.download_checkpoint(job, found.id, folder or Path(found.id))), soft_wrap=True)


def show_metric(metric: str) -> Callable[[Checkpoint], str]:
    return lambda checkpoint: f"{checkpoint.metrics[metric]:.4f}" if metric in checkpoint.metrics else ""


def find_checkpoint(client: Client, job: str, wanted: str) -> Checkpoint:
    for each in client.checkpoints(job):
        if wanted in (each.id, each.name, str(each.step)):
            return each
    detail = f"Job {job} has no stored checkpoint {wanted}. List its checkpoints: tunewright checkpoints list {job}"
    raise TunewrightError(None, "checkpoint_not_found", detail)
