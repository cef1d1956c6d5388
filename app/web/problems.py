"""RFC 9457 problem+json for everything that goes wrong."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from app.errors import FieldError, NotFound, RangeNotSatisfiable, RequestInProgress, TunewrightError, Unauthorized

log = structlog.get_logger()


class FieldProblem(BaseModel):
    pointer: str
    code: str
    message: str


class ProblemDetails(BaseModel):
    """An error as RFC 9457 shapes it. `code` is stable; `detail` says what to do; `errors` names each bad field."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:tunewright:error:job_not_found",
                "title": "Not Found",
                "status": 404,
                "detail": "No job has the id 'ftjob-0'; GET /jobs lists them.",
                "instance": "/jobs/ftjob-0",
                "code": "job_not_found",
                "errors": [],
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldProblem] = []


PROBLEM_JSON = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}


def problems(*errors: type[TunewrightError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for a route that can raise these, besides 401, 403 and bad parameters."""
    by_status: dict[int | str, list[str]] = {401: ["`unauthorized`"], 403: ["`forbidden`"], 422: ["`invalid_request`"]}
    for error in errors:
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {(error.__doc__ or error.__name__).strip()}")
    return {
        status: {"model": ProblemDetails, "description": " / ".join(texts), "content": PROBLEM_JSON}
        for status, texts in by_status.items()
    }


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = ProblemDetails(
        type=f"urn:tunewright:error:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        errors=[FieldProblem(**error._asdict()) for error in errors],
    )
    return JSONResponse(body.model_dump(), status, dict(headers or {}), media_type="application/problem+json")


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def install(app: FastAPI) -> None:
    app.exception_handler(TunewrightError)(_ours)
    app.exception_handler(RequestValidationError)(_invalid_request)
    app.exception_handler(HTTPException)(_starlettes)
    app.exception_handler(DataError)(_unstorable)
    app.exception_handler(Exception)(_unforeseen)


async def _ours(request: Request, error: TunewrightError) -> Response:
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, RequestInProgress):
        headers["Retry-After"] = "1"
    return problem(request, error.status, error.code, str(error), error.errors, headers)


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    errors = [FieldError(pointer(found["loc"]), found["type"], found["msg"]) for found in error.errors()]
    places = ", ".join(each.pointer for each in errors[:5])
    return problem(request, 422, "invalid_request", f"Change these parameters: {places}.", errors)


async def _starlettes(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return await _ours(request, NotFound())
    code = HTTPStatus(error.status_code).name.lower()
    return problem(request, error.status_code, code, str(error.detail), headers=error.headers)


async def _unstorable(request: Request, error: DataError) -> Response:
    """PostgreSQL's word on values it cannot hold: NUL in text, numbers past 64 bits."""
    log.warning("request held what cannot be stored", path=request.url.path, error=str(error.orig))
    detail = "A value holds a NUL character or a number that cannot be stored; leave it out."
    return problem(request, 422, "invalid_request", detail)


async def _unforeseen(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return problem(request, 500, "internal_error", "The server failed; its log tells more. Nothing was changed.")
