"""Reads rows of the format `preference`: a prompt and two answers, in any of their notations."""

from itertools import takewhile
from typing import Any, NamedTuple

from app.domain.datasets.conversation import Message, read_message, tools_of
from app.domain.datasets.formats import Record
from app.domain.datasets.validation import sides_of


class TextPair(NamedTuple):
    """Holds a pair of plain texts, which need no chat template."""

    prompt: str
    answers: tuple[str, str]
    """Holds the better answer first, as a ChatPair does."""


class ChatPair(NamedTuple):
    conversations: tuple[list[Message], list[Message]]
    """Holds two conversations: the prompt's turns followed by an answer's."""
    num_shared: int
    """Counts the turns of both that are context: the prompt, and the common beginning of the answers."""
    tools: list[Any] | None


def to_preference(record: Record) -> TextPair | ChatPair:
    """Convert a valid record. A text among turns becomes a turn: the user's for the prompt, otherwise the
    assistant's. Answers that begin with a user's turn repeat the question, and a prompt that is a text is then not
    put before them."""
    asked, better, worse = (record[key] for key in sides_of(record))
    if all(isinstance(side, str) for side in (asked, better, worse)):
        return TextPair(asked, (better, worse))
    answers = _turns(better, "assistant"), _turns(worse, "assistant")
    repeated = isinstance(asked, str) and all(_first_speaker(turns) == "user" for turns in answers)
    prompt = [] if repeated else _turns(asked["messages"] if isinstance(asked, dict) else asked, "user")
    first, second = ([*prompt, *answer] for answer in answers)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    num_shared = max(len(prompt), min(alike, _last_learned_turn(first), _last_learned_turn(second)))
    return ChatPair((first, second), num_shared, tools_of(asked) if isinstance(asked, dict) else None)


def _turns(side: Any, role: Any) -> list[Message]:
    if isinstance(side, str):
        return [Message(role=role, content=side)] if side else []
    return [read_message(turn) for turn in side]


def _first_speaker(turns: list[Message]) -> str:
    return next(turn.role for turn in turns if turn.role not in ("system", "developer"))


def _last_learned_turn(turns: list[Message]) -> int:
    return max(index for index, turn in enumerate(turns) if turn.role == "assistant" and turn.weight == 1)
