"""Defines the request and response bodies for browsers' sessions."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from app.sessions.repository import ShownSession
from app.web.api_model import ApiModel, from_row


class SessionIn(BaseModel):
    """The API key that a browser exchanges for a session."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"key": "tw_0123456789abcdef01234567_…"}},
    )

    key: Annotated[str, Field(min_length=1, max_length=200)]
    """The API key, `tw_…`."""


class SessionOut(ApiModel):
    """The key for which the request's session stands, or the key of the request itself."""

    project_id: str
    project: str
    """The project's name."""
    key_id: str
    key_name: str
    scopes: list[str]
    """What the key may do."""
    expires_at: datetime | None
    """When the session expires, at the latest with its key; for a request with an API key, when the key expires, and
    null for never."""

    @classmethod
    def of(cls, shown: ShownSession) -> Self:
        return from_row(cls, shown)
