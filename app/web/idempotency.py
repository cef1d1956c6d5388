"""`Idempotency-Key`: a POST that is sent again makes nothing again, and is answered as it was before."""

import hashlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.db.kept_answers import find_answer, keep_answer, lock_key
from app.errors import IdempotencyKeyReused, RequestInProgress
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep


class Created(NamedTuple):
    location: str
    shown: BaseModel
    status: int = 201


class Once(NamedTuple):
    session: Session
    project_id: str
    key: str | None
    route: str
    """Method and path."""

    def answer(self, make: Callable[[], Created], body: bytes = b"") -> Response:
        """What `make` made, in the request's own transaction; or the answer that the key has had already."""
        if self.key is None:
            location, shown, status = make()
            return _created(location, shown.model_dump_json(), status)
        if not lock_key(self.session, self.project_id, self.key):
            raise RequestInProgress
        sha256 = hashlib.sha256(f"{self.route}\n".encode() + body).hexdigest()
        kept = find_answer(self.session, self.project_id, self.key)
        if kept is None:
            location, shown, status = make()
            text = shown.model_dump_json()
            own = self.session, self.project_id, self.key
            keep_answer(*own, sha256, status=status, body=text, location=location)
            return _created(location, text, status)
        if kept.request_sha256 != sha256:
            raise IdempotencyKeyReused
        return _created(kept.location, kept.body, kept.status)


def _created(location: str, body: str, status: int) -> Response:
    return Response(body, status, {"Location": location}, "application/json")


async def get_once(
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Any text of your own, new for each thing to make. The same request with the same key is "
            "answered alike for 24 hours, and makes nothing again.",
        ),
    ] = None,
) -> Once:
    return Once(session, caller.project_id, idempotency_key, f"{request.method} {request.url.path}")


OnceDep = Annotated[Once, Depends(get_once)]
