"""Serves `/models`: the base models that jobs can train. Keys with the scope `admin` add and remove them for all
projects."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from app.domain.caller import Caller
from app.domain.model import ModelState
from app.errors import (
    BadRequest,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidJson,
    InvalidModelFolder,
    ModelAlreadyExists,
    ModelInUse,
    ModelNotFound,
    RequestInProgress,
    TooLarge,
    UnsupportedMediaType,
)
from app.models.errors import InvalidHubName
from app.models.schemas import ModelCreate, ModelOut, ModelSummary
from app.models.service import ModelService, wanted_model
from app.outbox import enqueue_wakeup
from app.web.auth import AdminDep, CallerDep
from app.web.bodies.json_body import BodyDep, parsed, read_json
from app.web.dependencies import PageDep, SessionDep, SettingsDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/models", tags=["models"])

JsonDep = Annotated[object, Depends(read_json)]
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ModelCreate.model_json_schema()}},
    }
}
BODY_REFUSALS = (BadRequest, InvalidHubName, InvalidModelFolder, InvalidJson, TooLarge, UnsupportedMediaType)


@router.post(
    "",
    status_code=202,
    summary="Add a base model",
    response_model=ModelOut,
    openapi_extra=BODY,
    responses=problems(*BODY_REFUSALS, ModelAlreadyExists, RequestInProgress, IdempotencyKeyReused),
)
def post_model(
    caller: AdminDep, session: SessionDep, settings: SettingsDep, once: IdempotentCreateDep, body: BodyDep, raw: JsonDep
) -> Response:
    """Fetch a model from a folder or from the hub into the storage that all workers share. Requires the scope `admin`.
    A light worker fetches it: poll the response's `Location` until the model is `ready` or `failed`.

    Posting a failed model again retries it and keeps the files that were already fetched. Posting the same model again
    changes only its `projects` and its `hub_name`. DELETE cancels a fetch in progress.
    """
    given = parsed(ModelCreate, raw)
    wanted = wanted_model(given.name, given.path, given.hub, given.revision, given.projects, hub_name=given.hub_name)
    wanted.check_roots(settings.allowed_model_roots)

    def make() -> Created:
        models = ModelService(session)
        model = models.add(wanted)
        if model.state == ModelState.pending:
            enqueue_wakeup(session, caller.project_id, "light")
        shown = ModelOut.of(model, models.allowed([model]).get(model.id), for_admin=True)
        return Created(f"/models/{model.name}", shown, 202)

    return once.answer(make, body)


@router.get("", summary="List base models", responses=problems(InvalidCursor))
def list_models(caller: CallerDep, session: SessionDep, page: PageDep) -> Page[ModelSummary]:
    """List the models that the project may use, newest first, without licence texts. A key with the scope `admin` lists
    all models."""
    models = ModelService(session)
    found = models.list(reach_of(caller), page.limit, page.after)
    allowed = models.allowed(found, reach_of(caller))
    admin = caller.is_admin
    return page_of(found, page.limit, lambda model: ModelSummary.of(model, allowed.get(model.id), for_admin=admin))


@router.get("/{name:path}", summary="Get a base model", responses=problems(ModelNotFound))
def get_model(name: str, caller: CallerDep, session: SessionDep) -> ModelOut:
    """Get a model's state, licence, size, length limit and the layers that an adapter can target. A name may contain
    slashes."""
    models = ModelService(session)
    model = models.get(reach_of(caller), name)
    allowed = models.allowed([model], reach_of(caller))
    return ModelOut.of(model, allowed.get(model.id), for_admin=caller.is_admin)


@router.delete(
    "/{name:path}", status_code=204, summary="Remove a base model", responses=problems(ModelNotFound, ModelInUse)
)
def delete_base_model(name: str, caller: AdminDep, session: SessionDep) -> None:
    """Remove a model. Requires the scope `admin`. Fails while an unfinished job of any project trains it. Adapters that
    were trained on it are kept. Its files are removed from storage within a minute, except files that another model
    uses."""
    ModelService(session).remove(name)


def reach_of(caller: Caller) -> str | None:
    """Return the id of the project whose models are shown; None for all."""
    return None if caller.is_admin else caller.project_id
