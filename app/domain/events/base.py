"""What all events have."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Level = Literal["info", "warn", "error"]


class EventBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    level: ClassVar[Level] = "info"

    @property
    def message(self) -> str:
        """The sentence a person reads."""
        raise NotImplementedError
