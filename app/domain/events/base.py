"""What all events have."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Level = Literal["info", "warn", "error"]


class EventBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    level: ClassVar[Level] = "info"
    template: ClassVar[str]
    """The message, with fields in braces. An event whose message is more than that has its own `message` instead."""

    @property
    def message(self) -> str:
        """The sentence a person reads."""
        return self.template.format(**dict(self))
