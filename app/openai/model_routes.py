"""`/v1/models`: base models, and those that jobs have made."""

from typing import Literal

from fastapi import APIRouter
from pydantic import ConfigDict

from app.domain.caller import Caller
from app.errors import AmbiguousName, ModelNotFound, NotDeletable
from app.openai.envelope import refusals
from app.openai.models import ModelDirectory, NamedModel
from app.openai.wire import Wire, unix
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep

router = APIRouter(prefix="/models", tags=["models"])


class ModelObject(Wire):
    """A model that jobs can train on or have trained."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "ft:gemma-3-270m:support:6a798801",
                "object": "model",
                "created": 1767608441,
                "owned_by": "proj-0a1b2c3d4e5f60718293a4b5",
            }
        }
    )

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    """`system` for a base model; the project for one that its job has made."""

    @classmethod
    def of(cls, model: NamedModel, caller: Caller) -> "ModelObject":
        owner = "system" if model.is_base else caller.project_id
        return cls(id=model.name, created=unix(model.created_at), owned_by=owner)


class ModelList(Wire):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class ModelDeleted(Wire):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


@router.get("", summary="List models", responses=refusals())
def list_models(caller: CallerDep, session: SessionDep) -> ModelList:
    """All base models, by name, then all that the project's jobs have made (`ft:…`), newest first."""
    return ModelList(data=[ModelObject.of(model, caller) for model in ModelDirectory(session, caller.project_id).all()])


@router.get("/{model:path}", summary="Retrieve a model", responses=refusals(ModelNotFound, AmbiguousName))
def retrieve_model(model: str, caller: CallerDep, session: SessionDep) -> ModelObject:
    """A base model, a fine-tuned one (`ft:…`), or a checkpoint (`ft:…:ckpt-step-88`)."""
    return ModelObject.of(ModelDirectory(session, caller.project_id).get(model), caller)


@router.delete(
    "/{model:path}", summary="Delete a fine-tuned model", responses=refusals(ModelNotFound, NotDeletable, AmbiguousName)
)
def delete_model(model: str, caller: CallerDep, session: SessionDep) -> ModelDeleted:
    """Remove what a job has made: an adapter, or a whole model. The job stays. There is no way back."""
    ModelDirectory(session, caller.project_id).delete(model)
    return ModelDeleted(id=model)
