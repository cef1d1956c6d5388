"""Converts shared values to OpenAI's formats."""

from datetime import datetime
from typing import Any, overload

from pydantic import BaseModel


@overload
def unix(at: datetime) -> int: ...
@overload
def unix(at: None) -> None: ...
def unix(at: datetime | None) -> int | None:
    """Return whole seconds since 1970."""
    return None if at is None else int(at.timestamp())


def json_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body for a route that reads its body itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema_of(model)}}}}


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the self-contained schema: references are replaced by what they refer to."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def filled(node: Any) -> Any:
        if isinstance(node, list):
            return [filled(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return filled(parts[node["$ref"].rpartition("/")[2]])
        return {key: filled(value) for key, value in node.items()}

    filled_schema: dict[str, Any] = filled(schema)
    return filled_schema
