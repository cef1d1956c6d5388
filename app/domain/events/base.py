"""Defines the base of all events."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Level = Literal["info", "warn", "error"]


class EventBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    level: ClassVar[Level] = "info"
    template: ClassVar[str]
    """Holds the message, with fields in braces. An event with a more complex message overrides `message` instead."""

    @property
    def message(self) -> str:
        """Return the text that a person reads."""
        return self.template.format(**dict(self))
