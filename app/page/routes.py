"""Serves the web page: its files below `/ui/<build>/`, and its document at `/` and every other path below `/ui/`."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from app.errors import NotFound
from app.page.about import ABOUT, About
from app.page.site import Site, StaticFile
from app.web.answers.codings import choose_coding
from app.web.answers.policy import PAGE_POLICY, isolate
from app.web.conditional import is_known
from app.web.errors import PageOutdated
from app.web.problems import ApiProblem, problem_json
from app.web.request_id import ERROR_CODE

OF_FILE: Final[Mapping[str, str]] = MappingProxyType({"Cross-Origin-Resource-Policy": "same-origin"})
"""Is for the page's scripts, styles and pictures: the document's policy holds for them. Opened alone, they can do
nothing, like every answer without a policy of its own."""
FOR_GOOD: Final = "public, max-age=31536000, immutable"
HTML: Final[dict[str, Any]] = {"text/html": {"schema": {"type": "string"}}}
BUILD: Final = re.compile(r"([0-9a-f]{16})/(.*)", re.DOTALL)


def create_router(site: Site) -> APIRouter:
    """Create the routes. They need no key: the page asks for one, and everything it shows comes from the API."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/",
        summary="Get the server's name and version",
        response_model=About,
        responses={200: {"description": "JSON, or the web page for a browser.", "content": HTML}},
    )
    @router.head("/", include_in_schema=False)
    async def about(request: Request) -> Response:
        """Get name, version and links. No key is required; neither the database nor Redis is used."""
        if "text/html" in request.headers.get("accept", ""):
            return answer_index(request, site)
        return JSONResponse(ABOUT, headers={"Vary": "Accept"})

    @router.api_route("/ui", methods=["GET", "HEAD"], include_in_schema=False)
    @router.api_route("/ui/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request, path: str = "") -> Response:
        match = BUILD.fullmatch(path)
        if match is None:
            return answer_index(request, site)
        build, name = match.groups()
        if build != site.build:
            return refuse(request, PageOutdated())
        file = site.find(name)
        if file is None:
            return refuse(request, NotFound())
        return answer_file(request, file, {"Vary": "Accept-Encoding", "Cache-Control": FOR_GOOD, **OF_FILE})

    return router


def answer_index(request: Request, site: Site) -> Response:
    headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-cache", **restrict_page(request)}
    return answer_file(request, site.index, headers)


def restrict_page(request: Request) -> dict[str, str]:
    return {"Content-Security-Policy": PAGE_POLICY, **isolate(request.url)}


def answer_file(request: Request, file: StaticFile, headers: dict[str, str]) -> Response:
    """Return the file as the browser accepts it, or 304 if it has it."""
    coding = choose_coding(request.scope["headers"])
    tag = f'"{file.digest}-{coding}"' if coding else f'"{file.digest}"'
    headers["ETag"] = tag
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    if coding:
        headers["Content-Encoding"] = coding
    headers["Content-Type"] = file.media_type
    return Response(file.encode(coding), headers=headers)


def refuse(request: Request, error: NotFound) -> Response:
    """Answer with an error that no cache keeps: after an update, the same address may exist."""
    request.scope[ERROR_CODE] = error.code
    headers = {"Cache-Control": "no-store", **restrict_page(request)}
    return problem_json(request, ApiProblem(error.status, error.code, str(error), headers=headers))
