"""Defines the base of a request's parts."""

from pydantic import BaseModel, ConfigDict


class SpecPart(BaseModel):
    """A part of a request. It is frozen, and refuses unknown fields and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
