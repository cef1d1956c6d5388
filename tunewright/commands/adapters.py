"""Defines `tunewright adapters`."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tunewright import Client
from tunewright.commands.options import AsJson, Limit, Yes, confirm
from tunewright.display import console, format_size, format_time, print_facts, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Manage trained adapters.")
Id = Annotated[str, typer.Argument(help="The adapter's id, adp-…, or its name, ft:….", metavar="ID")]


@app.command("list")
def list_adapters(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List adapters, newest first."""
    with Client() as client:
        adapters = list(islice(client.list_adapters(), limit))
    if as_json:
        return print_json([adapter.raw for adapter in adapters])
    columns = {
        "id": lambda a: a.id,
        "name": lambda a: a.name,
        "base model": lambda a: a.base_model,
        "job": lambda a: a.job_id,
        "size": lambda a: format_size(a.size),
        "created": lambda a: format_time(a.created_at),
    }
    print_table(adapters, columns)


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one adapter and its files."""
    with Client() as client:
        adapter = client.get_adapter(id)
    if as_json:
        return print_json(adapter.raw)
    facts = {
        "id": adapter.id,
        "name": adapter.name,
        "job": adapter.job_id,
        "base model": adapter.base_model,
        "revision": adapter.base_model_revision,
        "created": format_time(adapter.created_at),
        "files": "\n".join(f"{file.path}  {format_size(file.size)}" for file in adapter.files),
    }
    print_facts(facts)


@app.command()
def download(
    id: Id,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Target folder, created if missing [./ID].")
    ] = None,
    archive: Annotated[bool, typer.Option("--archive", help="Download one tar file, DIR.tar.")] = False,
) -> None:
    """Download an adapter in PEFT's format. Verifies the SHA-256 of every file."""
    with Client() as client:
        folder = folder or Path(client.get_adapter(id).id)
        if archive:
            path = client.download_archive(id, folder.with_name(f"{folder.name}.tar"))
        else:
            path = client.download_adapter(id, folder)
    console.print(f"{path}", soft_wrap=True)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete an adapter and its files. Asks for confirmation."""
    with Client() as client:
        confirm(f"Delete adapter {client.get_adapter(id).name} and its files?", yes)
        client.delete_adapter(id)
    console.print(f"Deleted {id}")
