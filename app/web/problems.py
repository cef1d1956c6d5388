"""Renders every error as RFC 9457 problem+json."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DataError, IntegrityError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import (
    Busy,
    Conflict,
    FieldError,
    NotFound,
    RangeNotSatisfiable,
    TunewrightError,
    Unauthorized,
)
from app.web.request_id import ERROR_CODE

log = structlog.get_logger()
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class FieldProblem(BaseModel):
    pointer: str
    code: str
    message: str


class ProblemDetails(BaseModel):
    """An error as RFC 9457 defines it. `code` is stable, `detail` says what to do, and `errors` names each invalid
    field."""

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
    """Return the OpenAPI responses for a route that can raise these errors, besides 401, 403 and bad parameters."""
    by_status: dict[int | str, list[str]] = {
        401: ["`unauthorized`"],
        403: ["`forbidden`", "`origin_mismatch`"],
        422: ["`invalid_request`"],
    }
    for error in errors:
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {(error.__doc__ or error.__name__).strip()}")
    return {
        status: {"model": ProblemDetails, "description": " / ".join(texts), "content": PROBLEM_JSON}
        for status, texts in by_status.items()
    }


class ApiProblem(NamedTuple):
    """Holds the facts of an error, independent of the API that renders it."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    cause: Exception | None = None


Render = Callable[[Request, ApiProblem], Response]


def problem_json(request: Request, problem: ApiProblem) -> Response:
    body = ProblemDetails(
        type=f"urn:tunewright:error:{problem.code}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        instance=request.url.path,
        code=problem.code,
        errors=[FieldProblem(**error._asdict()) for error in problem.errors],
    )
    return JSONResponse(body.model_dump(), problem.status, dict(problem.headers), media_type="application/problem+json")


def pointer(location: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def install(app: FastAPI, render: Render = problem_json) -> None:
    """Render every error of this app with `render`."""

    def handle(kind: type[Exception], describe: Callable[[Request, Any], ApiProblem]) -> None:
        async def answer(request: Request, error: Exception) -> Response:
            problem = describe(request, error)._replace(cause=error)
            request.scope[ERROR_CODE] = problem.code
            return render(request, problem)

        app.exception_handler(kind)(answer)

    handle(TunewrightError, _describe_error)
    handle(RequestValidationError, _describe_invalid_request)
    handle(HTTPException, _describe_http_exception)
    handle(DataError, _describe_unstorable_value)
    handle(IntegrityError, _describe_refused_write)
    handle(Exception, _describe_unexpected_error)


def _describe_error(request: Request, error: TunewrightError) -> ApiProblem:
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Conflict) and error.passes:
        headers["Retry-After"] = "1"
    return ApiProblem(error.status, error.code, str(error), error.errors, headers)


def _describe_invalid_request(request: Request, error: RequestValidationError) -> ApiProblem:
    errors = [FieldError(pointer(found["loc"]), found["type"], found["msg"]) for found in error.errors()]
    places = ", ".join(each.pointer for each in errors[:5])
    return ApiProblem(422, "invalid_request", f"Invalid parameters: {places}.", errors)


def _describe_http_exception(request: Request, error: HTTPException) -> ApiProblem:
    if error.status_code == 404:
        return _describe_error(request, NotFound())
    if error.status_code == 405:
        return ApiProblem(405, "method_not_allowed", str(error.detail), headers={"Allow": ", ".join(_allowed(request))})
    code = HTTPStatus(error.status_code).name.lower()
    return ApiProblem(error.status_code, code, str(error.detail), headers=error.headers or {})


def _allowed(request: Request) -> list[str]:
    """Return the methods that the path allows; the framework reports only those of its first route."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


def _describe_unstorable_value(request: Request, error: DataError) -> ApiProblem:
    """Describe a value that PostgreSQL cannot store: NUL in text, numbers beyond 64 bits."""
    log.warning("request contained a value that cannot be stored", path=request.url.path, error=str(error.orig))
    detail = "A value contains a NUL character or a number that cannot be stored; remove it."
    return ApiProblem(422, "invalid_request", detail)


def _describe_refused_write(request: Request, error: IntegrityError) -> ApiProblem:
    """Describe a refused write. If the project was deleted during the request, its key is no longer valid."""
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None) or ""
    if constraint.endswith(("_project_id_projects", "_created_by_key_id_api_keys")):
        return _describe_error(request, Unauthorized())
    return _describe_unexpected_error(request, error)


def _describe_unexpected_error(request: Request, error: Exception) -> ApiProblem:
    log.error("request failed", path=request.url.path, exc_info=error)
    return ApiProblem(500, "internal_error", "Internal server error. Nothing was changed; see the server's log.")
