"""Defines `tunewright jobs`."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunewright import Client, Job, TunewrightError
from tunewright.commands.datasets import format_problems
from tunewright.commands.options import AsJson, Limit, Mapped, Yes, confirm, read_mappings
from tunewright.commands.spec.builder import (
    build_integrations,
    build_spec,
    read_changes,
    show_validated,
    supply_datasets,
)
from tunewright.commands.spec.options import read_pairs, with_spec_options
from tunewright.display import console, format_time, notes, print_facts, print_json, print_table, sanitize_text
from tunewright.follow import follow, format_metrics, format_time_left

app = typer.Typer(no_args_is_help=True, help="Manage fine-tuning jobs.")
Id = Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="ID")]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", help="Any unique key; repeating the command with it creates no second job for 24 hours."
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Show the job's progress until it ends.")]
RetryFrom = Literal["start", "last_checkpoint"]
DATASET_FAILURES = ("dataset_invalid", "too_many_bad_rows")
"""Lists the failure reasons that a dataset's problems explain."""
ENDINGS = {"failed": "failed", "cancelled": "was cancelled"}
Metadata = Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")]


@app.command()
@with_spec_options
def create(
    spec: Annotated[Path | None, typer.Option(help="JSON file with a JobSpec; options override its fields.")] = None,
    dataset: Annotated[str | None, typer.Option(help="File to upload, or id of a dataset.")] = None,
    validation_dataset: Annotated[
        str | None, typer.Option(help="File to upload, or id of a dataset, for evaluation.")
    ] = None,
    columns: Mapped = None,
    wandb: Annotated[str | None, typer.Option(metavar="PROJECT", help="Send metrics to Weights & Biases.")] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="EXPERIMENT", help="Send metrics to MLflow.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write an event file for TensorBoard.")] = False,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check the spec without creating a job.")
    ] = False,
    idempotency_key: Key = None,
    watch: Watch = False,
    as_json: AsJson = False,
    fields: dict[str, Any] = {},  # noqa: B006 - never written
) -> None:
    """Create a job. Options that are omitted use the server's defaults. A file given with --spec may set any field.

    The spec is checked before a file is uploaded. A file that was already uploaded with the same mapping is not
    uploaded again. --map applies to every uploaded file."""
    body = build_spec(spec, fields)
    if integrations := build_integrations(wandb, mlflow, tensorboard):
        body["integrations"] = integrations
    datasets = {"dataset_id": dataset, "validation_dataset_id": validation_dataset}
    mapped = read_mappings(columns)
    with Client() as client:
        if validate_only:
            return show_validated(client, body, datasets, mapped, as_json)
        supply_datasets(client, body, datasets, mapped)
        job = client.create_job(idempotency_key=idempotency_key, **body)
        show_created(client, job, watch, as_json)


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs with this base model.")] = None,
    metadata: Metadata = None,
    name: Annotated[
        str | None, typer.Option(help="Only jobs whose name contains this text, or whose id begins with it.")
    ] = None,
    created_by: Annotated[
        str | None, typer.Option(metavar="KEY_ID", help="Only jobs that this API key created.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Client() as client:
        found = client.list_jobs(state, model, read_pairs(metadata or ()), created_by=created_by, name=name)
        jobs = list(islice(found, limit))
    if as_json:
        return print_json([job.raw for job in jobs])
    columns = {
        "id": lambda j: j.id,
        "name": lambda j: j.name or "",
        "state": lambda j: j.state,
        "done": lambda j: f"{j.progress:.0%}",
        "base model": lambda j: j.base_model,
        "method": lambda j: j.method,
        "created": lambda j: format_time(j.created_at),
        "created by": format_creator,
    }
    print_table(jobs, columns)


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one job."""
    with Client() as client:
        job = client.get_job(id)
    if as_json:
        return print_json(job.raw)
    print_facts(describe_job(job))


@app.command()
def watch(id: Id) -> None:
    """Show a job's progress until it ends. Exits with 1 unless the job succeeds. Ctrl-C does not stop the job."""
    with Client() as client:
        watch_until_end(client, id)


@app.command()
def wait(
    id: Id,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Stop waiting after this long.")
    ] = None,
) -> None:
    """Wait for a job to end, without showing progress. Exits with 1 unless it succeeds. A timeout does not stop the
    job."""
    with Client() as client:
        try:
            job = client.wait(id, timeout)
        except TimeoutError as error:
            raise TunewrightError(None, "timeout", str(error)) from error
        report_end(client, job)


@app.command()
def cancel(id: Id) -> None:
    """Cancel a job."""
    with Client() as client:
        job = client.cancel_job(id)
    console.print(f"{job.id} is {job.state}")


@app.command()
def pause(id: Id) -> None:
    """Pause a job. A running job saves a checkpoint first."""
    with Client() as client:
        job = client.pause_job(id)
    console.print(f"{job.id} is {job.state}")


@app.command()
def resume(id: Id) -> None:
    """Resume a paused job from its last checkpoint."""
    with Client() as client:
        job = client.resume_job(id)
    console.print(f"{job.id} is {job.state}")


@app.command()
def retry(
    id: Id,
    from_: Annotated[
        RetryFrom, typer.Option("--from", help="start, or last_checkpoint to continue from it.")
    ] = "start",
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Change a field, such as training.max_steps=80; may be repeated."),
    ] = None,
    idempotency_key: Key = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Create a job from one that has ended."""
    with Client() as client:
        job = client.retry_job(id, changes=read_changes(set), from_=from_, idempotency_key=idempotency_key)
        show_created(client, job, watch, as_json)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete a finished job and all its files. Asks for confirmation."""
    with Client() as client:
        job = client.get_job(id)
        confirm(f"Delete job {id} ({job.name or job.base_model}, {job.state}) and all its files?", yes)
        client.delete_job(id)
    console.print(f"Deleted {id}")


@app.command()
def download(
    id: Id,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Target folder, created if missing [./ID].")
    ] = None,
) -> None:
    """Download a job's files, and verify the SHA-256 of each."""
    with Client() as client:
        console.print(str(client.download_artifacts(id, folder or Path(id))), soft_wrap=True)


