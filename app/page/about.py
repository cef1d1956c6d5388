"""Serves `/`: the name of the service and links to its parts."""

from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from app.web.version import VERSION

router = APIRouter(tags=["health"])

LINKS: Final = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "openai": "/v1",
    "openai_docs": "/v1/docs",
    "openai_openapi": "/v1/openapi.json",
    "healthz": "/healthz",
    "readyz": "/readyz",
}
WHERE_TO: Final = {
    "/docs": "API reference",
    "/openapi.json": "OpenAPI document",
    "/v1/docs": "reference of the OpenAI-compatible API (base URL /v1)",
    "/healthz": "liveness check",
    "/readyz": "readiness check",
}
AUTHENTICATION: Final = "Authorization: Bearer <key>"
KEYS: Final = "create an API key with `tunewright keys create` on the server's machine."


class About(BaseModel):
    """The service's name, version and links."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str = "Tunewright"
    description: str = "Fine-tunes language models over HTTP."
    version: str = VERSION
    links: dict[str, str] = LINKS
    """Paths on this server; `openai` is the base URL for OpenAI's client."""
    authentication: str = f"{AUTHENTICATION}; {KEYS}"
    """How to authenticate for every route except this one, the health checks, and signing in and out."""


ABOUT: Final = About().model_dump()
PAGE: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tunewright {VERSION}</title>
<h1>Tunewright {VERSION}</h1>
<p>{ABOUT["description"]}
<p>Send <code>{escape(AUTHENTICATION)}</code>. On the server, <code>tunewright keys create</code> creates a key.
<ul>
{"".join(f'<li><a href="{path}">{path}</a>: {escape(words)}' + chr(10) for path, words in WHERE_TO.items())}</ul>
</html>
"""
NOTHING_LOADED: Final = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
HTML: Final[dict[str, Any]] = {"text/html": {"schema": {"type": "string"}}}


@router.get(
    "/",
    summary="Get the server's name and version",
    response_model=About,
    responses={200: {"description": "JSON, or an HTML page for a browser.", "content": HTML}},
)
async def about(request: Request) -> Response:
    """Get name, version and links. No key is required; neither the database nor Redis is used."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(PAGE, headers=NOTHING_LOADED | {"Vary": "Accept"})
    return JSONResponse(ABOUT, headers={"Vary": "Accept"})
