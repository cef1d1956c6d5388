"""Fills response models from rows of the database."""

from typing import Any, TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)


def from_row(model: type[ModelT], row: object, /, **given: Any) -> ModelT:
    """Fill a model with the given values, and otherwise with the row's attributes that have the fields' names."""
    copied = {name: getattr(row, name) for name in model.model_fields if name not in given}
    return model(**copied, **given)
