"""Checks the API key of every request: `Authorization: Bearer <key>`, or a session cookie that stands for a key.
Reading needs the scope `read`, everything else `write`; changing what serves all projects needs `admin`."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from app.domain.caller import Caller
from app.errors import Forbidden, Unauthorized
from app.web.browsers.session_cookies import find_signed_in_caller
from app.web.key_cache import KeyCache
from app.web.request_id import CALLER


class KeyBearer(HTTPBearer):
    """Resolves the key of a request to its caller; without the header, its session cookie. It is one dependency, not
    two, because each costs time in every request."""

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        caller = await find_caller(request)
        if caller is None:
            raise Unauthorized
        request.scope[CALLER] = caller
        needed = "read" if request.method in ("GET", "HEAD") else "write"
        if needed not in caller.scopes:
            raise Forbidden(f"This API key lacks the scope {needed!r}; use one that has it.")
        return caller


async def find_caller(request: Request) -> Caller | None:
    """Find the caller whose key or session cookie the request has. Return None if it has none that is valid now."""
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return await find_signed_in_caller(request)
    keys: KeyCache = request.app.state.keys
    scheme, key = get_authorization_scheme_param(authorization)
    return await keys.find_caller(key) if key and scheme.lower() == "bearer" else None


authenticate = KeyBearer(
    scheme_name="HTTPBearer", auto_error=False, description="An API key; create one with `tunewright keys create`."
)
CallerDep = Annotated[Caller, Depends(authenticate)]


async def require_admin(caller: CallerDep) -> Caller:
    if not caller.is_admin:
        message = "This API key lacks the scope 'admin'; create one with `tunewright keys create --scope admin`."
        raise Forbidden(message)
    return caller


AdminDep = Annotated[Caller, Depends(require_admin)]


async def is_still_allowed(request: Request, caller: Caller) -> bool:
    """Say whether the request's key or session is still valid, for an answer that takes longer than one moment."""
    try:
        return await find_caller(request) == caller
    except Unauthorized:  # its project is being deleted
        return False
