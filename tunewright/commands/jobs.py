"""Defines `tunewright jobs`."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunewright import Client, Job, TunewrightError
from tunewright.commands.datasets import problem_lines
from tunewright.commands.options import AsJson, Limit, Mapped, Yes, confirm, mapped_columns
from tunewright.commands.spec.builder import build_spec, changes, show_validated, supply_datasets, trackers
from tunewright.commands.spec.options import read_pairs, with_spec_options
from tunewright.display import clean, console, instant, notes, print_facts, print_json, print_table
from tunewright.follow import follow, spoken, time_left

app = typer.Typer(no_args_is_help=True, help="Fine-tuning jobs.")
Id = Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="ID")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="Of your own: the same spec again makes no second job.")
]
WatchIt = Annotated[bool, typer.Option("--watch", help="Watch it until its end.")]
RetryFrom = Literal["start", "last_checkpoint"]
OF_THE_DATASET = ("dataset_invalid", "too_many_bad_rows")
"""Lists the failure reasons that the dataset's problems explain."""
Metadata = Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")]


@app.command()
@with_spec_options
def create(
    spec: Annotated[Path | None, typer.Option(help="JobSpec as a JSON file; options given here go before it.")] = None,
    dataset: Annotated[str | None, typer.Option(help="File to upload, or the id of a dataset.")] = None,
    validation_dataset: Annotated[str | None, typer.Option(help="The same, of rows to evaluate on.")] = None,
    columns: Mapped = None,
    wandb: Annotated[str | None, typer.Option(metavar="PROJECT", help="Pass curves on to Weights & Biases.")] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="EXPERIMENT", help="Pass curves on to MLflow.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Make an event file for TensorBoard.")] = False,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Check the spec; make nothing.")] = False,
    idempotency_key: Key = None,
    watch: WatchIt = False,
    as_json: AsJson = False,
    fields: dict[str, Any] = {},  # noqa: B006 - never written
) -> None:
    """Create a job. Omitted options use the server's defaults; --spec accepts every field of a spec.

    The server checks the spec before a file is uploaded. A file that was already uploaded and read in the same way is
    not uploaded again. --map applies to every uploaded file."""
    asked = build_spec(spec, fields)
    if tracked := trackers(wandb, mlflow, tensorboard):
        asked["integrations"] = tracked
    datasets = {"dataset_id": dataset, "validation_dataset_id": validation_dataset}
    mapped = mapped_columns(columns)
    with Client() as client:
        if validate_only:
            return show_validated(client, asked, datasets, mapped, as_json)
        supply_datasets(client, asked, datasets, mapped)
        job = client.create_job(idempotency_key=idempotency_key, **asked)
        show_posted(client, job, watch, as_json)


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs on this base model.")] = None,
    metadata: Metadata = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs."""
    with Client() as client:
        jobs = list(islice(client.list_jobs(state, model, read_pairs(metadata or ())), limit))
    if as_json:
        return print_json([job.raw for job in jobs])
    columns = {
        "id": lambda j: j.id,
        "name": lambda j: j.name or "",
        "state": lambda j: j.state,
        "done": lambda j: f"{j.progress:.0%}",
        "base model": lambda j: j.base_model,
        "method": lambda j: j.method,
        "created": lambda j: instant(j.created_at),
    }
    print_table(jobs, columns)


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one job."""
    with Client() as client:
        job = client.get_job(id)
    if as_json:
        return print_json(job.raw)
    print_facts(facts_of(job))


@app.command()
def watch(id: Id) -> None:
    """Show a job's progress until it ends. Ctrl-C stops only the display. Exits with 1 unless the job succeeds."""
    with Client() as client:
        watch_until_end(client, id)


@app.command()
def wait(
    id: Id,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Give up after so long.")] = None,
) -> None:
    """Wait for a job to end, without output. Exits with 1 unless it succeeds; after a timeout the job continues."""
    with Client() as client:
        try:
            job = client.wait(id, timeout)
        except TimeoutError as error:
            raise TunewrightError(None, "timeout", str(error)) from error
        tell_end(client, job)


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
    from_: Annotated[RetryFrom, typer.Option("--from", help="start, or last_checkpoint to go on from it.")] = "start",
    set: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="training.max_steps=80, say; may be repeated.")
    ] = None,
    idempotency_key: Key = None,
    watch: WatchIt = False,
    as_json: AsJson = False,
) -> None:
    """Create a new job from one that has ended."""
    with Client() as client:
        job = client.retry_job(id, changes=changes(set), from_=from_, idempotency_key=idempotency_key)
        show_posted(client, job, watch, as_json)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete a finished job and all its files. Asks first."""
    with Client() as client:
        job = client.get_job(id)
        confirm(f"Delete job {id} ({job.name or job.base_model}, {job.state}) and everything that it made?", yes)
        client.delete_job(id)
    console.print(f"Deleted {id}")


@app.command()
def download(
    id: Id,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where to; made if new [./ID].")] = None,
) -> None:
    """Download a job's files, and check each against its SHA-256."""
    with Client() as client:
        console.print(str(client.download_artifacts(id, folder or Path(id))), soft_wrap=True)


