"""Defines `tunewright datasets`."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tunewright import Client, ConnectionFailed, Dataset
from tunewright import upload as uploads
from tunewright.commands.options import AsJson, Limit, Mapped, Yes, confirm, read_mappings
from tunewright.display import console, format_size, format_time, notes, print_facts, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Manage datasets.")
Id = Annotated[str, typer.Argument(help="The dataset's id, file-….", metavar="ID")]
SHOWN_PROBLEMS = 10
SHOWN_LINES = 3


@app.command()
def upload(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, JSON array, CSV, Parquet or text file, plain, gzip or zstd.")
    ],
    expires_after: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="Delete the dataset this long after the upload.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Format of the rows; detected if omitted.")
    ] = None,
    columns: Mapped = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted upload of this file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload a file, wait for its inspection and print the result. Exits with 1 if the dataset is invalid.

    A large file is sent in parts. An interrupted upload can be resumed for one day."""
    mapped = read_mappings(columns)
    with Client() as client:
        try:
            sent = upload_with_progress(client, file, expires_after, format, resume, mapped)
        except (KeyboardInterrupt, ConnectionFailed):
            if file.stat().st_size > uploads.WHOLE_BYTES:
                notes.print("Upload interrupted. To continue it within a day, run the same command with --resume.")
            raise
        dataset = client.wait_for_dataset(sent.id)
    show_inspected(dataset, as_json)


def show_inspected(dataset: Dataset, as_json: bool) -> None:
    show_dataset(dataset, as_json)
    if dataset.state == "invalid":
        raise typer.Exit(1)


def upload_with_progress(
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
    """List datasets, newest first."""
    with Client() as client:
        datasets = list(islice(client.list_datasets(state), limit))
    if as_json:
        return print_json([dataset.raw for dataset in datasets])
    columns = {
        "id": lambda d: d.id,
        "file": lambda d: d.filename,
        "state": lambda d: d.state,
        "examples": lambda d: f"{d.num_examples or 0:,}",
        "size": lambda d: format_size(d.bytes),
        "created": lambda d: format_time(d.created_at),
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
    code: Annotated[str | None, typer.Option(metavar="CODE", help="Only problems with this code.")] = None,
    severity: Annotated[
        str | None, typer.Option(metavar="SEVERITY", help="Only problems of this severity: error or warning.")
    ] = None,
    each_row: Annotated[
        bool, typer.Option("--each-row", help="List each problem by its line instead of grouping equal problems.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the problems of a dataset. Equal problems are grouped, with a count."""
    with Client() as client:
        found = list(islice(client.dataset_problems(id, code, severity, each_row=each_row), limit))
    if as_json:
        return print_json([problem.raw for problem in found])
    columns = {
        "count": lambda p: f"{p.count:,}",
        "lines": lambda p: format_lines(p.count, p.lines),
        "severity": lambda p: p.severity,
        "code": lambda p: p.code,
        "field": lambda p: p.pointer,
        "message": lambda p: p.message,
    }
    print_table(found, columns)


@app.command()
def clean(
    id: Id,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Drop rows whose texts are identical to an earlier row's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a dataset from the rows without errors. Prints the result of its inspection."""
    with Client() as client:
        cleaned = client.clean_dataset(id, drop_duplicates=drop_duplicates)
        show_inspected(client.wait_for_dataset(cleaned.id), as_json)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete a dataset that no unfinished job uses. Asks for confirmation."""
    with Client() as client:
        dataset = client.get_dataset(id)
        confirm(f"Delete dataset {id} ({dataset.filename}, {dataset.num_examples or 0:,} rows)?", yes)
        client.delete_dataset(id)
    console.print(f"Deleted {id}")


def format_problem(problem: dict[str, Any]) -> str:
    first = f"line {problem['line']:,}{problem['pointer']}"
    where = first if problem["count"] == 1 else f"{problem['count']:,} times, first on {first}"
    return f"{where}: {problem['message']}"


def format_lines(count: int, lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:SHOWN_LINES]))
    return f"{shown}, …" if count > len(lines) or len(lines) > SHOWN_LINES else shown


def show_dataset(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        return print_json(dataset.raw)
    statistics = dataset.statistics or {}
    num_duplicates = statistics.get("duplicates", {}).get("normalised")
    facts = {
        "id": dataset.id,
        "file": dataset.filename,
        "state": dataset.state,
        "format": ": ".join(filter(None, (dataset.format, dataset.format_reason))) or None,
        "examples": dataset.num_examples,
        "bad rows": dataset.num_bad_rows or None,
        "empty rows": statistics.get("num_empty_rows") or None,
        "very long rows": statistics.get("num_long_rows") or None,
        "duplicates": num_duplicates or None,
        "columns": ", ".join(statistics.get("columns", {})),
        "mapping": ", ".join(f"{field}={key}" for field, key in (dataset.columns or {}).items()),
        "cleaned from": dataset.cleaned_from,
        "size": format_size(dataset.bytes),
        "sha256": dataset.sha256,
        "created": format_time(dataset.created_at),
        "expires": format_time(dataset.expires_at),
        "problems": "\n".join(format_problems(dataset)),
    }
    print_facts(facts)


def format_problems(dataset: Dataset) -> list[str]:
    """Format the dataset's first problems, and the command that lists the others."""
    shown = dataset.problems[:SHOWN_PROBLEMS]
    lines = [format_problem(problem) for problem in shown]
    more = sum(dataset.problem_counts.values()) - sum(problem["count"] for problem in shown)
    return [*lines, f"and {more:,} more: tunewright datasets problems {dataset.id}"] if more > 0 else lines
