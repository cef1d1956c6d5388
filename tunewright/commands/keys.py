"""Defines `tunewright keys`."""

from typing import Annotated

import typer

from tunewright import Client, Key, local
from tunewright.commands.options import AsJson, DataDir
from tunewright.commands.server import exec_program, to_flags
from tunewright.commands.spec.options import read_duration
from tunewright.display import console, format_time, notes, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Manage API keys.\n\n"
        "These commands work on the server's machine. To use them from another machine, set TUNEWRIGHT_URL, and "
        "TUNEWRIGHT_API_KEY to a key with the scope admin (`tunewright keys create --scope admin`)."
    ),
)
Id = Annotated[str, typer.Argument(help="The key's id: key-0123… for the key tw_0123…_….", metavar="ID")]


@app.command()
def create(
    project: Annotated[str, typer.Option(help="Existing project that the key belongs to.")] = "default",
    name: Annotated[str, typer.Option(help="Name of the key.")] = "unnamed",
    read_only: Annotated[bool, typer.Option("--read-only", help="Create a key that cannot change anything.")] = False,
    scope: Annotated[
        str | None, typer.Option(metavar="admin", help="Create a key that can also manage what all projects share.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="90d", help="Time until the key expires [never].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an API key, and print it once."""
    if local.uses_database(data_dir):
        options = to_flags(project=project, name=name, read_only=read_only, scope=scope, expires=expires)
        exec_program("app.keys", "create", *options, **local.server_environment(data_dir))
    if scope not in (None, "admin") or (scope and read_only):
        raise typer.BadParameter("Use `admin`, without --read-only.", param_hint="--scope")
    scopes = ["admin"] if scope else ["read"] if read_only else None
    life = None if expires is None else read_duration(expires)
    with Client() as client:
        key = client.create_key(name, project=project, scopes=scopes, expires_after_seconds=life)
    print(key.raw["secret"])


@app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only keys of this project, by name or id.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List API keys, newest first, with the time of their last use."""
    if local.uses_database(data_dir):
        options = to_flags(project=project, json=as_json)
        exec_program("app.keys", "list", *options, **local.server_environment(data_dir))
    with Client() as client:
        keys = list(client.list_keys(project))
    if as_json:
        return print_json([key.raw for key in keys])
    columns = {
        "id": lambda k: k.id,
        "name": lambda k: k.name,
        "project": lambda k: k.project,
        "scopes": lambda k: ", ".join(k.scopes),
        "state": lambda k: f"{k.state}, replaced" if k.replaced_by else k.state,
        "last used": lambda k: format_time(k.last_used_at) or "never",
        "expires": lambda k: format_time(k.expires_at) or "never",
    }
    print_table(keys, columns)


@app.command()
def revoke(id: Id, data_dir: DataDir = None) -> None:
    """Revoke an API key. Every server rejects it within a second."""
    if local.uses_database(data_dir):
        exec_program("app.keys", "revoke", id, **local.server_environment(data_dir))
    with Client() as client:
        key = client.revoke_key(id)
    console.print(f"Revoked {key.id} ({key.name!r} of {key.project}).", soft_wrap=True)


@app.command()
def rotate(
    id: Id,
    overlap: Annotated[str, typer.Option(metavar="1d", help="Time for which the old key stays valid.")] = "1d",
    data_dir: DataDir = None,
) -> None:
    """Replace an API key, and print the new one once.

    The new key has the same project, name and scopes. The old key stays valid for the --overlap time."""
    if local.uses_database(data_dir):
        exec_program("app.keys", "rotate", id, *to_flags(overlap=overlap), **local.server_environment(data_dir))
    with Client() as client:
        new = client.rotate_key(id, read_duration(overlap))
        show_rotated(client.get_key(id), new)


def show_rotated(old: Key, new: Key) -> None:
    notes.print(f"{old.id} is valid until {format_time(old.expires_at)}. {new.id} replaces it:")
    print(new.raw["secret"])
