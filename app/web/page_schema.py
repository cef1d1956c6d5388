"""Defines the response body of every list: newest first, with the cursor of the next page."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from app.domain.cursor import Cursor

ItemT = TypeVar("ItemT", bound=BaseModel)


class Page(BaseModel, Generic[ItemT]):
    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[ItemT]
    next_cursor: str | None
    """The `cursor` of the next page; null on the last page."""


def page_of(rows: Sequence[Any], limit: int, to_wire: Callable[[Any], ItemT]) -> Page[ItemT]:
    """Return a page of rows that were read with `limit + 1`: the extra row shows that another page follows."""
    shown = rows[:limit]
    more = len(rows) > limit
    cursor = Cursor(shown[-1].created_at, shown[-1].id).encode() if more else None
    return Page(items=[to_wire(row) for row in shown], next_cursor=cursor)
