"""Reads a turn's content: a text, parts of one, or a refusal. OpenAI's clients write all three."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from app.domain.datasets.problem import Finding, brief, kind_of, pointer_to
from app.domain.suggestions.row_keys import meant_by

BETWEEN_PARTS: Final = "\n"
"""Joins a message's parts for a template that needs one text, as vLLM and llama.cpp do."""
TEXTS: Final = {"text": "text", "refusal": "refusal"}
"""Maps a part's type to the key of its text."""
OTHERS: Final = {
    "image_url": "image_part_unsupported",
    "input_image": "image_part_unsupported",
    "image": "image_part_unsupported",
    "input_audio": "audio_part_unsupported",
    "audio": "audio_part_unsupported",
    "video_url": "video_part_unsupported",
    "video": "video_part_unsupported",
    "file": "file_part_unsupported",
    "input_file": "file_part_unsupported",
}
"""Maps types of parts other than text to their error codes."""
Turn = Mapping[str, Any]


def text_of(turn: Turn) -> str | None:
    """Return the turn's text, or None if it has none. Parts other than text are skipped."""
    content = turn.get("content")
    if isinstance(content, list):
        texts = [text for part in content if (text := _text_in(part)) is not None]
        content = BETWEEN_PARTS.join(texts) if texts else None
    if isinstance(content, str) and content:
        return content
    refusal = turn.get("refusal") if turn.get("role") == "assistant" else None
    return refusal if isinstance(refusal, str) and refusal else content if isinstance(content, str) else None


def check_content(turn: Turn, at: str) -> Iterator[Finding]:
    content, is_answer = turn.get("content"), turn.get("role") == "assistant"
    refusal = turn.get("refusal") if is_answer else None
    if isinstance(content, list):
        yield from _check_parts(content, f"{at}/content")
    elif not isinstance(content, str) and not (content is None and (turn.get("tool_calls") or refusal)):
        yield Finding(f"{at}/content", "wrong_type", f"content is a JSON {kind_of(content)}; write a string.")
    if not isinstance(refusal, str | None):
        yield Finding(f"{at}/refusal", "wrong_type", f"refusal is a JSON {kind_of(refusal)}; write a string.")
    elif refusal and content and text_of({"content": content}):
        message = "The turn has both content and a refusal; keep one of them."
        yield Finding(f"{at}/refusal", "refusal_beside_content", message)
    if is_answer and turn.get("audio") is not None:
        yield _unsupported("audio_part_unsupported", "audio", f"{at}/audio")


def check_keys(value: Turn, known: frozenset[str], at: str) -> Iterator[Finding]:
    """Report keys that are not read, except those with null."""
    for key in sorted(key for key in value.keys() - known if value[key] is not None):
        yield unused_key(key, known - value.keys(), at)


def unused_key(key: str, missing: Collection[str], at: str = "") -> Finding:
    """Report an unused key. `missing` are keys that are read and absent."""
    meant = meant_by(key, missing)
    advice = f"did you mean {brief(meant)}?" if meant else "remove it, or move its content to a key that is read."
    return Finding(at + pointer_to(key), "unused_key", f"Training does not read the key {brief(key)}; {advice}")


def _check_parts(parts: list[Any], at: str) -> Iterator[Finding]:
    if not parts:
        yield Finding(at, "wrong_type", "content is an empty list; write a string or a list of text parts.")
    for index, part in enumerate(parts):
        type = part.get("type") if isinstance(part, dict) else None
        if isinstance(type, str) and type in OTHERS:
            yield _unsupported(OTHERS[type], type, f"{at}/{index}")
        elif not isinstance(type, str) or type not in TEXTS:
            message = f'The content part type {brief(type)} is unknown; write {{"type": "text", "text": "…"}}.'
            yield Finding(f"{at}/{index}", "unknown_part", message)
        elif _text_in(part) is None:
            key = TEXTS[type]
            message = f"{key} is a JSON {kind_of(part.get(key))}; write a string."
            yield Finding(f"{at}/{index}/{key}", "wrong_type", message)
        else:
            yield from check_keys(part, frozenset({"type", TEXTS[type]}), f"{at}/{index}")


def _text_in(part: object) -> str | None:
    key = TEXTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    text = part.get(key) if isinstance(part, dict) and key else None
    return text if isinstance(text, str) else None


def _unsupported(code: str, type: str, at: str) -> Finding:
    message = f"The turn has a part of type {type}, but only text is supported; remove the part or the row."
    return Finding(at, code, message)
