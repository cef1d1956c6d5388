"""Finds where each answer of a conversation is in the text that the chat template renders."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jinja2 import TemplateError

from app.domain.datasets.conversation import Message
from worker.training.rows.tokenizer import Tokens

MARK: Final = "\ue001"
"""Replaces an answer temporarily. No template writes it."""
ANSWER: Final[dict[str, Any]] = {"content": MARK, "tool_calls": None}
REASONING: Final[dict[str, Any]] = {"reasoning_content": MARK}
"""Changes a turn so that the mark replaces its answer or its reasoning."""
Span = tuple[int, int]


class Thought(NamedTuple):
    """Locates an answer's reasoning in the rendered text."""

    start: int
    end: int
    """Is where the answer itself begins."""


class AnswerSpans(NamedTuple):
    whole: str
    spans: dict[int, Span]
    """Holds each answer's span by its index among the turns. An answer that the template leaves out has none."""
    is_stable: bool
    """Says whether every answer reads in the whole text as it did when it was the last turn."""


def find_spans(tokens: Tokens, messages: list[Message], tools: list[Any] | None, answers: Sequence[int]) -> AnswerSpans:
    whole = tokens.render(messages, tools, ask=False)
    spans, is_stable = dict[int, Span](), True
    for index in answers:
        span = _by_prefix(tokens, whole, messages, tools, index)
        if span is None:
            is_stable = False
            span = _by_mark(tokens, whole, messages, tools, index)
        if span is not None:
            spans[index] = span
    return AnswerSpans(whole, spans, is_stable)


def _by_prefix(tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int) -> Span | None:
    """Find an answer by rendering the conversation up to it, and including it. Returns None if either text is not the
    beginning of the whole."""
    through = tokens.render(messages[: index + 1], tools, ask=False)
    prompts = (tokens.render(messages[:index], tools, ask=ask) for ask in (True, False))
    before = next((prompt for prompt in prompts if through.startswith(prompt)), None)
    if before is None or not whole.startswith(through):
        return None
    return len(before), len(through)


def _by_mark(tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int) -> Span | None:
    """Find an answer by replacing it with a mark. The span includes the token that ends the turn."""
    span = marked_span(tokens, whole, messages, tools, index, ANSWER)
    return (span[0], tokens.end_of_turn(whole, span[1])) if span else None


def marked_span(
    tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int, change: dict[str, Any]
) -> Span | None:
    """Return the span of the text that MARK replaces in a changed turn. Returns None if the two texts differ elsewhere
    too."""
    marked = messages[index].model_copy(update=change)
    try:
        text = tokens.render([*messages[:index], marked, *messages[index + 1 :]], tools, ask=False)
    except (TemplateError, TypeError, ValueError):
        return None
    start = _num_same(whole, text)
    rest = min(len(whole), len(text)) - start
    num_same = _num_same(whole[::-1][:rest], text[::-1][:rest])
    if text[start : len(text) - num_same].strip() != MARK:
        return None
    return start, len(whole) - num_same


def find_thought(
    tokens: Tokens, whole: str, messages: list[Message], tools: list[Any] | None, index: int
) -> Thought | None:
    """Find an answer's reasoning. Returns None if the template leaves it out."""
    reasoning = marked_span(tokens, whole, messages, tools, index, REASONING)
    if reasoning is None or reasoning[0] == reasoning[1]:
        return None
    answer = marked_span(tokens, whole, messages, tools, index, ANSWER)
    return Thought(reasoning[0], answer[0] if answer and answer[0] >= reasoning[1] else reasoning[1])


def _num_same(one: str, other: str) -> int:
    """Count the characters of the common prefix."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)
