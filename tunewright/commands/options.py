"""Defines options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunewright.display import clean
from tunewright.errors import TunewrightError

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most so many, newest first.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data folder of the server, if it is not the usual one (TUNEWRIGHT_DATA_DIR).")
]
Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=KEY", help="Read the file's KEY as FIELD, prompt=input; may be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def mapped_columns(given: list[str] | None) -> dict[str, str] | None:
    """Return the file's key for each field; None if no option was given."""
    mapped = dict[str, str]()
    for each in given or ():
        field, _, key = each.partition("=")
        if not (field and key):
            said = f"{each!r} is not of the form FIELD=KEY, such as prompt=input."
            raise typer.BadParameter(said, param_hint="--map")
        mapped[field] = key
    return mapped or None


def confirm(question: str, yes: bool) -> None:
    """Ask before an action that cannot be undone. Without a terminal, --yes is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise TunewrightError(None, "not_confirmed", f"{question} It cannot be undone: say --yes.")
    typer.confirm(f"{clean(question)} It cannot be undone.", abort=True)
