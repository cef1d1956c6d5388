"""Ids: a prefix that names the noun, and 96 random bits."""

import re
import secrets
from typing import Final, Literal

Noun = Literal["proj", "key", "file", "ftjob", "art", "adp", "model"]
PATTERN: Final = re.compile(r"[a-z]+-[0-9a-f]{24}")


def new_id(noun: Noun) -> str:
    return f"{noun}-{secrets.token_hex(12)}"


def is_id(text: str, noun: Noun) -> bool:
    return PATTERN.fullmatch(text) is not None and text.startswith(f"{noun}-")
