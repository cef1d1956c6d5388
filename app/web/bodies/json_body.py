"""Reads JSON bodies with a byte limit, without trusting Content-Length."""

import json
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.domain.suggestions.unknown_fields import say_unknown
from app.errors import InvalidJson, TooLarge, UnsupportedMediaType

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType("Send the body as JSON with the header Content-Type: application/json.")
    limit = request.app.state.settings.max_body_bytes
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit:,} bytes; send less.")
    return bytes(body)


BodyDep = Annotated[bytes, Depends(read_body)]


async def read_optional_body(request: Request) -> bytes:
    """Return the body; empty if nothing is sent."""
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return await read_body(request) if has_body else b""


OptionalBodyDep = Annotated[bytes, Depends(read_optional_body)]


async def read_optional_json(body: OptionalBodyDep) -> object:
    return await read_json(body) if body else {}


async def read_json(body: BodyDep) -> object:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"The body is not JSON: {error}.") from error


def parsed(model: type[ModelT], raw: object) -> ModelT:
    """Parse a body as this model; the error names every invalid field at once."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([_explain_unknown_field(model, each) for each in found]) from error


def _explain_unknown_field(model: type[BaseModel], found: ErrorDetails) -> ErrorDetails:
    if found["type"] == "extra_forbidden":
        found |= {"type": "unknown_field", "msg": say_unknown(model, found["loc"])}
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
