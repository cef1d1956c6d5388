"""Creates ids: a prefix that names the noun, and 96 random bits. Uploads, parts and checkpoints have OpenAI's
prefixes.
"""

import re
import secrets
from typing import Final, Literal

Noun = (
    Literal["proj", "key", "file", "ftjob", "ftckpt", "art", "adp", "model", "upload", "part", "preview", "overlap"]
    | Literal["webhook", "delivery", "evt", "session"]
)
PATTERN: Final = re.compile(r"(?:[a-z]+-|upload_|part_|ftckpt_)[0-9a-f]{24}")


def new_id(noun: Noun) -> str:
    return _prefix(noun) + secrets.token_hex(12)


def is_id(text: str, noun: Noun) -> bool:
    return PATTERN.fullmatch(text) is not None and text.startswith(_prefix(noun))


def _prefix(noun: Noun) -> str:
    return f"{noun}_" if noun in ("upload", "part", "ftckpt") else f"{noun}-"
