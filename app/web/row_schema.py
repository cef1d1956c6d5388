"""Answers that are copied from rows of the database."""

from typing import Any, TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)


def from_row(model: type[ModelT], row: object, /, **given: Any) -> ModelT:
    """Fills a model: with what is given, and else with the row's attributes by the names of the fields."""
    copied = {name: getattr(row, name) for name in model.model_fields if name not in given}
    return model(**copied, **given)
