"""What several commands share."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most so many, newest first.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data folder of the server, if it is not the usual one (TUNEWRIGHT_DATA_DIR).")
]