@app.command()
def metrics(
    id: Id,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Target file, .csv or .parquet [./ID.csv].")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Include steps that a later attempt repeated.")
    ] = False,
) -> None:
    """Download the metrics of a job."""
    with Client() as client:
        path = client.download_metrics(id, file or Path(f"{id}.csv"), name or (), all_attempts)
    console.print(str(path), soft_wrap=True)


@app.command()
def logs(id: Id) -> None:
    """Print the end of the training process's log."""
    with Client() as client:
        text = client.logs(id)
    sys.stdout.write(sanitize_text(text.replace("\r", "\n")) if sys.stdout.isatty() else text)


def show_created(client: Client, job: Job, watch: bool, as_json: bool) -> None:
    if as_json:
        print_json(job.raw)
    elif not watch:
        console.print(f"{job.id}\nWatch it: tunewright jobs watch {job.id}")
    if watch:
        watch_until_end(client, job.id)


def watch_until_end(client: Client, id: str) -> None:
    try:
        job = follow(client, id, console)
    except KeyboardInterrupt:
        notes.print(f"The job continues. Watch it again: tunewright jobs watch {id}")
        raise typer.Exit(130) from None
    report_end(client, job)


def report_end(client: Client, job: Job) -> None:
    if job.state != "succeeded":
        reason = f" ({job.failure['reason']})" if job.failure else ""
        detail = f"Job {job.id} {ENDINGS[job.state]}{reason}. See: {find_details_command(client, job)}"
        raise TunewrightError(None, f"job_{job.state}", detail)
    console.print(f"Download the result: tunewright jobs download {job.id}")


def find_details_command(client: Client, job: Job) -> str:
    """Return the command that shows details. If a dataset caused the failure there is no log; its first problems are
    printed."""
    if not job.failure or job.failure["reason"] not in DATASET_FAILURES:
        return f"tunewright jobs logs {job.id}"
    ids = [id for id in (job.spec["dataset_id"], job.spec.get("validation_dataset_id")) if id]
    datasets = [client.get_dataset(id) for id in ids]
    invalid = next((dataset for dataset in datasets if dataset.state == "invalid"), datasets[0])
    notes.print(sanitize_text(job.failure["message"]))
    for line in format_problems(invalid):
        notes.print(sanitize_text(f"  {line}"))
    return f"tunewright datasets problems {invalid.id}"


def format_resolved(job: Job) -> str:
    """Format the settings of the latest attempt, with `auto` resolved."""
    parts = job.resolved[-1] if job.resolved else {}
    named = {name: value for part in parts.values() if isinstance(part, dict) for name, value in part.items()}
    return ", ".join(f"{key} {value}" for key, value in named.items() if not isinstance(value, list))


def format_creator(job: Job) -> str:
    """Format the name of the API key that created the job."""
    return job.created_by["key_name"] if job.created_by else ""


def format_inexact_resumes(job: Job) -> str | None:
    """Format the steps of inexact resumes, and what differed."""
    resumes = [f"step {each['step']} ({', '.join(each['differs'])})" for each in job.inexact_resumes]
    return "; ".join(resumes) or None


def describe_job(job: Job) -> dict[str, object]:
    training = {key: value for key, value in job.spec["training"].items() if value is not None}
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "phase": job.phase,
        "waiting for": job.waiting_for,
        "retry of": job.retry_of,
        "created by": format_creator(job),
        "inexact resumes": format_inexact_resumes(job),
        "failure": f"{job.failure['reason']}: {job.failure['message']}" if job.failure else None,
        "progress": f"{job.progress:.0%}, step {job.step} of {job.total_steps or '?'}, attempt {job.attempt}",
        "metrics": "  ".join([*format_metrics(job.last_metrics), *format_time_left(job)]),
        "base model": job.base_model,
        "method": job.method,
        "dataset": job.spec["dataset_id"],
        "training": ", ".join(f"{key} {value}" for key, value in training.items()),
        "resolved": format_resolved(job),
        "metadata": ", ".join(f"{key}={value}" for key, value in job.metadata.items()),
        "created": format_time(job.created_at),
        "started": format_time(job.started_at),
        "finished": format_time(job.finished_at),
        "adapter": job.adapter_id,
    }
