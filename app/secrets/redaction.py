"""Keeps secrets out of logs, and out of what users see of an exception of another library."""

import os
import re
from functools import cache
from typing import Final

from tunewright.redaction import REMOVED, redact

SECRET_VARIABLE: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")
FEWEST_CHARS: Final = 6
"""Sets the minimum length of a variable's value that counts as a secret; a shorter one is part of too many words."""
PATH: Final = re.compile(r"(\bhttps?://[^\s/?#'\"]+[/?#])[^\s'\"<>)]+", re.IGNORECASE)
"""Matches the path of a URL: receivers of webhooks have their tokens in it, object stores their signatures."""


def redact_text(text: str) -> str:
    """Return the text without apparent secrets, the values of variables named like secrets, and the paths of URLs."""
    for secret in secrets_of_environment():
        text = text.replace(secret, REMOVED)
    return PATH.sub(rf"\1{REMOVED}", redact(text))


def redact_error(error: BaseException) -> str:
    """Return the error's type and text."""
    return f"{type(error).__name__}: {redact_text(str(error))}".removesuffix(": ")


@cache
def secrets_of_environment() -> tuple[str, ...]:
    named = (value for name, value in os.environ.items() if SECRET_VARIABLE.search(name))
    return tuple(value for value in named if len(value) >= FEWEST_CHARS)
