"""Answers JSON that a client may already have: a strong ETag, and 304 for `If-None-Match` (RFC 9110)."""

import hashlib
import re
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

JSON: Final = "application/json"
ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
IF_NONE_MATCH: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "The `ETag` of an earlier response; the response is 304 if nothing has changed since.",
        }
    ]
}
"""Documents the request's header in OpenAPI."""
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Nothing has changed since the response that `If-None-Match` names."}
}


def tag_of(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether `If-None-Match` names the tag (weak comparison), or any tag by `*`."""
    given = request.headers.get("if-none-match")
    return given is not None and (given.strip() == "*" or tag in ENTITY_TAG.findall(given))


def conditional(request: Request, body: bytes, tag: str | None = None) -> Response:
    """Return `body`, or 304 if the client already has it."""
    tag = tag or tag_of(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)
