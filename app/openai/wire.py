"""How OpenAI writes what we have as well."""

from datetime import datetime
from typing import overload

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


@overload
def unix(at: datetime) -> int: ...
@overload
def unix(at: None) -> None: ...
def unix(at: datetime | None) -> int | None:
    """Whole seconds since 1970."""
    return None if at is None else int(at.timestamp())
