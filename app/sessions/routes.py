"""Serves `/session`: a browser exchanges an API key for a cookie that scripts cannot read."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from app.domain.caller import Caller
from app.errors import InvalidJson, TooLarge, Unauthorized, UnsupportedMediaType
from app.sessions.schemas import SessionIn, SessionOut
from app.sessions.service import SessionService
from app.web.auth import CallerDep
from app.web.bodies.json_body import parsed, read_json
from app.web.browsers.origin import require_origin
from app.web.browsers.session_cookies import SessionCookie, SessionCookieDep
from app.web.dependencies import SessionDep
from app.web.key_cache import KeyCache
from app.web.parameters import REFUSE_UNKNOWN, REFUSE_UNKNOWN_WITHOUT_KEY
from app.web.problems import problems
from app.web.request_id import CALLER

router = APIRouter(prefix="/session", tags=["sessions"])

BODY_REFUSALS: Final = (InvalidJson, TooLarge, UnsupportedMediaType)
ORIGIN: Final = {
    "name": "Origin",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The server's own origin, such as `http://127.0.0.1:8400`. Browsers send it; a request without is "
    "refused.",
}
SIGN_IN: Final[dict[str, Any]] = {
    "parameters": [ORIGIN],
    "requestBody": {"required": True, "content": {"application/json": {"schema": SessionIn.model_json_schema()}}},
}
SIGNED_IN: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "description": "The session.",
        "headers": {"Set-Cookie": {"description": "The session cookie.", "schema": {"type": "string"}}},
    }
}


async def require_page_of_server(request: Request) -> None:
    require_origin(request)


async def get_caller_of_key(request: Request, raw: Annotated[object, Depends(read_json)]) -> Caller:
    """Check the key of the body as the key of a header is checked."""
    keys: KeyCache = request.app.state.keys
    caller = await keys.find_caller(parsed(SessionIn, raw).key)
    if caller is None:
        raise Unauthorized
    request.scope[CALLER] = caller
    return caller


@router.post(
    "",
    status_code=201,
    summary="Sign in with an API key",
    response_model=SessionOut,
    openapi_extra=SIGN_IN,
    responses=problems(*BODY_REFUSALS) | SIGNED_IN,
    dependencies=[Depends(require_page_of_server), *REFUSE_UNKNOWN_WITHOUT_KEY],
)
def post_session(
    request: Request,
    session: SessionDep,
    cookie: SessionCookieDep,
    caller: Annotated[Caller, Depends(get_caller_of_key)],
) -> Response:
    """Create a session of an API key for a browser. The response sets a cookie with which the browser's requests to
    this server have the key's rights, except below `/v1`. A session lasts twelve hours at most and ends with its key. A
    key has at most 50 sessions; one more replaces the oldest."""
    made = SessionService(session).create(caller.key_id)
    headers = {"Location": "/session", "Cache-Control": "no-store"}
    response = Response(SessionOut.of(made.shown).model_dump_json(), 201, headers, "application/json")
    set_cookie(request, response, cookie, made.token, int(made.life.total_seconds()))
    return response


@router.get("", summary="Get the session", responses=problems(), dependencies=REFUSE_UNKNOWN)
def show_session(request: Request, caller: CallerDep, session: SessionDep, cookie: SessionCookieDep) -> SessionOut:
    """Get the project, the key and the scopes of the request's session or API key."""
    token = None if "authorization" in request.headers else cookie.token
    return SessionOut.of(SessionService(session).describe(caller.key_id, token))


@router.delete(
    "",
    status_code=204,
    summary="Sign out",
    responses={status: each for status, each in problems().items() if status != 401},
    dependencies=REFUSE_UNKNOWN_WITHOUT_KEY,
)
def delete_session(request: Request, session: SessionDep, cookie: SessionCookieDep) -> Response:
    """Delete the session of the request's cookie, and the cookie. Without one, this changes nothing. The API key stays
    valid, and so do its other sessions."""
    response = Response(status_code=204)
    if cookie.token is not None:
        require_origin(request)
        SessionService(session).delete(cookie.token)
        set_cookie(request, response, cookie, "", 0)
    return response


def set_cookie(request: Request, response: Response, cookie: SessionCookie, token: str, seconds: int) -> None:
    """Set the cookie for the whole server, or remove it with `seconds` 0. Scripts cannot read it, and browsers do not
    send it with the requests of other sites."""
    is_encrypted = request.scope["scheme"] == "https"
    response.set_cookie(
        cookie.name, token, max_age=seconds, path="/", secure=is_encrypted, httponly=True, samesite="strict"
    )
