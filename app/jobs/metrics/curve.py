"""Which of a job's values make its curves, and by which buckets a range of them is read: arithmetic on steps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from app.jobs.metrics.buckets import WIDTHS

ENDLESS = 2**62
"""A step beyond every other."""


class Span(NamedTuple):
    """The values of one name by one attempt, from step `first` to step `last`."""

    attempt: int
    name: str
    first: int
    last: int


class Piece(NamedTuple):
    """Part of a span: its buckets of `width` steps that start from `first` to `last`; of width 1, the values."""

    attempt: int
    name: str
    width: int
    first: int
    last: int


class Grid(NamedTuple):
    """Equal groups of steps, of which each takes whole buckets of the widths."""

    origin: int
    width: int
    bucket_widths: Sequence[int]
    """Widest first."""


def curve_spans(measured: Iterable[Span]) -> list[Span]:
    """What counts of spans that were cut where a later attempt went on, the earliest attempt first.

    An attempt may measure the very step that it went on from, and then does so in the earlier one's stead.
    """
    taken: dict[str, int] = {}
    counting = []
    for span in sorted(measured, reverse=True):
        last = min(span.last, taken.get(span.name, span.last + 1) - 1)
        if span.first <= last:
            counting.append(span._replace(last=last))
            taken[span.name] = span.first
    return counting[::-1]


def clip(spans: Iterable[Span], first: int, last: int) -> list[Span]:
    """The parts of them within the range."""
    parts = (span._replace(first=max(span.first, first), last=min(span.last, last)) for span in spans)
    return [span for span in parts if span.first <= span.last]


def windows(span: Span, num_steps: int) -> Iterator[Span]:
    """The span in parts of at most so many steps."""
    for first in range(span.first, span.last + 1, num_steps):
        yield span._replace(first=first, last=min(first + num_steps - 1, span.last))


def grid_over(spans: Sequence[Span], num_groups: int) -> Grid:
    """At most so many groups over all the spans, each of at most 17 buckets or values a name."""
    first, last = min(span.first for span in spans), max(span.last for span in spans)
    needed = _ceil(last - first + 1, num_groups)
    widths = [width for width in reversed(WIDTHS) if width <= needed]
    unit = widths[0] if widths else 1
    origin = first - first % unit
    return Grid(origin, _ceil(_ceil(last - origin + 1, num_groups), unit) * unit, widths)


def pieces_of(span: Span, bucket_widths: Sequence[int]) -> Iterator[Piece]:
    """The span by the widest buckets that fill with it, and towards its ends by narrower ones and by values."""
    for width, first, end in _cut(span.first, span.last + 1, bucket_widths):
        yield Piece(span.attempt, span.name, width, first, end - width)


def _cut(first: int, end: int, widths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    if first >= end:
        return
    if not widths:
        yield 1, first, end
        return
    width, narrower = widths[0], widths[1:]
    inner, inner_end = _ceil(first, width) * width, end // width * width
    if inner >= inner_end:
        yield from _cut(first, end, narrower)
        return
    yield from _cut(first, inner, narrower)
    yield width, inner, inner_end
    yield from _cut(inner_end, end, narrower)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)
