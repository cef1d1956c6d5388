"""Reads the conversation in a valid record. Pure functions only."""

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.content import text_of
from app.domain.datasets.formats import Record, RecordFormat
from app.domain.datasets.validation import SHAREGPT_ROLES, calls_in, weight_of


class Message(BaseModel):
    """One turn of a conversation. `weight` 0 keeps an assistant's turn as context only."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    weight: Literal[0, 1] = 1
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


def read_message(turn: Record) -> Message:
    """Read a turn of a valid record."""
    answers = turn["role"] == "assistant"
    reasoning = turn.get("reasoning_content") if answers else None
    read = {"content": text_of(turn), "weight": weight_of(turn), "reasoning_content": reasoning or None}
    return Message.model_validate(turn | read)


def tools_of(record: Record) -> list[Any] | None:
    """Return a valid record's tools, which may be a string of JSON."""
    tools = record.get("tools")
    if isinstance(tools, str):
        tools = json.loads(tools) if tools.strip() else None
    return tools or None


def to_messages(record: Record, format: RecordFormat) -> list[Message]:
    """Return the conversation in a valid record of a conversational format."""
    match format:
        case RecordFormat.messages:
            return [read_message(message) for message in record["messages"]]
        case RecordFormat.sharegpt:
            return [_read_sharegpt_turn(turn) for turn in record["conversations"]]
        case RecordFormat.alpaca:
            return list(_read_alpaca(record))
        case _:
            raise AssertionError(f"{format} holds no conversation")


def _read_sharegpt_turn(turn: Record) -> Message:
    role: Any = SHAREGPT_ROLES[turn["from"]]
    weight = weight_of(turn)
    if turn["from"] == "function_call":
        return Message(role=role, tool_calls=calls_in(turn["value"]), weight=weight)
    return Message(role=role, content=turn["value"], weight=weight)


def _read_alpaca(record: Record) -> Iterator[Message]:
    if record.get("system"):
        yield Message(role="system", content=record["system"])
    for asked, answered in record.get("history") or []:
        yield Message(role="user", content=asked)
        yield Message(role="assistant", content=answered)
    yield Message(role="user", content=alpaca_question(record["instruction"], record.get("input")))
    yield Message(role="assistant", content=record["output"])


def alpaca_question(instruction: str, input: str | None) -> str:
    return f"{instruction}\n\n{input}" if input else instruction
