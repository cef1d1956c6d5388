"""Defines the request and response bodies for base models."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.db import tables
from app.domain.model import ModelState
from app.web.api_model import from_row

CREATE_EXAMPLE: dict[str, Any] = {
    "name": "gemma-3-270m",
    "hub": "ORG/NAME",
    "revision": "main",
    "projects": ["research"],
}
EXAMPLE: dict[str, Any] = {
    "name": "gemma-3-270m",
    "state": "ready",
    "hub": "ORG/NAME",
    "path": None,
    "revision": "0123456789abcdef0123456789abcdef01234567",
    "hub_name": None,
    "hub_revision": None,
    "num_bytes_done": 575_000_000,
    "num_bytes": 575_000_000,
    "failure": None,
    "license": "gemma",
    "architecture": "Gemma3ForCausalLM",
    "num_parameters": 268_098_176,
    "max_seq_len": 32_768,
    "linear_modules": ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"],
    "projects": None,
    "created_at": "2026-01-05T10:12:13.141593Z",
    "finished_at": "2026-01-05T10:13:40.020117Z",
}
KNOWN_WHEN_READY = ("architecture", "num_parameters", "max_seq_len")
Text = Annotated[str, Field(min_length=1, max_length=4000)]


class ModelCreate(BaseModel):
    """A base model to fetch, from a folder that the light workers can read or from the hub."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": CREATE_EXAMPLE}
    )

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """The model's name in jobs."""
    path: Text | None = None
    """Folder with config.json, safetensors and a tokenizer, below one of `TUNEWRIGHT_MODEL_ROOTS`."""
    hub: Annotated[str, Field(min_length=3, max_length=200)] | None = None
    """The model's id on the hub: ORG/NAME."""
    revision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Branch, tag or commit on the hub, pinned to its commit; default `main`. With `hub_name`, the commit that the
    folder was copied from."""
    hub_name: Annotated[str, Field(max_length=200)] | None = None
    """Hub id of a folder's model: ORG/NAME. Adapters name their base model by it. Not verified: the hub is not
    contacted."""
    projects: Annotated[list[str], Field(max_length=1000)] = []
    """Names of the projects that may use the model; empty for all projects."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("pass exactly one of path and hub")
        if self.hub is not None and self.hub_name is not None:
            raise ValueError("hub_name is for a model from a folder; omit it with hub")
        if self.path is not None and self.revision is not None and self.hub_name is None:
            raise ValueError("a folder has no revisions; omit revision, or pass hub_name")
        if self.path is not None and not PurePosixPath(self.path).is_absolute():
            raise ValueError("the path must be absolute")
        return self


class ModelFailureOut(BaseModel):
    """Why a model could not be fetched."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str
    """A stable code."""
    message: str


class ModelSummary(BaseModel):
    """A base model that jobs can name as `base_model`, as lists return it."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    name: str
    state: ModelState
    """`pending`, then `fetching`, then `ready` or `failed`. Jobs can train a model that is `ready`."""
    hub: str | None
    """The model's id on the hub, if it was fetched from there."""
    path: str | None
    """The folder that it was added from, shown only to keys with the scope `admin`."""
    revision: str | None
    """The commit on the hub, or the SHA-256 over a folder's files. Equal revisions have equal weights."""
    hub_name: str | None
    """The hub id that was given for a folder's model; not verified."""
    hub_revision: str | None
    """The commit on the hub that was given for a folder's model; not verified."""
    num_bytes_done: int
    """Number of bytes fetched so far."""
    num_bytes: int | None
    """Total size of its files; null until known."""
    failure: ModelFailureOut | None
    """Set while the model is `failed`. Posting it again retries it and keeps the files that were already fetched."""
    license: str | None
    """Licence of the weights, as the model card names it."""
    architecture: str | None
    """Null until the model is `ready`, like the next two fields; `linear_modules` is empty until then."""
    num_parameters: int | None
    max_seq_len: int | None
    """Maximum number of tokens of a row."""
    linear_modules: list[str]
    """Full names of the linear layers, except the head. `target_modules` can name them in full or by their endings."""
    projects: list[str] | None
    """Projects that may use the model; null for all. A key without the scope `admin` sees only its own project."""
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, model: tables.RegisteredModel, projects: Sequence[str] | None, *, for_admin: bool = False) -> Self:
        failure = {"code": model.failure_code, "message": model.failure_message} if model.failure_code else None
        unknown = {} if model.state == ModelState.ready else dict.fromkeys(KNOWN_WHEN_READY)
        return from_row(
            cls,
            model,
            path=model.source if model.hub is None and for_admin else None,
            failure=failure,
            projects=None if model.for_all_projects else list(projects or ()),
            **unknown,
        )


class ModelOut(ModelSummary):
    """A base model that jobs can name as `base_model`."""

    license_text: str | None
    """Text of the licence files that accompany the weights."""
