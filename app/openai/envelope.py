"""Renders every error under `/v1` as OpenAI's error envelope."""

import json
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from app.errors import Conflict, StorageFull, TunewrightError
from app.web.problems import ApiProblem

ErrorType = Literal["invalid_request_error", "authentication_error", "permission_error", "server_error"]
PLACES = {"body", "query", "path", "header", "cookie"}
SHOWN_ERRORS = 50


class ErrorObject(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    """What to do; names every invalid field."""
    type: ErrorType
    param: str | None
    """The first invalid field, such as `method.dpo.hyperparameters.beta`; null if no field is invalid."""
    code: str
    """A stable code. For an invalid field, it says why the field is invalid."""


class ErrorEnvelope(BaseModel):
    """An error in the format of OpenAI's API."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "message": "No file has the id 'file-0'; GET /v1/files lists them.",
                    "type": "invalid_request_error",
                    "param": "file_id",
                    "code": "file_not_found",
                }
            }
        }
    )

    error: ErrorObject


def refusals(*errors: type[TunewrightError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for a route that can raise these errors, besides 401, 403 and bad parameters."""
    by_status: dict[int | str, list[str]] = {
        400: ["A parameter is invalid; `param` names it."],
        401: ["`unauthorized`"],
        403: ["`forbidden`"],
    }
    for error in errors:
        text = f"`{error.code}`: {(error.__doc__ or error.__name__).strip()}"
        by_status.setdefault(_status(error.status), []).append(text)
    return {
        status: {"model": ErrorEnvelope, "description": " / ".join(texts)}
        for status, texts in sorted(by_status.items(), key=str)
    }


def envelope(request: Request, problem: ApiProblem) -> Response:
    status = _status(problem.status)
    error = ErrorObject(
        message=_message(request, problem),
        type=_type(status),
        param=_param(request, problem),
        code=problem.errors[0].code if problem.errors else problem.code,
    )
    headers = dict(problem.headers)
    if not _is_retryable(problem.cause):
        headers["x-should-retry"] = "false"
    # In ASCII, because a field's name may contain half of a surrogate pair, which UTF-8 cannot encode.
    return Response(json.dumps({"error": error.model_dump()}), status, headers, "application/json")


def _status(status: int) -> int:
    """Return the status; OpenAI answers 400 where the native API answers 422."""
    return 400 if status == 422 else status


def _type(status: int) -> ErrorType:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error"}.get(status, "invalid_request_error")  # type: ignore[return-value]


def _is_retryable(cause: Exception | None) -> bool:
    """Return whether a retry may succeed. OpenAI's client resends after a 409 or a server error, unless a header
    forbids it."""
    return cause.passes if isinstance(cause, Conflict) else not isinstance(cause, StorageFull)


def _message(request: Request, problem: ApiProblem) -> str:
    if problem.errors:
        messages = [f"{param_of(each.pointer) or 'the body'}: {each.message}" for each in problem.errors[:SHOWN_ERRORS]]
        more = len(problem.errors) - SHOWN_ERRORS
        return "; ".join(messages) + (f"; and {more} more." if more > 0 else "")
    if problem.status in (404, 405) and isinstance(problem.cause, HTTPException):
        return f"No route for {request.method} {request.url.path[:200]}; see /v1/docs for the routes."
    return problem.detail


def _param(request: Request, problem: ApiProblem) -> str | None:
    if problem.errors:
        return param_of(problem.errors[0].pointer)
    to_blame = {getattr(problem.cause, "id", None), getattr(problem.cause, "name", None)}
    return next((name for name, value in request.path_params.items() if value in to_blame), None)


def param_of(pointer: str) -> str | None:
    """Convert a JSON pointer to OpenAI's notation: `/integrations/0/type` becomes `integrations[0].type`."""
    first, *rest = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]] or [""]
    parts = rest if first in PLACES and rest else [first, *rest]
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".") or None
