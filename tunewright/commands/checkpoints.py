"""Defines `tunewright checkpoints`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tunewright import Checkpoint, Client, TunewrightError
from tunewright.commands.options import AsJson
from tunewright.display import console, instant, print_json, print_table, size

app = typer.Typer(no_args_is_help=True, help="What jobs can go on from, and others can start from.")
COMPARED = {
    "loss": "loss",
    "validation loss": "validation_loss",
    "validation accuracy": "validation_token_accuracy",
    "validation reward accuracy": "validation_reward_accuracy",
}
"""Maps the list's columns to the metrics that they show."""


@app.command("list")
def list_checkpoints(
    jobs: Annotated[list[str], typer.Argument(help="Ids of jobs, to compare theirs.", metavar="JOB…")],
    as_json: AsJson = False,
) -> None:
    """List the checkpoints of one or more jobs, with the values measured at their steps."""
    with Client() as client:
        found = [each for job in jobs for each in client.checkpoints(job)]
    if as_json:
        return print_json([each.raw for each in found])
    measured = {title: name for title, name in COMPARED.items() if any(name in each.metrics for each in found)}
    columns: dict[str, Callable[[Checkpoint], str]] = {
        "id": lambda c: c.id,
        "name": lambda c: c.name,
        "step": lambda c: str(c.step),
        **{title: value_of(name) for title, name in measured.items()},
        "size": lambda c: size(c.size),
        "created": lambda c: instant(c.created_at),
    }
    print_table(found, columns)


@app.command()
def download(
    job: Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="JOB")],
    checkpoint: Annotated[str, typer.Argument(help="Its id, its name or its step.", metavar="CHECKPOINT")],
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where to; made if new [./ID].")] = None,
) -> None:
    """Download a checkpoint's adapter, and check it against its SHA-256."""
    with Client() as client:
        found = find(client, job, checkpoint)
        console.print(str(client.download_checkpoint(job, found.id, folder or Path(found.id))), soft_wrap=True)


def value_of(metric: str) -> Callable[[Checkpoint], str]:
    return lambda checkpoint: f"{checkpoint.metrics[metric]:.4f}" if metric in checkpoint.metrics else ""


def find(client: Client, job: str, wanted: str) -> Checkpoint:
    for each in client.checkpoints(job):
        if wanted in (each.id, each.name, str(each.step)):
            return each
    said = f"Job {job} has no checkpoint {wanted}, or no longer: tunewright checkpoints list {job}"
    raise TunewrightError(None, "checkpoint_not_found", said)
