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
    "/docs": "the reference of the API",
    "/openapi.json": "the same for programs",
    "/v1/docs": "the API for OpenAI's client, whose base URL is /v1",
    "/healthz": "does the process live?",
    "/readyz": "can it accept work?",
}
AUTHENTICATION: Final = "Authorization: Bearer <key>"
KEYS: Final = "`tunewright keys create` makes an API key on the server's machine."


class About(BaseModel):
    """Describes the service."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str = "Tunewright"
    description: str = "Fine-tunes language models over HTTP."
    version: str = VERSION
    links: dict[str, str] = LINKS
    """Lists paths on this server; `openai` is the base URL for OpenAI's client."""
    authentication: str = f"{AUTHENTICATION}; {KEYS}"
    """Says how to authenticate for every route except this one and the health checks."""


ABOUT: Final = About().model_dump()
PAGE: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tunewright {VERSION}</title>
<h1>Tunewright {VERSION}</h1>
<p>{ABOUT["description"]}
<p>Send <code>{escape(AUTHENTICATION)}</code>. <code>tunewright keys create</code> makes a key on the server's machine.
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
    responses={200: {"description": "JSON, or a page for a browser.", "content": HTML}},
)
async def about(request: Request) -> Response:
    """Get name, version and links. Needs no key, and uses neither the database nor Redis."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(PAGE, headers=NOTHING_LOADED | {"Vary": "Accept"})
    return JSONResponse(ABOUT, headers={"Vary": "Accept"})
