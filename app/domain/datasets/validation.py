"""Checks a record of a format for every known problem. A record without an error can be rendered."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from app.domain.datasets.content import check_content, check_keys, text_of
from app.domain.datasets.formats import Record, RecordFormat
from app.domain.datasets.problem import Finding, brief, kind_of, pointer_to

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
SHAREGPT_ROLES: Final = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
TURN_KEYS: Final = frozenset(
    {"role", "content", "weight", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal"}
    | {"audio", "function_call"}  # these are refused
)
OF_ANSWERS: Final = frozenset({"weight", "refusal", "reasoning_content"})
"""Lists keys that are read only in an assistant's turn."""
SHAREGPT_KEYS: Final = frozenset({"from", "value", "weight"})
INPUT_KEYS: Final = frozenset({"messages", "tools"})
SPEAKING: Final = ("user", "assistant", "tool")
Turn = tuple[int, str, Record]
"""Holds a turn's index, its role in ROLES, and the turn itself."""


def check_record(record: Record, format: RecordFormat) -> Iterator[Finding]:
    match format:
        case RecordFormat.messages:
            yield from _check_tools(record)
            yield from _check_functions(record)
            yield from check_conversation(record["messages"], "messages")
        case RecordFormat.sharegpt:
            yield from _check_tools(record)
            yield from _check_sharegpt(record["conversations"])
        case RecordFormat.prompt_completion:
            yield from _check_texts(record, required=("prompt", "completion"), filled="completion")
        case RecordFormat.alpaca:
            optional = ("input", "system")
            yield from _check_texts(record, required=("instruction", "output"), optional=optional, filled="output")
            yield from _check_history(record.get("history"))
        case RecordFormat.text:
            yield from _check_texts(record, required=("text",), filled="text")
        case RecordFormat.preference:
            yield from _check_preference(record)


def _check_texts(
    record: Record, required: tuple[str, ...], filled: str, optional: tuple[str, ...] = ()
) -> Iterator[Finding]:
    for key in (*required, *(key for key in optional if record.get(key) is not None)):
        value = record[key]
        if not isinstance(value, str):
            yield Finding(f"/{key}", "wrong_type", f"{key} is a JSON {kind_of(value)}; write a string.")
        elif key == filled and not value.strip():
            yield Finding(f"/{key}", "no_trainable_text", f"{key} is empty; write the text to learn.")


def _check_history(history: object) -> Iterator[Finding]:
    pairs = [] if history is None else history
    well_formed = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    )
    if not well_formed:
        yield Finding(
            "/history", "wrong_type", "history is not a list of [question, answer] pairs of strings; write one."
        )


def _check_tools(record: Record) -> Iterator[Finding]:
    """Check that tools are a list of objects, or that as a string of JSON: tables cannot hold lists of different
    objects."""
    tools = record.get("tools")
    if isinstance(tools, str) and tools.strip():
        tools = _parsed(tools)
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        yield Finding("/tools", "wrong_type", "tools is not a list of objects; write one object for each tool.")


def _check_functions(record: Record) -> Iterator[Finding]:
    if record.get("functions") is not None:
        what = 'functions is OpenAI\'s legacy form of tools; write tools: [{"type": "function", "function": {…}}].'
        yield Finding("/functions", "legacy_functions", what)


def _parsed(text: str) -> Any:
    """Parse a string of JSON, or return the string itself if it holds none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def check_conversation(
    messages: object, *at: str, learned: bool = True, context: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check turns of role and content. `learned`: one of them must be an answer to learn. `context` are the roles of
    the turns before these."""
    place = pointer_to(*at)
    if not isinstance(messages, list) or not messages:
        yield Finding(place, "wrong_type", f"{at[-1]} is empty or not a list; write a list of turns.")
        return
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            what = f"The turn is a JSON {kind_of(message)}; write an object."
            yield Finding(f"{place}/{index}", "wrong_type", what)
            continue
        yield from _check_message(message, f"{place}/{index}")
        turns.append((index, _known_role(message.get("role")), message))
    yield from _check_sequence(turns, place, context)
    if learned and not any(_is_learned(message) for _, _, message in turns):
        yield _report_nothing_to_learn(turns, place, len(messages))


def _known_role(role: object) -> str:
    return role if isinstance(role, str) and role in ROLES else ""


def _report_nothing_to_learn(turns: Sequence[Turn], place: str, num_turns: int) -> Finding:
    if len(turns) == num_turns and all(role in ("system", "developer") for _, role, _ in turns):
        message = "The conversation has only system turns; add a user turn and an assistant turn."
        return Finding(place, "no_conversation", message)
    return Finding(place, "no_trainable_text", "There is no assistant turn with content and weight 1; add one.")


