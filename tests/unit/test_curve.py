"""Compares the arithmetic of curves with the plain definition, value by value."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from app.jobs.metrics.buckets import WIDTHS
from app.jobs.metrics.curve import Span, clip, curve_spans, grid_over, pieces_of, windows

STEPS = st.integers(0, 300_000)
NO_DEADLINE = settings(deadline=None)


@st.composite
def attempts(draw: st.DrawFn) -> list[tuple[int, set[int]]]:
    """Draw each attempt's start step and the steps that it measured, with or without the start step."""
    found: list[tuple[int, set[int]]] = []
    reached = 0
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, reached))
        reached = start + draw(st.integers(0, 40))
        every = draw(st.integers(1, 4))
        steps = {step for step in range(start + 1, reached + 1) if step % every == 0}
        found.append((start, steps | ({start} if draw(st.booleans()) else set())))
    return found


@NO_DEADLINE
@given(attempts())
def test_a_curve_has_the_point_of_the_highest_attempt_at_each_step(history: list[tuple[int, set[int]]]) -> None:
    counts: dict[int, int] = {}
    spans = []
    for number, (_, steps) in enumerate(history, 1):
        until = min((start for start, _ in history[number:]), default=10**9)
        kept = {step for step in steps if step <= until}
        counts |= dict.fromkeys(kept, number)
        spans += [Span(number, "loss", min(kept), max(kept))] if kept else []
    by_spans = [
        (step, span.attempt)
        for span in curve_spans(spans)
        for step in sorted(history[span.attempt - 1][1])
        if span.first <= step <= span.last
    ]
    assert by_spans == sorted(counts.items())


@NO_DEADLINE
@given(STEPS, STEPS, st.integers(0, len(WIDTHS)))
def test_a_few_pieces_cover_the_span(first: int, length: int, narrowest: int) -> None:
    span = Span(1, "loss", first, first + length)
    pieces = sorted(pieces_of(span, WIDTHS[::-1][narrowest:]), key=lambda piece: piece.first)
    reached = span.first
    for piece in pieces:
        assert piece.first == reached
        assert piece.width == 1 or piece.first % piece.width == 0
        reached = piece.last + piece.width
    assert reached == span.last + 1
    assert len(pieces) <= 2 * len(WIDTHS) + 1


@NO_DEADLINE
@given(st.lists(st.tuples(STEPS, STEPS), min_size=1, max_size=4), st.integers(1, 1000))
def test_a_grid_has_at_most_the_requested_groups_and_splits_no_bucket(
    ends: list[tuple[int, int]], num_groups: int
) -> None:
    spans = [Span(1, "loss", min(pair), max(pair)) for pair in ends]
    grid = grid_over(spans, num_groups)
    last = max(span.last for span in spans)
    assert grid.origin <= min(span.first for span in spans)
    assert (last - grid.origin) // grid.width < num_groups
    for width in grid.bucket_widths:
        assert grid.origin % width == grid.width % width == 0
    widest = max(grid.bucket_widths, default=1)
    assert grid.width <= 17 * widest or widest == WIDTHS[-1]


@NO_DEADLINE
@given(STEPS, STEPS, st.integers(5_000, 100_000), STEPS, STEPS)
def test_windows_and_clips_are_parts_of_the_span(first: int, length: int, size: int, low: int, high: int) -> None:
    span = Span(1, "loss", first, first + length)
    parts = list(windows(span, size))
    assert (parts[0].first, parts[-1].last) == (span.first, span.last)
    assert all(part.last + 1 == following.first for part, following in pairwise(parts))
    assert all(0 <= part.last - part.first < size for part in parts)
    for part in clip([span], low, high):
        assert max(span.first, low) == part.first <= part.last == min(span.last, high)
