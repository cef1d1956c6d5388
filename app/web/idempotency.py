"""Implements `Idempotency-Key`: a repeated POST creates nothing new and gets the first answer.

An answer that contains a secret is stored encrypted with the API key or the session token of the request, of which the
server has only the digest: neither the database nor another key or session decrypts it.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Header, Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.errors import IdempotencyKeyReused, RequestInProgress
from app.web.auth import CallerDep
from app.web.browsers.session_cookies import find_session_token
from app.web.dependencies import SessionDep
from app.web.idempotency_repository import find_answer, keep_answer, lock_key

NONCE_BYTES: Final = 16


class Created(NamedTuple):
    location: str
    shown: BaseModel
    status: int = 201


class IdempotentCreate(NamedTuple):
    session: Session
    project_id: str
    key: str | None
    route: str
    """Holds method and path."""
    credential: str
    """Holds the API key or the session token."""

    def answer(self, make: Callable[[], Created], body: bytes = b"", *, sealed: bool = False) -> Response:
        """Answer with what `make` creates, in the request's own transaction, or with the answer stored for the key.
        `sealed` means that the answer contains a secret, which only the same API key or session gets again."""
        if self.key is None:
            location, shown, status = make()
            return _created(location, shown.model_dump_json(), status)
        if not lock_key(self.session, self.project_id, self.key):
            raise RequestInProgress
        asker = self.credential if sealed else ""
        sha256 = hashlib.sha256(f"{self.route}\n{asker}".encode() + body).hexdigest()
        kept = find_answer(self.session, self.project_id, self.key)
        if kept is None:
            location, shown, status = make()
            text = shown.model_dump_json()
            own = self.session, self.project_id, self.key
            kept_text = seal(text, self.credential) if sealed else text
            keep_answer(*own, sha256, status=status, body=kept_text, location=location)
            return _created(location, text, status)
        if kept.request_sha256 != sha256:
            raise IdempotencyKeyReused
        text = unseal(kept.body, self.credential) if sealed else kept.body
        return _created(kept.location, text, kept.status)


def seal(text: str, key: str) -> str:
    """Return base64 of a nonce and the text, encrypted with a pad from the key and the nonce. `key` holds 256 random
    bits."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + _pad(text.encode(), key, nonce)).decode()


def unseal(text: str, key: str) -> str:
    sealed = base64.b64decode(text)
    return _pad(sealed[NONCE_BYTES:], key, sealed[:NONCE_BYTES]).decode()


def _pad(data: bytes, key: str, nonce: bytes) -> bytes:
    pad = hashlib.shake_256(nonce + key.encode()).digest(len(data))
    return bytes(one ^ other for one, other in zip(data, pad, strict=True))


def _created(location: str, body: str, status: int) -> Response:
    return Response(body, status, {"Location": location}, "application/json")


async def get_idempotent_create(
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A unique value for each resource to create, such as a UUID. For 24 hours, the same request "
            "with the same key returns the first response and creates nothing.",
        ),
    ] = None,
) -> IdempotentCreate:
    authorization = request.headers.get("Authorization")
    if authorization is None:
        credential = await find_session_token(request)
    else:
        _, credential = get_authorization_scheme_param(authorization)
    assert credential  # an answer is encrypted with it
    route = f"{request.method} {request.url.path}"
    return IdempotentCreate(session, caller.project_id, idempotency_key, route, credential)


IdempotentCreateDep = Annotated[IdempotentCreate, Depends(get_idempotent_create)]
