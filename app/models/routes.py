"""`/models`: the base models that jobs can train. An operator adds them with `tunewright models add`."""

from fastapi import APIRouter

from app.domain.caller import Caller
from app.errors import BadCursor, ModelInUse, ModelNotFound
from app.models.schemas import ModelOut
from app.models.service import ModelService
from app.web.auth import AdminDep, CallerDep
from app.web.dependencies import PageDep, SessionDep
from app.web.page import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="List base models", responses=problems(BadCursor))
def list_models(caller: CallerDep, session: SessionDep, page: PageDep) -> Page[ModelOut]:
    """Those that the project may use, newest first; with the scope `admin`, all of them."""
    models = ModelService(session)
    found = models.list(reach_of(caller), page.limit, page.after)
    allowed = models.allowed(found, reach_of(caller))
    return page_of(found, page.limit, lambda model: ModelOut.of(model, allowed.get(model.id)))


@router.get("/{name:path}", summary="Look at a base model", responses=problems(ModelNotFound))
def get_model(name: str, caller: CallerDep, session: SessionDep) -> ModelOut:
    """Its size, its length limit, and the layers that an adapter can be put on. A name may hold slashes."""
    models = ModelService(session)
    model = models.get(reach_of(caller), name)
    return ModelOut.of(model, models.allowed([model], reach_of(caller)).get(model.id))


@router.delete(
    "/{name:path}", status_code=204, summary="Remove a base model", responses=problems(ModelNotFound, ModelInUse)
)
def delete_base_model(name: str, caller: AdminDep, session: SessionDep) -> None:
    """Needs the scope `admin`. Refused while an unfinished job of any project trains it; adapters that were trained on
    it stay."""
    ModelService(session).remove(name)


def reach_of(caller: Caller) -> str | None:
    """The project whose models are shown; None for all."""
    return None if caller.is_admin else caller.project_id
