"""Defines `tunewright adapters`."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tunewright import Client
from tunewright.commands.options import AsJson, Limit, Yes, confirm
from tunewright.display import console, instant, print_facts, print_json, print_table, size

app = typer.Typer(no_args_is_help=True, help="Trained adapters, in PEFT's format.")
Id = Annotated[str, typer.Argument(help="The adapter's id, adp-…, or its name, ft:….", metavar="ID")]


@app.command("list")
def list_adapters(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List adapters."""
    with Client() as client:
        adapters = list(islice(client.list_adapters(), limit))
    if as_json:
        return print_json([adapter.raw for adapter in adapters])
    columns = {
        "id": lambda a: a.id,
        "name": lambda a: a.name,
        "base model": lambda a: a.base_model,
        "job": lambda a: a.job_id,
        "size": lambda a: size(a.size),
        "created": lambda a: instant(a.created_at),
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
        "created": instant(adapter.created_at),
        "files": "\n".join(f"{file.path}  {size(file.size)}" for file in adapter.files),
    }
    print_facts(facts)


@app.command()
def download(
    id: Id,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where to; made if new [./ID].")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="As one tar file, DIR.tar.")] = False,
) -> None:
    """Download an adapter, and check every file against its SHA-256."""
    with Client() as client:
        folder = folder or Path(client.get_adapter(id).id)
        if archive:
            path = client.download_archive(id, folder.with_name(f"{folder.name}.tar"))
        else:
            path = client.download_adapter(id, folder)
    console.print(f"{path}", soft_wrap=True)


@app.command()
def delete(id: Id, yes: Yes = False) -> None:
    """Delete an adapter and its files. Asks first."""
    with Client() as client:
        confirm(f"Delete adapter {client.get_adapter(id).name} and its files?", yes)
        client.delete_adapter(id)
    console.print(f"Deleted {id}")
