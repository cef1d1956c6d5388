"""Where each answer of a conversation lies in the text that the chat template makes of it."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jinja2 import TemplateError

from app.domain.dataset import Message
from worker.training.tokens import Tokens

MARK: Final = "\ue001"
"""Stands in an answer's place for a moment; no template writes it."""
Span = tuple[int, int]


class Found(NamedTuple):
    whole: str
    spans: dict[int, Span]
    """By the answer's place among the turns; one that the template leaves out has none."""
    is_stable: bool
    """Every answer reads in the whole as it did when it was given."""


def find_spans(tokens: Tokens, messages: list[Message], tools: list[Any] | None, answers: Sequence[int]) -> Found:
    whole = tokens.render(messages, tools, ask=False)
    spans, is_stable = dict[int, Span](), True
    for index in answers:
        span = _by_prefix(tokens, whole, messages, tools, index)
        if span is None:
            is_stable = False
            span = _by_mark(tokens, whole, messages, tools, index)
        if span is not None:
            spans[index] = span
    return Found(whole, spans, is_stable)


def _by_prefix(tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int) -> Span | None:
    """By rendering the conversation up to the answer, and through it; None where the template renders either otherwise
    than as the beginning of the whole."""
    through = tokens.render(messages[: index + 1], tools, ask=False)
    prompts = (tokens.render(messages[:index], tools, ask=ask) for ask in (True, False))
    before = next((prompt for prompt in prompts if through.startswith(prompt)), None)
    if before is None or not whole.startswith(through):
        return None
    return len(before), len(through)


def _by_mark(tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int) -> Span | None:
    """By rendering the whole with a mark in place of the answer; None where the two differ elsewhere too."""
    marked = messages[index].model_copy(update={"content": MARK, "tool_calls": None})
    try:
        text = tokens.render([*messages[:index], marked, *messages[index + 1 :]], tools, ask=False)
    except (TemplateError, TypeError, ValueError):
        return None
    start = _num_same(whole, text)
    rest = min(len(whole), len(text)) - start
    num_same = _num_same(whole[::-1][:rest], text[::-1][:rest])
    if text[start : len(text) - num_same].strip() != MARK:
        return None
    return start, tokens.end_of_turn(whole, len(whole) - num_same)


def _num_same(one: str, other: str) -> int:
    """Characters that both begin with."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)
