"""Finds the caller of a request that carries a session cookie instead of an API key."""

from collections.abc import Callable
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from app.domain.caller import Caller
from app.web.browsers.origin import require_own_page
from app.web.key_cache import KeyCache
from app.web.request_id import BY_COOKIE, CALLER, OPENAI_FACE

PREFIX: Final = "tunewright_session_"


class SessionCookies:
    """Belongs to one event loop; the database is queried in threads."""

    def __init__(self, tokens: KeyCache, find_server_id: Callable[[], str]) -> None:
        """`tokens` recognizes session tokens, and only those: a token is no API key, and an API key is no token."""
        self.tokens, self._find_server_id = tokens, find_server_id
        self._name: str | None = None

    async def get_name(self) -> str:
        """Return the cookie's name. Cookies know no port: two servers on one host need two names."""
        if self._name is None:
            self._name = PREFIX + await run_in_threadpool(self._find_server_id)
        return self._name

    async def find_token(self, request: Request) -> str | None:
        if not any(name.startswith(PREFIX) for name in request.cookies):
            return None
        return request.cookies.get(await self.get_name()) or None


class SessionCookie(NamedTuple):
    name: str
    token: str | None
    """Is null if the request has no such cookie."""


async def get_session_cookie(request: Request) -> SessionCookie:
    cookies: SessionCookies = request.app.state.session_cookies
    return SessionCookie(await cookies.get_name(), await cookies.find_token(request))


SessionCookieDep = Annotated[SessionCookie, Depends(get_session_cookie)]


async def find_session_token(request: Request) -> str | None:
    cookies: SessionCookies = request.app.state.session_cookies
    return await cookies.find_token(request)


async def find_signed_in_caller(request: Request) -> Caller | None:
    """Find the caller by the session cookie. Raise OriginMismatch if no page of this server sent the request. `/v1` is
    for programs, so it accepts no cookie."""
    if request.scope.get("root_path", "").endswith(OPENAI_FACE):
        return None
    cookies: SessionCookies = request.app.state.session_cookies
    token = await cookies.find_token(request)
    caller = await cookies.tokens.find_caller(token) if token else None
    if caller is not None:
        request.scope[CALLER], request.scope[BY_COOKIE] = caller, True
        require_own_page(request)
    return caller
