"""`/models`: the base models that jobs can train. An operator adds them with `tunewright models add`."""

from fastapi import APIRouter

from app.errors import BadCursor, ModelNotFound
from app.models.schemas import ModelOut
from app.models.service import ModelService
from app.web.auth import CallerDep
from app.web.dependencies import PageDep, SessionDep
from app.web.page import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="List base models", responses=problems(BadCursor))
def list_models(caller: CallerDep, session: SessionDep, page: PageDep) -> Page[ModelOut]:
    """The project's catalogue, newest first."""
    return page_of(ModelService(session).list(caller.project_id, page.limit, page.after), page.limit, ModelOut.of)


@router.get("/{name:path}", summary="Look at a base model", responses=problems(ModelNotFound))
def get_model(name: str, caller: CallerDep, session: SessionDep) -> ModelOut:
    """Its size, its length limit, and the layers that an adapter can be put on. A name may hold slashes."""
    return ModelOut.of(ModelService(session).get(caller.project_id, name))
