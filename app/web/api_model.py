"""Defines the base of response bodies, and fills them from rows of the database."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

ModelT = TypeVar("ModelT", bound=BaseModel)


class ApiModel(BaseModel):
    """A body whose fields are described by the docstrings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def from_row(model: type[ModelT], row: object, /, **given: Any) -> ModelT:
    """Fill a model with the given values, and otherwise with the row's attributes that have the fields' names."""
    copied = {name: getattr(row, name) for name in model.model_fields if name not in given}
    return model(**copied, **given)
