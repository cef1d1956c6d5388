"""Defines the request and response bodies for API keys."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.domain.caller import SCOPES, Scope
from app.keys.repository import ShownKey
from app.keys.service import DAY_SECONDS, MAX_LIFE_SECONDS, MAX_OVERLAP_SECONDS
from app.web.row_schema import from_row

EXAMPLE: dict[str, Any] = {"project": "research", "name": "ci", "scopes": ["read"], "expires_after_seconds": 7776000}
KeyState = Literal["active", "expired", "revoked"]


class KeyIn(BaseModel):
    """Describes a key to create."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Says what it is for."""
    project: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Gives name or id of the project it belongs to; default: the project of the request's key."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)] = list(SCOPES)
    """Lists what it may do; `admin` includes the others."""
    expires_after_seconds: Annotated[int, Field(ge=1, le=MAX_LIFE_SECONDS)] | None = None
    """Sets its lifetime; null means no limit."""


class KeyRotation(BaseModel):
    """Describes how a key is replaced."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"overlap_seconds": 3600}},
    )

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = DAY_SECONDS
    """Sets for how long the old key also works."""


class KeyOut(BaseModel):
    """Describes an API key, without its secret."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Consists of `key-` and the first 24 digits of the key itself: `tw_0123…_…` is `key-0123…`."""
    name: str
    project_id: str
    project: str
    """Gives the project's name."""
    scopes: list[str]
    state: KeyState
    """Is `active`, or says why the key is refused."""
    created_at: datetime
    expires_at: datetime | None
    """Gives the time of its expiry; null means never."""
    last_used_at: datetime | None
    """Gives the time of its last use, to the minute; null means never."""
    revoked_at: datetime | None
    replaced_by: str | None
    """Identifies the key by which a rotation has replaced it."""

    @classmethod
    def of(cls, shown: ShownKey) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state)


class KeyWithSecret(KeyOut):
    """Describes a key with its secret; only a creation and a rotation answer with it."""

    secret: str
    """Is the key itself, `tw_…`; it is shown only here."""

    @classmethod
    def with_secret(cls, shown: ShownKey, secret: str) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state, secret=secret)
