"""Formats output for the terminal."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from tunewright.errors import TunewrightError

T = TypeVar("T")
PIPE_COLUMNS = 200
"""Is the width of piped tables. It is wide enough for every id."""

# The output contains users' text, which must not be interpreted as markup.
console = Console(markup=False, highlight=False, emoji=False)
notes = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = PIPE_COLUMNS


def sanitize_text(text: str) -> str:
    """Replace control characters, which could control the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf")))


def print_error(error: TunewrightError) -> None:
    # The user cannot fix a server error. The request id finds it in the server's log.
    request = f" (request {error.request_id})" if error.request_id and (error.status or 0) >= 500 else ""
    notes.print(sanitize_text(f"tunewright: {error.detail}{request} [{error.code}]"), style="red")
    for field in error.errors:
        notes.print(sanitize_text(f"  {field.pointer or '/'}: {field.message} [{field.code}]"))


def print_table(rows: Iterable[T], columns: dict[str, Callable[[T], str]]) -> None:
    """Print a table. Its first column is never wrapped."""
    first, *others = columns
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(sanitize_text(show(row)) for show in columns.values()))
    console.print(table if table.row_count else "(none)")


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values. Empty values are omitted."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in (None, ""):
            grid.add_row(name, sanitize_text(str(value)))
    console.print(grid)


def format_time(at: datetime | None) -> str:
    """Format a time in the local time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_size(num_bytes: int) -> str:
    if num_bytes < 1000:
        return f"{num_bytes} B"
    unit = min((len(str(num_bytes)) - 1) // 3, 4)
    return f"{num_bytes / 1000**unit:.1f} {('kB', 'MB', 'GB', 'TB')[unit - 1]}"
