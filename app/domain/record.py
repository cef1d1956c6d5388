"""One record of a dataset: parsing a line, finding its format, and everything that can be wrong with it."""

import codecs
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple


class RecordFormat(StrEnum):
    messages = "messages"
    prompt_completion = "prompt_completion"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    text = "text"


KEYS: Final[dict[RecordFormat, frozenset[str]]] = {
    RecordFormat.messages: frozenset({"messages"}),
    RecordFormat.prompt_completion: frozenset({"prompt", "completion"}),
    RecordFormat.alpaca: frozenset({"instruction", "output"}),
    RecordFormat.sharegpt: frozenset({"conversations"}),
    RecordFormat.text: frozenset({"text"}),
}
"""Keys that a record must have to be of a format; the first format that fits is the one."""

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
SHAREGPT_ROLES: Final = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
MAX_LINE_BYTES: Final = 8 * 2**20
"""Some two million tokens; parsed, a hostile line of this length takes 250 MB."""
MAX_DEPTH: Final = 100
MAX_DIGITS: Final = 1000
ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")

Record = dict[str, Any]


class Finding(NamedTuple):
    """Something wrong with a record: JSON pointer, stable code, and what to write instead."""

    pointer: str
    code: str
    message: str


def is_blank(line: bytes) -> bool:
    """Whether the line holds only white space, perhaps behind the byte order mark that some editors write first."""
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def parse_line(line: bytes) -> Record | Finding:
    """A JSON object, or what keeps the line from being one. A byte order mark before it is no fault."""
    if len(line) > MAX_LINE_BYTES:
        return Finding("", "line_too_long", f"The line is longer than {MAX_LINE_BYTES:,} bytes; split the record.")
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        record = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int)
    except UnicodeDecodeError as error:
        return Finding("", "not_utf8", f"Byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        where = f"{error.msg} at character {error.pos + 1}"
        return Finding("", "not_json", f"The line is not JSON ({where}); write one JSON object a line.")
    except RecursionError:
        return _too_deep()
    except ValueError as error:
        return Finding("", "bad_number", str(error))
    if not isinstance(record, dict):
        return Finding("", "not_an_object", f"The line holds a JSON {kind_of(record)}; write one JSON object a line.")
    return _unusable(line, record) or record


def find_format(record: Record) -> RecordFormat | None:
    return next((format for format, keys in KEYS.items() if keys <= record.keys()), None)


def check_record(record: Record, format: RecordFormat) -> Iterator[Finding]:
    """Everything wrong with a record of this format. Nothing: then it can be rendered."""
    match format:
        case RecordFormat.messages:
            yield from _check_messages(record["messages"])
        case RecordFormat.sharegpt:
            yield from _check_sharegpt(record["conversations"])
        case RecordFormat.prompt_completion:
            yield from _check_texts(record, required=("prompt", "completion"), filled="completion")
        case RecordFormat.alpaca:
            optional = ("input", "system")
            yield from _check_texts(record, required=("instruction", "output"), optional=optional, filled="output")
            yield from _check_history(record.get("history"))
        case RecordFormat.text:
            yield from _check_texts(record, required=("text",), filled="text")


def kind_of(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _unusable(line: bytes, record: Record) -> Finding | None:
    """What JSON allows and no tokenizer or template can take. Most lines are cleared by a look at their bytes."""
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(record) > MAX_DEPTH:
        return _too_deep()
    if ESCAPED_SURROGATE.search(line):
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Finding("", "half_a_character", "A \\ud8…\\udf escape stands alone; write both halves of the pair.")
    return None


def _depth(value: object) -> int:
    """Levels of nesting, counted until there are more than MAX_DEPTH."""
    level = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [value for values in inner for value in values]
        depth += bool(inner)
    return depth


def _too_deep() -> Finding:
    return Finding("", "too_deep", f"The line nests deeper than {MAX_DEPTH} levels; flatten the record.")


def _read_int(digits: str) -> int:
    # Python refuses beyond 4,300 digits in words of its own.
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"A number has {len(digits):,} digits; write it as a string, or with at most {MAX_DIGITS:,}.")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; write a number, a string or null.")


def _check_texts(
    record: Record, required: tuple[str, ...], filled: str, optional: tuple[str, ...] = ()
) -> Iterator[Finding]:
    for key in (*required, *(key for key in optional if record.get(key) is not None)):
        value = record[key]
        if not isinstance(value, str):
            yield Finding(f"/{key}", "wrong_type", f"{key} is a JSON {kind_of(value)}; write a string.")
        elif key == filled and not value.strip():
            yield Finding(f"/{key}", "nothing_to_learn", f"{key} is empty; write the text to learn.")


def _check_history(history: object) -> Iterator[Finding]:
    pairs = [] if history is None else history
    well_formed = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    )
    if not well_formed:
        yield Finding("/history", "wrong_type", "history is not a list of [question, answer] pairs of strings.")