def _is_learned(message: Record) -> bool:
    has_output = bool((text_of(message) or "").strip()) or bool(message.get("tool_calls"))
    return message.get("role") == "assistant" and has_output and weight_of(message) == 1


def _check_message(message: Record, at: str) -> Iterator[Finding]:
    role = message.get("role")
    if role == "function" or message.get("function_call") is not None:
        what = (
            "The turn has OpenAI's legacy function calls; write tool_calls, and answer each in a turn with role tool."
        )
        yield Finding(f"{at}/{'role' if role == 'function' else 'function_call'}", "legacy_functions", what)
    elif not isinstance(role, str) or role not in ROLES:
        yield Finding(f"{at}/role", "unknown_role", f"role is {brief(role)}; write one of {sorted(ROLES)}.")
    yield from _check_weight(message, at)
    calls, text = message.get("tool_calls"), text_of(message)
    yield from check_content(message, at)
    if not calls and role in SPEAKING and text is not None and not text.strip():
        yield Finding(f"{at}/content", "empty_content", f"The {role} turn is empty; add content or remove the turn.")
    yield from _check_calls(calls, at)
    for key in ("name", "tool_call_id", *(["reasoning_content"] if role == "assistant" else [])):
        if not isinstance(message.get(key), str | None):
            yield Finding(f"{at}/{key}", "wrong_type", f"{key} is a JSON {kind_of(message[key])}; write a string.")
    yield from check_keys(message, TURN_KEYS if role == "assistant" else TURN_KEYS - OF_ANSWERS, at)


def weight_of(turn: Record) -> Any:
    """Return the turn's weight. A null counts as absent, as clients write it."""
    weight = turn.get("weight")
    return 1 if weight is None else weight


def _check_weight(turn: Record, at: str) -> Iterator[Finding]:
    weight = weight_of(turn)
    if type(weight) is not int or weight not in (0, 1):
        yield Finding(f"{at}/weight", "invalid_weight", f"weight is {brief(weight)}; write 0 or 1.")


def _check_calls(calls: object, at: str) -> Iterator[Finding]:
    if calls is None:
        return
    if not isinstance(calls, list):
        yield Finding(
            f"{at}/tool_calls", "wrong_type", "tool_calls is not a list of objects; write one object for each call."
        )
        return
    for index, call in enumerate(calls):
        yield from _check_call(call, f"{at}/tool_calls/{index}")


def _check_call(call: object, at: str) -> Iterator[Finding]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        what = 'The call names no function; write {"function": {"name": "…", "arguments": "…"}}.'
        yield Finding(at, "wrong_type", what)
        return
    inside = f"{at}/function" if "function" in call else at
    arguments = function.get("arguments")
    if not isinstance(arguments, str | dict | None):
        what = f"arguments is a JSON {kind_of(arguments)}; write an object, or its JSON as a string."
        yield Finding(f"{inside}/arguments", "wrong_type", what)
    if not isinstance(call.get("id"), str | None):
        yield Finding(f"{at}/id", "wrong_type", f"id is a JSON {kind_of(call['id'])}; write a string.")


def _check_sequence(turns: Sequence[Turn], place: str, context: Sequence[str]) -> Iterator[Finding]:
    spoken = [turn for turn in turns if turn[1] in SPEAKING]
    if spoken and spoken[0][1] == "assistant" and not any(role in SPEAKING for role in context):
        message = "The conversation begins with the assistant; begin with a user turn."
        yield Finding(f"{place}/{spoken[0][0]}", "assistant_speaks_first", message)
    for (_, before, previous), (index, role, _) in pairwise(spoken):
        if before == "assistant" and role != "tool" and previous.get("tool_calls"):
            continue  # `_check_answers` reports it
        if role == before and role != "tool":
            message = f"Two consecutive turns have the role {role}; merge them, or add the missing turn between them."
            yield Finding(f"{place}/{index}", "consecutive_same_role", message)
    yield from _check_answers(spoken, place)


