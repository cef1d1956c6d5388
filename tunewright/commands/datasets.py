"""Defines `tunewright datasets`."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tunewright import Client, ConnectionFailed, Dataset
from tunewright import upload as sending
from tunewright.commands.options import AsJson, Limit, Mapped, Yes, confirm, mapped_columns
from tunewright.display import console, instant, notes, print_facts, print_json, print_table, size

app = typer.Typer(no_args_is_help=True, help="Uploaded training data.")
Id = Annotated[str, typer.Argument(help="The dataset's id, file-….", metavar="ID")]
SHOWN_PROBLEMS = 10
SHOWN_LINES = 3


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="JSON Lines, a JSON array, CSV, Parquet or text, also in gzip or zstd.")],
    expires_after: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="Delete it so long after the upload.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="How its rows are written; found by looking unless given.")
    ] = None,
    columns: Mapped = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an upload of this file that was interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Upload a file, wait for its inspection and print the result. Exits with 1 if the dataset cannot be used for
    training.

    A large file is sent in parts. Use --resume to continue an upload that was interrupted within the last day."""
    mapped = mapped_columns(columns)
    with Client() as client:
        try:
            sent = send(client, file, expires_after, format, resume, mapped)
        except (KeyboardInterrupt, ConnectionFailed):
            if file.stat().st_size > sending.WHOLE_BYTES:
                notes.print("What has arrived is kept for a day; the same command with --resume goes on.")
            raise
        dataset = client.wait_for_dataset(sent.id)
    conclude(dataset, as_json)


def conclude(dataset: Dataset, as_json: bool) -> None:
    show_dataset(dataset, as_json)
    if dataset.state == "invalid":
        raise typer.Exit(1)


def send(
    client: Client,
    file: Path,
    expires_after: int | None = None,
    format: str | None = None,
    resume: bool = False,
    mapped: dict[str, str] | None = None,
) -> Dataset:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("Uploading")
        return client.upload_dataset(
            file,
            lambda done, total: bar.update(task, completed=done, total=total),
            expires_after_seconds=expires_after,
            format=format,
            columns=mapped,
            resume=resume,
        )


@app.command("list")
def list_datasets(
    state: Annotated[str | None, typer.Option(help="Only datasets in this state.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List datasets."""
    with Client() as client:
        datasets = list(islice(client.list_datasets(state), limit))
    if as_json:
        return print_json([dataset.raw for dataset in datasets])
    columns = {
        "id": lambda d: d.id,
        "file": lambda d: d.filename,
        "state": lambda d: d.state,
        "examples": lambda d: f"{d.num_examples or 0:,}",
        "size": lambda d: size(d.bytes),
        "created": lambda d: instant(d.created_at),
    }
    print_table(datasets, columns)


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one dataset and its first problems."""
    with Client() as client:
        show_dataset(client.get_dataset(id), as_json)


@app.command()
def problems(
    id: Id,
    code: Annotated[str | None, typer.Option(metavar="CODE", help="Only those with this code.")] = None,
    severity: Annotated[str | None, typer.Option(metavar="SEVERITY", help="Only error, or only warning.")] = None,
    each_row: Annotated[
        bool, typer.Option("--each-row", help="List each by its line, instead of those that say the same as one.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List all problems of a dataset. Equal problems of many rows are listed once, with a count."""
    with Client() as client:
        found = list(islice(client.dataset_problems(id, code, severity, each_row=each_row), limit))
    if as_json:
        return print_json([problem.raw for problem in found])
    columns = {
        "times": lambda p: f"{p.count:,}",
        "lines": lambda p: lines_of(p.count, p.lines),
        "severity": lambda p: p.severity,
        "code": lambda p: p.code,
        "at": lambda p: p.pointer,
        "message": lambda p: p.message,
    }
    print_table(found, columns)


@app.command()
def clean(
    id: Id,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave out rows whose texts are an earlier row's, to the letter.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a dataset from the rows without an error, and print the result of its inspection."""
    with Client() as client:
        made = client.clean_dataset(id, drop_duplicates=drop_duplicates)
        conclude(client.wait_for_dataset(made.id), as_json)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete a dataset that no unfinished job uses. Asks first."""
    with Client() as client:
        dataset = client.get_dataset(id)
        confirm(f"Delete dataset {id} ({dataset.filename}, {dataset.num_examples or 0:,} rows)?", yes)
        client.delete_dataset(id)
    console.print(f"Deleted {id}")


def told(problem: dict[str, Any]) -> str:
    place = f"line {problem['line']:,}{problem['pointer']}"
    where = place if problem["count"] == 1 else f"{problem['count']:,} times, first on {place}"
    return f"{where}: {problem['message']}"


def lines_of(count: int, lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:SHOWN_LINES]))
    return f"{shown}, …" if count > len(lines) or len(lines) > SHOWN_LINES else shown


def show_dataset(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        return print_json(dataset.raw)
    statistics = dataset.statistics or {}
    same = statistics.get("duplicates", {}).get("normalised")
    facts = {
        "id": dataset.id,
        "file": dataset.filename,
        "state": dataset.state,
        "format": ": ".join(filter(None, (dataset.format, dataset.format_reason))) or None,
        "examples": dataset.num_examples,
        "bad rows": dataset.num_bad_rows or None,
        "empty rows": statistics.get("num_empty_rows") or None,
        "very long rows": statistics.get("num_long_rows") or None,
        "duplicates": same or None,
        "columns": ", ".join(statistics.get("columns", {})),
        "mapped": ", ".join(f"{field} is {key}" for field, key in (dataset.columns or {}).items()),
        "cleaned from": dataset.cleaned_from,
        "size": size(dataset.bytes),
        "sha256": dataset.sha256,
        "created": instant(dataset.created_at),
        "expires": instant(dataset.expires_at),
        "problems": "\n".join(problem_lines(dataset)),
    }
    print_facts(facts)


def problem_lines(dataset: Dataset) -> list[str]:
    """Return the dataset's first problems, and the command that lists the others."""
    shown = dataset.problems[:SHOWN_PROBLEMS]
    lines = [told(problem) for problem in shown]
    more = sum(dataset.problem_counts.values()) - sum(problem["count"] for problem in shown)
    return [*lines, f"and {more:,} more: tunewright datasets problems {dataset.id}"] if more > 0 else lines