def _check_messages(messages: object) -> Iterator[Finding]:
    if not isinstance(messages, list) or not messages:
        yield Finding("/messages", "wrong_type", "messages is not a filled list; write a list of turns.")
        return
    learnable = False
    for index, message in enumerate(messages):
        at = f"/messages/{index}"
        if not isinstance(message, dict):
            yield Finding(at, "wrong_type", f"The turn is a JSON {kind_of(message)}; write an object.")
            continue
        yield from _check_message(message, at)
        learnable |= _teaches(message)
    if not learnable:
        yield Finding("/messages", "nothing_to_learn", "No assistant turn with content and weight 1; add one.")


def _teaches(message: Record) -> bool:
    content = message.get("content")
    has_words = bool(content.strip()) if isinstance(content, str) else bool(message.get("tool_calls"))
    return message.get("role") == "assistant" and has_words and message.get("weight", 1) == 1


def _check_message(message: Record, at: str) -> Iterator[Finding]:
    role, weight = message.get("role"), message.get("weight", 1)
    if not isinstance(role, str) or role not in ROLES:
        yield Finding(f"{at}/role", "unknown_role", f"role is {brief(role)}; write one of {sorted(ROLES)}.")
    if type(weight) is not int or weight not in (0, 1):
        yield Finding(f"{at}/weight", "bad_weight", f"weight is {brief(weight)}; write 0 or 1.")
    content, calls = message.get("content"), message.get("tool_calls")
    if not isinstance(content, str) and not (content is None and calls):
        yield Finding(f"{at}/content", "wrong_type", f"content is a JSON {kind_of(content)}; write a string.")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        yield Finding(f"{at}/tool_calls", "wrong_type", "tool_calls is not a list of objects.")
    for key in ("name", "tool_call_id"):
        if not isinstance(message.get(key), str | None):
            yield Finding(f"{at}/{key}", "wrong_type", f"{key} is a JSON {kind_of(message[key])}; write a string.")


def _check_sharegpt(turns: object) -> Iterator[Finding]:
    if not isinstance(turns, list) or not turns:
        yield Finding("/conversations", "wrong_type", "conversations is not a filled list; write a list of turns.")
        return
    learnable = False
    for index, turn in enumerate(turns):
        at = f"/conversations/{index}"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            yield Finding(at, "wrong_type", 'The turn is not an object with "from" and a string "value".')
            continue
        role = turn.get("from")
        if not isinstance(role, str) or role not in SHAREGPT_ROLES:
            yield Finding(
                f"{at}/from", "unknown_role", f"from is {brief(role)}; write one of {sorted(SHAREGPT_ROLES)}."
            )
            continue
        learnable |= SHAREGPT_ROLES[role] == "assistant" and bool(turn["value"].strip())
    if not learnable:
        yield Finding("/conversations", "nothing_to_learn", "No gpt turn with text; add one.")


def brief(value: object) -> str:
    """The value as a message shows it: short, and without a character that could break a line or a log."""
    return ascii(value)[:60]
