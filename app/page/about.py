"""Describes the server to programs: its name, and links to its parts."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from app.web.version import VERSION

LINKS: Final = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "openai": "/v1",
    "openai_docs": "/v1/docs",
    "openai_openapi": "/v1/openapi.json",
    "healthz": "/healthz",
    "readyz": "/readyz",
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