def _check_answers(spoken: Sequence[Turn], place: str) -> Iterator[Finding]:
    """Check that calls have results. The last turn may be a call, which the model learns."""
    for number, (index, role, message) in enumerate(spoken[:-1]):
        calls = message.get("tool_calls")
        if role != "assistant" or not isinstance(calls, list) or not calls:
            continue
        answers = []
        for _, next_role, answer in spoken[number + 1 :]:
            if next_role != "tool":
                break
            answers.append(answer.get("tool_call_id"))
        asked = [call.get("id") if isinstance(call, dict) else None for call in calls]
        known = [id for id in answers if id is not None]
        missing = [id for id in asked if id is not None and known and id not in known]
        if missing or len(answers) < len(calls):
            what = f"The call {brief(missing[0])} has" if missing else f"{len(calls) - len(answers)} call(s) have"
            advice = f"{what} no result; add a tool turn for each call after it."
            yield Finding(f"{place}/{index}/tool_calls", "unanswered_tool_call", advice)


def _check_sharegpt(conversation: object) -> Iterator[Finding]:
    place = "/conversations"
    if not isinstance(conversation, list) or not conversation:
        yield Finding(place, "wrong_type", "conversations is empty or not a list; write a list of turns.")
        return
    turns: list[Turn] = []
    learnable = False
    for index, turn in enumerate(conversation):
        at = f"{place}/{index}"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            yield Finding(at, "wrong_type", 'The turn is not an object with "from" and a string "value"; write one.')
            continue
        yield from _check_sharegpt_turn(turn, at)
        by = turn.get("from")
        role = SHAREGPT_ROLES.get(by, "") if isinstance(by, str) else ""
        turns.append((index, role, {"tool_calls": [{}]} if by == "function_call" else {}))
        learnable |= role == "assistant" and bool(turn["value"].strip()) and weight_of(turn) == 1
    yield from _check_sequence(turns, place, ())
    if not learnable:
        finding = _report_nothing_to_learn(turns, place, len(conversation))
        unlearned = Finding(place, "no_trainable_text", "There is no gpt turn with text; add one.")
        yield finding if finding.code == "no_conversation" else unlearned


def _check_sharegpt_turn(turn: Record, at: str) -> Iterator[Finding]:
    by = turn.get("from")
    if not isinstance(by, str) or by not in SHAREGPT_ROLES:
        yield Finding(f"{at}/from", "unknown_role", f"from is {brief(by)}; write one of {sorted(SHAREGPT_ROLES)}.")
        return
    yield from _check_weight(turn, at)
    if by == "function_call" and not calls_in(turn["value"]):
        what = 'The value is not a function call; write the JSON {"name": "…", "arguments": {…}} as a string.'
        yield Finding(f"{at}/value", "wrong_type", what)
    elif SHAREGPT_ROLES[by] in SPEAKING and not turn["value"].strip():
        yield Finding(f"{at}/value", "empty_content", f"The {by} turn is empty; add a value or remove the turn.")
    is_answer = SHAREGPT_ROLES[by] == "assistant"
    yield from check_keys(turn, SHAREGPT_KEYS if is_answer else SHAREGPT_KEYS - OF_ANSWERS, at)


def calls_in(value: str) -> list[Record]:
    """Return the calls of a ShareGPT turn by `function_call`: one object, or a list of them; [] if there are none."""
    parsed = _parsed(value)
    calls = parsed if isinstance(parsed, list) else [parsed]
    good = all(not list(_check_call(call, "")) for call in calls)
    return [{"type": "function", "function": call.get("function", call)} for call in calls] if good else []


def sides_of(record: Record) -> tuple[str, str, str]:
    """Return the keys of a preference: the prompt, the better answer, the worse one."""
    ours = ("prompt", "chosen", "rejected")
    return ours if record.keys() >= set(ours) else ("input", "preferred_output", "non_preferred_output")


def _check_preference(record: Record) -> Iterator[Finding]:
    asked, better, worse = sides_of(record)
    by_openai = asked == "input"
    context: Sequence[str] = ()
    at: tuple[str, ...] = (asked,)
    messages = record[asked]
    if isinstance(record[asked], dict):
        yield from _check_tools(record[asked])
        yield from check_keys(record[asked], INPUT_KEYS, "/input")
        messages, at = messages.get("messages"), (asked, "messages")
    if by_openai or not isinstance(record[asked], str):
        yield from check_conversation(messages, *at, learned=False)
        turns = messages if isinstance(messages, list) else []
        context = [_known_role(turn.get("role")) for turn in turns if isinstance(turn, dict)]
    for key in (better, worse):
        if isinstance(record[key], str) and not by_openai:
            yield from _check_texts(record, required=(key,), filled=key)
        else:
            yield from check_conversation(record[key], key, context=context)
    if record[better] == record[worse]:
        message = f"{better} and {worse} are identical; change one of them or remove the row."
        yield Finding(f"/{worse}", "identical_answers", message)
