"""Computes which of a job's values form its curves, and which buckets cover a range of them. It only does arithmetic on
steps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from app.jobs.metrics.buckets import WIDTHS

ENDLESS = 2**62
"""Is greater than every step."""


class Span(NamedTuple):
    """Represents the values of one name by one attempt, from step `first` to step `last`."""

    attempt: int
    name: str
    first: int
    last: int


class Piece(NamedTuple):
    """Represents a part of a span: its buckets of `width` steps that start from `first` to `last`; for width 1, the
    values."""

    attempt: int
    name: str
    width: int
    first: int
    last: int


class Grid(NamedTuple):
    """Divides steps into equal groups, each of which consists of whole buckets of the widths."""

    origin: int
    width: int
    bucket_widths: Sequence[int]
    """Lists the widths, widest first."""


def curve_spans(measured: Iterable[Span]) -> list[Span]:
    """Return the parts of the spans that count, the earliest attempt first. A span is cut where a later attempt
    resumed.

    An attempt may measure the step that it resumed from; its value then replaces the earlier attempt's.
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
    """Return the parts of the spans within the range."""
    parts = (span._replace(first=max(span.first, first), last=min(span.last, last)) for span in spans)
    return [span for span in parts if span.first <= span.last]


def windows(span: Span, num_steps: int) -> Iterator[Span]:
    """Yield the span in parts of at most this many steps."""
    for first in range(span.first, span.last + 1, num_steps):
        yield span._replace(first=first, last=min(first + num_steps - 1, span.last))


def grid_over(spans: Sequence[Span], num_groups: int) -> Grid:
    """Return at most this many groups over all the spans, each of at most 17 buckets or values per name."""
    first, last = min(span.first for span in spans), max(span.last for span in spans)
    needed = _ceil(last - first + 1, num_groups)
    widths = [width for width in reversed(WIDTHS) if width <= needed]
    unit = widths[0] if widths else 1
    origin = first - first % unit
    return Grid(origin, _ceil(_ceil(last - origin + 1, num_groups), unit) * unit, widths)


def pieces_of(span: Span, bucket_widths: Sequence[int]) -> Iterator[Piece]:
    """Split the span into the widest buckets that fit, and at its ends into narrower ones and values."""
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
