"""Defines the request and response bodies for API keys."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.domain.caller import SCOPES, Scope
from app.keys.repository import ShownKey
from app.keys.service import DAY_SECONDS, MAX_LIFE_SECONDS, MAX_OVERLAP_SECONDS
from app.web.api_model import from_row

EXAMPLE: dict[str, Any] = {"project": "research", "name": "ci", "scopes": ["read"], "expires_after_seconds": 7776000}
KeyState = Literal["active", "expired", "revoked"]


class KeyIn(BaseModel):
    """An API key to create."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """A name that says what the key is used for."""
    project: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name or id of the project that the key belongs to; defaults to the project of the request's key."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)] = list(SCOPES)
    """What the key may do; `admin` includes the others."""
    expires_after_seconds: Annotated[int, Field(ge=1, le=MAX_LIFE_SECONDS)] | None = None
    """The key's lifetime in seconds; null for no limit."""


class KeyRotation(BaseModel):
    """Options of a key's rotation."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"overlap_seconds": 3600}},
    )

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = DAY_SECONDS
    """How long the old key keeps working, in seconds."""


class KeyOut(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """`key-` and the first 24 digits of the key itself: `key-0123…` for `tw_0123…_…`."""
    name: str
    project_id: str
    project: str
    """The project's name."""
    scopes: list[str]
    state: KeyState
    """`active`, or the reason why the key is rejected."""
    created_at: datetime
    expires_at: datetime | None
    """When the key expires; null for never."""
    last_used_at: datetime | None
    """When the key was last used, to the minute; null for never."""
    revoked_at: datetime | None
    replaced_by: str | None
    """Id of the key that replaced it in a rotation."""

    @classmethod
    def of(cls, shown: ShownKey) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state)


class KeyWithSecret(KeyOut):
    """An API key with its secret, returned only when the key is created or rotated."""

    secret: str
    """The key itself, `tw_…`; shown only once."""

    @classmethod
    def with_secret(cls, shown: ShownKey, secret: str) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state, secret=secret)
