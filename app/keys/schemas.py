"""API keys on the wire."""

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
    """A key to be made."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE}
    )

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """What it is for."""
    project: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name or id of the project it belongs to; that of the key that asks, unless given."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)] = list(SCOPES)
    """What it may do; `admin` brings the others."""
    expires_after_seconds: Annotated[int, Field(ge=1, le=MAX_LIFE_SECONDS)] | None = None
    """When it stops; null for never."""


class KeyRotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"overlap_seconds": 3600}},
    )

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = DAY_SECONDS
    """For so long the old key works too."""


class KeyOut(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """`key-` and the first 24 digits of the key itself: `tw_0123…_…` is `key-0123…`."""
    name: str
    project_id: str
    project: str
    """The project's name."""
    scopes: list[str]
    state: KeyState
    """`active`, or why it is refused."""
    created_at: datetime
    expires_at: datetime | None
    """Null is never."""
    last_used_at: datetime | None
    """To the minute; null is never."""
    revoked_at: datetime | None
    replaced_by: str | None
    """The id of the key that a rotation has made in its place."""

    @classmethod
    def of(cls, shown: ShownKey) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state)


class KeyWithSecret(KeyOut):
    """Only a creation and a rotation are answered so."""

    secret: str
    """The key itself, `tw_…`; it is shown here alone."""

    @classmethod
    def with_secret(cls, shown: ShownKey, secret: str) -> Self:
        return from_row(cls, shown.key, project=shown.project, state=shown.state, secret=secret)
