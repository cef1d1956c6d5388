"""Keeps the latest items of one sequence for any number of readers."""

from typing import Final, Generic, TypeVar

KEPT: Final = 256

ItemT = TypeVar("ItemT")


class Ring(Generic[ItemT]):
    """Holds at least the last `KEPT` items, at most twice as many. Each reader only remembers the number of the item
    that it reads next, so a slow reader costs nothing; one that is too slow finds that its item is gone."""

    def __init__(self) -> None:
        self.first = 0
        """Is the number of the oldest item that is held."""
        self._items: list[ItemT] = []

    @property
    def end(self) -> int:
        """Return the number of the next item."""
        return self.first + len(self._items)

    def append(self, item: ItemT) -> list[ItemT]:
        """Add an item; return the oldest ones if they are dropped for it."""
        self._items.append(item)
        if len(self._items) < 2 * KEPT:
            return []
        dropped = self._items[:KEPT]
        del self._items[:KEPT]
        self.first += KEPT
        return dropped

    def read(self, number: int, limit: int) -> list[ItemT] | None:
        """Return at most `limit` items from this number on; None if the first of them is no longer held."""
        start = number - self.first
        return self._items[start : start + limit] if start >= 0 else None
