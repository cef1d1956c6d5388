"""Removes secrets from text that is shared with others."""

import re
from typing import Any, Final

REMOVED: Final = "[removed]"
NAMES: Final = (
    r"(?:[a-z0-9_.-]*[_.-])?(?:password|passwd|pwd|secret|api[_-]?key|(?:secret|access|private)[_-]?key|authorization|"
    r"signature|credentials?|(?:access|auth|api|hf|refresh|session|security|bearer)[_-]?token)"
)
"""Matches names of secrets. A plain `token` is excluded, because here it usually means a piece of text."""
SECRET_NAME: Final = re.compile(rf"(?:{NAMES}|token|[A-Z0-9_]+_TOKEN)", re.IGNORECASE)
PATTERNS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"\btws?_[0-9a-f]{24}_[\w-]+"), REMOVED),
    (re.compile(r"\bwhsec_[\w+/=-]+"), REMOVED),
    (re.compile(r"\b(?:hf|gh[opsru]|glpat|xox[abprs])[_-][\w-]{16,}"), REMOVED),
    (re.compile(r"\bsk-[\w-]{16,}"), REMOVED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), REMOVED),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), REMOVED),
    (re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1\2{REMOVED}"),
    # Matches a password in a URL: postgresql://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+@", re.IGNORECASE), rf"\1{REMOVED}@"),
    # Matches name=value and "name": "value", also in the parameters of a URL.
    (re.compile(rf"""(\b{NAMES}["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s"'&,;]+)""", re.IGNORECASE), rf"\1{REMOVED}"),
    (re.compile(r"""(\b[A-Z0-9_]*TOKEN["']?\s*[=:]\s*|[?&]token=)("[^"]*"|'[^']*'|[^\s"'&,;]+)"""), rf"\1{REMOVED}"),
)


def redact(text: str) -> str:
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_json(value: Any) -> Any:
    """Remove secrets from JSON, including strings whose key is the name of a secret."""
    if isinstance(value, dict):
        return {
            key: REMOVED if isinstance(each, str) and SECRET_NAME.fullmatch(key) else redact_json(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [redact_json(each) for each in value]
    return redact(value) if isinstance(value, str) else value
