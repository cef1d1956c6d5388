"""Secrets kept out of logs, and out of what users are told of an exception that is not ours."""

import os
import re
from functools import cache
from typing import Final

from tunewright.redaction import REMOVED, redact

SECRET_VARIABLE: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")
FEWEST_CHARS: Final = 6
"""Of a variable's value that is taken for a secret; a shorter one is a part of too many words."""
PATH: Final = re.compile(r"(\bhttps?://[^\s/?#'\"]+[/?#])[^\s'\"<>)]+", re.IGNORECASE)
"""Of a URL: receivers of webhooks have their tokens in it, object stores their signatures."""


def redact_text(text: str) -> str:
    """Without what looks like a secret, what a variable holds that is named like one, and the paths of URLs."""
    for secret in secrets_of_environment():
        text = text.replace(secret, REMOVED)
    return PATH.sub(rf"\1{REMOVED}", redact(text))


def redact_error(error: BaseException) -> str:
    """Its type and its text."""
    return f"{type(error).__name__}: {redact_text(str(error))}".removesuffix(": ")


@cache
def secrets_of_environment() -> tuple[str, ...]:
    named = (value for name, value in os.environ.items() if SECRET_VARIABLE.search(name))
    return tuple(value for value in named if len(value) >= FEWEST_CHARS)
