"""Defines options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunewright.display import sanitize_text
from tunewright.errors import TunewrightError

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of results.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data folder of the server [TUNEWRIGHT_DATA_DIR, or the default folder].")
]
Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=KEY", help="Read the file's KEY as FIELD, such as prompt=input; may be repeated."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def read_mappings(given: list[str] | None) -> dict[str, str] | None:
    """Return the file's key for each field. Returns None if no option was given."""
    mapped = dict[str, str]()
    for each in given or ():
        field, _, key = each.partition("=")
        if not (field and key):
            message = f"{each!r} is not a mapping; use FIELD=KEY, such as prompt=input."
            raise typer.BadParameter(message, param_hint="--map")
        mapped[field] = key
    return mapped or None


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation of an action that cannot be undone. Without a terminal, --yes is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise TunewrightError(
            None, "not_confirmed", f"{question} This cannot be undone. Pass --yes when there is no terminal."
        )
    typer.confirm(f"{sanitize_text(question)} This cannot be undone.", abort=True)
