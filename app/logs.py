"""Writes logs as one JSON object per line on stderr, so that no user's text can forge a line; they contain no
secrets."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from app.secrets.redaction import redact_text


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact_values,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.setLogRecordFactory(RedactedRecord)


def redact_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact warnings and errors, which contain texts of others. Information contains only fixed texts and ids, and
    each request writes a line of it: it is not searched for secrets, which takes 0.1 ms per line."""
    if event["level"] == "info":
        return event
    return {name: redact_value(value) for name, value in event.items()}


def redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list | tuple):
        return [redact_value(each) for each in value]
    if isinstance(value, dict):
        return {name: redact_value(each) for name, each in value.items()}
    return value


class RedactedRecord(logging.LogRecord):
    """Redacts what a library logs: uvicorn and Celery log the exceptions that they catch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = redact_text("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:  # noqa: N802 - the library's name
        return redact_text(super().getMessage())


def frames_of(error: BaseException) -> list[str]:
    """Return where an error came from, the innermost frame last, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
