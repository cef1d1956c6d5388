"""What several commands share."""

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
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone. Where nobody can be asked, it must be said beforehand."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise TunewrightError(None, "not_confirmed", f"{question} It cannot be undone: say --yes.")
    typer.confirm(f"{clean(question)} It cannot be undone.", abort=True)
