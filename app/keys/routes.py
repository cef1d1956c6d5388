"""Serves `/keys`: keys with the scope `admin` create and revoke the keys of all projects."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.errors import (
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidJson,
    RequestInProgress,
    TooLarge,
    UnsupportedMediaType,
)
from app.keys.errors import KeyNotActive, KeyNotFound, KeyReplaced, OwnKey
from app.keys.schemas import KeyIn, KeyOut, KeyRotation, KeyWithSecret
from app.keys.service import KeyService, id_of
from app.projects.errors import ProjectBeingDeleted, ProjectNotFound
from app.projects.service import ProjectService
from app.web.auth import AdminDep
from app.web.bodies.json_body import BodyDep, OptionalBodyDep, parsed, read_json, read_optional_json
from app.web.dependencies import PageDep, SessionDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/keys", tags=["keys"])

JsonDep = Annotated[object, Depends(read_json)]
OptionalJsonDep = Annotated[object, Depends(read_optional_json)]
BODY_REFUSALS = (InvalidJson, TooLarge, UnsupportedMediaType)
AGAIN = (RequestInProgress, IdempotencyKeyReused)


def _json(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": schema}}


@router.post(
    "",
    status_code=201,
    summary="Create an API key",
    response_model=KeyWithSecret,
    openapi_extra=_json(KeyIn),
    responses=problems(*BODY_REFUSALS, ProjectNotFound, ProjectBeingDeleted, *AGAIN),
)
def post_key(caller: AdminDep, session: SessionDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep) -> Response:
    """Create a key. Requires the scope `admin`, like every route under `/keys`. The response contains the key itself
    (`secret`), which is shown only once: the server stores only its SHA-256."""
    wanted = parsed(KeyIn, raw)

    def make() -> Created:
        project = ProjectService(session).get(wanted.project or caller.project_id, lock=True)
        life = timedelta(seconds=wanted.expires_after_seconds) if wanted.expires_after_seconds else None
        return _created(session, KeyService(session).create(project.id, wanted.name, wanted.scopes, life=life))

    return once.answer(make, body, sealed=True)


@router.get("", summary="List API keys", responses=problems(InvalidCursor))
def list_keys(
    caller: AdminDep,
    session: SessionDep,
    page: PageDep,
    project: Annotated[
        str | None, Query(max_length=64, description="Only keys of this project, by name or id.")
    ] = None,
) -> Page[KeyOut]:
    """List the keys of all projects, newest first, including expired and revoked ones."""
    return page_of(KeyService(session).list(page.limit, page.after, project), page.limit, KeyOut.of)


@router.get("/{id}", summary="Get an API key", responses=problems(KeyNotFound))
def get_key(id: str, caller: AdminDep, session: SessionDep) -> KeyOut:
    """Get a key's project and scopes, the time of its last use, and its expiry."""
    return KeyOut.of(KeyService(session).get(id))


@router.post("/{id}/revoke", summary="Revoke an API key", responses=problems(KeyNotFound, OwnKey))
def withdraw_key(id: str, caller: AdminDep, session: SessionDep) -> KeyOut:
    """Revoke a key. Every server rejects it within a second. Repeating the request changes nothing. A key cannot revoke
    itself (`own_key`), so the last key with the scope `admin` cannot be lost."""
    return KeyOut.of(KeyService(session).revoke(id, caller.key_id))


@router.post(
    "/{id}/rotate",
    status_code=201,
    summary="Rotate an API key",
    response_model=KeyWithSecret,
    openapi_extra=_json(KeyRotation, required=False),
    responses=problems(*BODY_REFUSALS, KeyNotFound, KeyNotActive, KeyReplaced, OwnKey, *AGAIN),
)
def replace_key(
    id: str,
    caller: AdminDep,
    session: SessionDep,
    once: IdempotentCreateDep,
    body: OptionalBodyDep,
    raw: OptionalJsonDep,
) -> Response:
    """Replace a key with a new one that has the same project, name, scopes and lifetime. `secret` is shown only once.
    The old key keeps working for `overlap_seconds` (default: one day), or until it is revoked."""
    overlap = timedelta(seconds=parsed(KeyRotation, raw).overlap_seconds)

    def make() -> Created:
        return _created(session, KeyService(session).rotate(id, overlap, caller.key_id))

    return once.answer(make, body, sealed=True)


def _created(session: Session, secret: str) -> Created:
    shown = KeyService(session).get(id_of(secret))
    return Created(f"/keys/{shown.id}", KeyWithSecret.with_secret(shown, secret))
