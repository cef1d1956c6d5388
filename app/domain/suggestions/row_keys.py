"""Suggests a known key for an unknown key of a row."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

MEANT: Final[dict[str, tuple[str, ...]]] = {
    "prompt": ("input", "question", "query", "instruction", "request", "user", "q", "problem", "source"),
    "completion": ("output", "answer", "response", "target", "reply", "assistant", "a", "solution", "label"),
    "output": ("response", "answer", "completion", "target"),
    "messages": ("conversation", "conversations", "chat", "dialog", "dialogue", "turns", "message", "history"),
    "conversations": ("conversation", "messages"),
    "text": ("content", "document", "body", "passage", "article"),
    "chosen": ("preferred", "accepted", "better", "win", "positive", "chosen_response"),
    "rejected": ("dispreferred", "refused", "worse", "lose", "negative", "rejected_response"),
    "content": ("text", "value", "message"),
    "role": ("from", "speaker", "author"),
    "reasoning_content": ("reasoning", "thinking", "thought", "thoughts", "analysis"),
    "tool_calls": ("tools", "calls", "functions"),
    "weight": ("train", "loss", "loss_weight"),
}
"""Maps a key that is read to other names for it."""
LEAST_LIKENESS: Final = 0.75
MAX_SLIPS: Final = 2


def meant_by(key: str, known: Iterable[str]) -> str | None:
    """Find the key of `known` that was meant: by a synonym or a typing error."""
    names = sorted(known)
    folded = key.lower().replace("-", "_").replace(" ", "_")
    if folded in names:
        return folded
    for name in names:
        if folded in MEANT.get(name, ()):
            return name
    near = [name for name in names if name[0] == folded[:1] and abs(len(name) - len(folded)) <= MAX_SLIPS]
    return next(iter(get_close_matches(folded, near, 1, LEAST_LIKENESS)), None)
