"""Serves `/v1/models`: base models, and models that jobs have made."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from app.domain.caller import Caller
from app.errors import AmbiguousName, ModelNotFound, NotDeletable
from app.openai.base_schema import unix
from app.openai.envelope import refusals
from app.openai.models.service import ModelDirectory, NamedModel
from app.web.api_model import ApiModel
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep

MOST_OWN: Final = 1000

router = APIRouter(prefix="/models", tags=["models"])


class ModelObject(ApiModel):
    """A base model, or a model that a job has trained."""

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
    """`system` for a base model; the project's id for a fine-tuned model."""

    @classmethod
    def of(cls, model: NamedModel, caller: Caller) -> "ModelObject":
        owner = "system" if model.is_base else caller.project_id
        return cls(id=model.name, created=unix(model.created_at), owned_by=owner)


class ModelList(ApiModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]
    has_more: bool = False
    """Whether the project has older fine-tuned models. OpenAI's API has no such field."""


class ModelDeleted(ApiModel):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


@router.get("", summary="List models", responses=refusals(ModelNotFound, AmbiguousName))
def list_models(
    caller: CallerDep,
    session: SessionDep,
    limit: Annotated[
        int, Query(ge=1, le=MOST_OWN, description="Maximum number of `ft:…` models in the response.")
    ] = MOST_OWN,
    after: Annotated[
        str | None, Query(max_length=300, description="Only `ft:…` models that are older than this one.")
    ] = None,
) -> ModelList:
    """List all base models by name, then the project's fine-tuned models (`ft:…`), newest first. OpenAI's clients
    request no second page; `limit` and `after` are extensions."""
    found = ModelDirectory(session, caller.project_id).list(limit, after)
    num_bases = sum(model.is_base for model in found)
    listed = [ModelObject.of(model, caller) for model in found[: num_bases + limit]]
    return ModelList(data=listed, has_more=len(found) > len(listed))


@router.get("/{model:path}", summary="Retrieve a model", responses=refusals(ModelNotFound, AmbiguousName))
def retrieve_model(model: str, caller: CallerDep, session: SessionDep) -> ModelObject:
    """Get a base model, a fine-tuned model (`ft:…`), or a checkpoint (`ft:…:ckpt-step-88`)."""
    return ModelObject.of(ModelDirectory(session, caller.project_id).get(model), caller)


@router.delete(
    "/{model:path}", summary="Delete a fine-tuned model", responses=refusals(ModelNotFound, NotDeletable, AmbiguousName)
)
def delete_model(model: str, caller: CallerDep, session: SessionDep) -> ModelDeleted:
    """Delete a job's result: an adapter, or a full model. The job is kept. This cannot be undone."""
    ModelDirectory(session, caller.project_id).delete(model)
    return ModelDeleted(id=model)