@app.command()
def metrics(
    id: Id,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Ends in .csv or .parquet [./ID.csv].")] = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    all_attempts: Annotated[bool, typer.Option("--all-attempts", help="Also what was measured and rewound.")] = False,
) -> None:
    """Download all metrics of a job."""
    with Client() as client:
        path = client.download_metrics(id, file or Path(f"{id}.csv"), name or (), all_attempts)
    console.print(str(path), soft_wrap=True)


@app.command()
def logs(id: Id) -> None:
    """Print the end of the training process's log."""
    with Client() as client:
        text = client.logs(id)
    sys.stdout.write(clean(text.replace("\r", "\n")) if sys.stdout.isatty() else text)


def show_posted(client: Client, job: Job, watch: bool, as_json: bool) -> None:
    if as_json:
        print_json(job.raw)
    elif not watch:
        console.print(f"{job.id}\nFollow it: tunewright jobs watch {job.id}")
    if watch:
        watch_until_end(client, job.id)


def watch_until_end(client: Client, id: str) -> None:
    try:
        job = follow(client, id, console)
    except KeyboardInterrupt:
        notes.print(f"The job goes on. Watch it again: tunewright jobs watch {id}")
        raise typer.Exit(130) from None
    tell_end(client, job)


def tell_end(client: Client, job: Job) -> None:
    if job.state != "succeeded":
        reason = f" ({job.failure['reason']})" if job.failure else ""
        said = f"Job {job.id} has {job.state}{reason}: {where_to_look(client, job)}"
        raise TunewrightError(None, f"job_{job.state}", said)
    console.print(f"Download the result: tunewright jobs download {job.id}")


def where_to_look(client: Client, job: Job) -> str:
    """Return the command that shows more. If the dataset caused the failure there is no log, so its first problems are
    printed."""
    if not job.failure or job.failure["reason"] not in OF_THE_DATASET:
        return f"tunewright jobs logs {job.id}"
    ids = [id for id in (job.spec["dataset_id"], job.spec.get("validation_dataset_id")) if id]
    datasets = [client.get_dataset(id) for id in ids]
    refused = next((dataset for dataset in datasets if dataset.state == "invalid"), datasets[0])
    notes.print(clean(job.failure["message"]))
    for line in problem_lines(refused):
        notes.print(clean(f"  {line}"))
    return f"tunewright datasets problems {refused.id}"


def decided(job: Job) -> str:
    """Return the settings that `auto` was resolved to in the latest attempt."""
    parts = job.resolved[-1] if job.resolved else {}
    named = {name: value for part in parts.values() if isinstance(part, dict) for name, value in part.items()}
    return ", ".join(f"{key} {value}" for key, value in named.items() if not isinstance(value, list))


def inexactly(job: Job) -> str | None:
    """Return the steps after which a resume was inexact, and the causes."""
    told = [f"not after step {each['step']} ({', '.join(each['differs'])})" for each in job.inexact_resumes]
    return "; ".join(told) or None


def facts_of(job: Job) -> dict[str, object]:
    training = {key: value for key, value in job.spec["training"].items() if value is not None}
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "phase": job.phase,
        "waits": job.waiting_for,
        "retry of": job.retry_of,
        "exact": inexactly(job),
        "failure": f"{job.failure['reason']}: {job.failure['message']}" if job.failure else None,
        "progress": f"{job.progress:.0%}, step {job.step} of {job.total_steps or '?'}, attempt {job.attempt}",
        "measured": "  ".join([*spoken(job.last_metrics), *time_left(job)]),
        "base model": job.base_model,
        "method": job.method,
        "dataset": job.spec["dataset_id"],
        "training": ", ".join(f"{key} {value}" for key, value in training.items()),
        "decided": decided(job),
        "metadata": ", ".join(f"{key}={value}" for key, value in job.metadata.items()),
        "created": instant(job.created_at),
        "started": instant(job.started_at),
        "finished": instant(job.finished_at),
        "adapter": job.adapter_id,
    }
