"""Defines problems of datasets: a closed list of codes, each an error or a warning, and where one was found."""

from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from app.domain.datasets.container import CONTAINER_CODES


class Severity(StrEnum):
    error = "error"
    """The row (or the file) cannot be trained on."""
    warning = "warning"
    """The row can be trained on, but is probably a mistake."""


E, W = Severity.error, Severity.warning
CODES: Final[dict[str, tuple[Severity, str]]] = {
    "no_rows": (E, "The file has no rows."),
    "file_missing": (E, "The file is missing from storage."),
    "source_deleted": (E, "The source dataset was deleted before this one was created from it."),
    "md5_mismatch": (E, "The MD5 of a file sent in parts differs from the one that was given."),
    "unreadable_file": (E, "The file cannot be read, or only in part."),
    "line_too_long": (E, "A line is longer than 8 MiB."),
    "not_utf8": (E, "A line is not UTF-8."),
    "not_json": (E, "A line is not JSON."),
    "not_an_object": (E, "A line is JSON, but not an object."),
    "invalid_number": (E, "A row has NaN, Infinity, or a number with more than a thousand digits."),
    "duplicate_key": (E, "An object has a key twice, and JSON parsers disagree on which value counts."),
    "lone_surrogate": (E, "A text has one half of a surrogate pair without the other."),
    "nesting_too_deep": (E, "A line nests deeper than 100 levels."),
    "unknown_format": (E, "A row's keys match no format."),
    "mixed_formats": (E, "A row's format differs from the file's."),
    "missing_key": (E, "A row lacks a key of the requested format."),
    "wrong_type": (E, "A value does not have the type that the format requires."),
    "unknown_role": (E, "A turn has an unknown role."),
    "image_part_unsupported": (E, "A turn has an image; only text is supported."),
    "audio_part_unsupported": (E, "A turn has audio; only text is supported."),
    "video_part_unsupported": (E, "A turn has a video; only text is supported."),
    "file_part_unsupported": (E, "A turn has a file; only text is supported."),
    "unknown_part": (E, "A part of a turn's content has an unknown type."),
    "refusal_beside_content": (E, "An assistant's turn has both content and a refusal."),
    "legacy_functions": (E, "A row has OpenAI's legacy `functions`, `function_call` or role `function`."),
    "invalid_weight": (E, "A turn's weight is neither 0 nor 1."),
    "no_conversation": (E, "A conversation has only system turns."),
    "no_trainable_text": (E, "A row has no text to learn from."),
    "unsafe_filename": (W, "The file name had non-printable characters, such as one that reverses the text."),
    "crlf_line_endings": (
        W,
        "The first line ends with a carriage return, which is not read as text; reported once per file.",
    ),
    "text_lines_are_rows": (W, "The file is plain text, and each line is a row; reported once per file."),
    "byte_order_mark": (W, "A line begins with a byte order mark, which is not read as text."),
    "unused_key": (W, "A row or a turn has a key that training does not read; reported once per key, with its count."),
    "empty_content": (W, "A user, assistant or tool turn is empty."),
    "assistant_speaks_first": (W, "A conversation begins with the assistant."),
    "consecutive_same_role": (W, "Two consecutive turns are both the user's or both the assistant's."),
    "unanswered_tool_call": (W, "A tool is called, and the conversation continues without its result."),
    "identical_answers": (W, "The chosen and the rejected answer are identical."),
    "control_character": (W, "A text has control characters, such as NUL."),
    "long_row": (W, "A row's texts are longer than 131,072 characters."),
    "duplicate_row": (W, "A row has the same texts as an earlier row."),
    "near_duplicate_row": (
        W,
        "A row has the same texts as an earlier row, ignoring white space and the case of A to Z.",
    ),
}
"""Maps each code to its severity and meaning. `docs/datasets.md` shows this table. Problems that prevent reading a
container have separate codes, `app.domain.datasets.container.CONTAINER_CODES`, all errors."""


ONCE_A_FILE: Final = frozenset({"unused_key"})
"""Lists codes whose equal findings are reported once a file, with a count."""


def severity_of(code: str) -> Severity:
    if code in CODES:
        return CODES[code][0]
    assert code in CONTAINER_CODES
    return Severity.error


MAX_POINTER_CHARS: Final = 300
UNSTORABLE: Final = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}
"""Replaces characters that PostgreSQL's text cannot hold."""


class Finding(NamedTuple):
    """Describes a problem of a record: JSON pointer, stable code, and what was found and what to write instead."""

    pointer: str
    code: str
    message: str

    @property
    def severity(self) -> Severity:
        return severity_of(self.code)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.error


class Problem(BaseModel):
    """A problem: where it is (line from 1, JSON pointer), a stable code, and what to write instead."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    line: int
    pointer: str
    code: str
    severity: Severity = Severity.error
    message: str
    count: int = 1
    """How often the problem was found. Problems with the same message are grouped."""
    lines: list[int] = []
    """The first ten lines with this problem."""

    @classmethod
    def of(cls, line: int, finding: Finding) -> "Problem":
        return cls(line=line, severity=finding.severity, lines=[line], **finding._asdict())


def pointer_to(*parts: str | int) -> str:
    """Build an RFC 6901 pointer, truncated for long keys and without characters that cannot be stored."""
    steps = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join("/" + step[:MAX_POINTER_CHARS] for step in steps)[:MAX_POINTER_CHARS].translate(UNSTORABLE)


def brief(value: object) -> str:
    """Format a value for a message: short, and without characters that could break a line or a log."""
    return ascii(value[:60] if isinstance(value, str) else value)[:60]


def kind_of(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
