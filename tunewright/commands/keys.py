"""Defines `tunewright keys`."""

from typing import Annotated

import typer

from tunewright import Client, Key, local
from tunewright.commands.options import AsJson, DataDir
from tunewright.commands.server import become, flags
from tunewright.commands.spec.options import read_duration
from tunewright.display import console, instant, notes, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "API keys.\n\n"
        "All of it works on the server's machine, and from anywhere with TUNEWRIGHT_URL and the key of an "
        "administrator (`tunewright keys create --scope admin`)."
    ),
)
Id = Annotated[str, typer.Argument(help="The key's id; of the key tw_0123…_… it is key-0123….", metavar="ID")]


@app.command()
def create(
    project: Annotated[str, typer.Option(help="Project it belongs to, which must exist.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "unnamed",
    read_only: Annotated[bool, typer.Option("--read-only", help="Without the right to change anything.")] = False,
    scope: Annotated[str | None, typer.Option(metavar="admin", help="Also changes what serves all projects.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="90d", help="When it stops [never].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an API key, and print it once."""
    if local.acts_on_database(data_dir):
        options = flags(project=project, name=name, read_only=read_only, scope=scope, expires=expires)
        become("app.keys", "create", *options, **local.server_environment(data_dir))
    if scope not in (None, "admin") or (scope and read_only):
        raise typer.BadParameter("`admin` is the one to choose, and not with --read-only.", param_hint="--scope")
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
    if local.acts_on_database(data_dir):
        options = flags(project=project, json=as_json)
        become("app.keys", "list", *options, **local.server_environment(data_dir))
    with Client() as client:
        keys = list(client.list_keys(project))
    if as_json:
        return print_json([key.raw for key in keys])
    columns = {
        "id": lambda k: k.id,
        "name": lambda k: k.name,
        "project": lambda k: k.project,
        "scopes": lambda k: ", ".join(k.scopes),
        "is": lambda k: f"{k.state}, replaced" if k.replaced_by else k.state,
        "last used": lambda k: instant(k.last_used_at) or "never",
        "expires": lambda k: instant(k.expires_at) or "never",
    }
    print_table(keys, columns)


@app.command()
def revoke(id: Id, data_dir: DataDir = None) -> None:
    """Revoke an API key. Every server rejects it within a second."""
    if local.acts_on_database(data_dir):
        become("app.keys", "revoke", id, **local.server_environment(data_dir))
    with Client() as client:
        key = client.revoke_key(id)
    console.print(f"Revoked {key.id} ({key.name!r} of {key.project}).", soft_wrap=True)


@app.command()
def rotate(
    id: Id,
    overlap: Annotated[str, typer.Option(metavar="1d", help="For so long the old key works too.")] = "1d",
    data_dir: DataDir = None,
) -> None:
    """Replace an API key with a new one for the same project, name and scopes, and print it once."""
    if local.acts_on_database(data_dir):
        become("app.keys", "rotate", id, *flags(overlap=overlap), **local.server_environment(data_dir))
    with Client() as client:
        made = client.rotate_key(id, read_duration(overlap))
        show_made(client.get_key(id), made)


def show_made(old: Key, made: Key) -> None:
    notes.print(f"{old.id} works until {instant(old.expires_at)}. {made.id} replaces it:")
    print(made.raw["secret"])
