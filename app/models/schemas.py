"""Defines the request and response bodies for base models."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.db import tables
from app.domain.model import ModelState
from app.web.row_schema import from_row

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
    """Requests that a base model be fetched: from a folder that the light workers see, or from the hub."""

    model_config = ConfigDict(
        strict=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"example": CREATE_EXAMPLE}
    )

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Names the model in jobs."""
    path: Text | None = None
    """Names a folder with config.json, safetensors and a tokenizer, below one of `TUNEWRIGHT_MODEL_ROOTS`."""
    hub: Annotated[str, Field(min_length=3, max_length=200)] | None = None
    """Identifies the model on the hub: ORG/NAME."""
    revision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Names a branch, tag or commit of the hub's model, resolved to its commit at once; default `main`. With
    `hub_name`, names the commit that the folder was copied from."""
    hub_name: Annotated[str, Field(max_length=200)] | None = None
    """States the hub id of a folder's model: ORG/NAME. Adapters name their base model by it. It is not verified: the
    hub is not contacted."""
    projects: Annotated[list[str], Field(max_length=1000)] = []
    """Lists the names of the projects that may use it; all projects, if empty."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        if self.hub is not None and self.hub_name is not None:
            raise ValueError("hub_name says what a folder's model is; leave it out beside hub")
        if self.path is not None and self.revision is not None and self.hub_name is None:
            raise ValueError("a folder has no revision to choose; leave it out, or give hub_name")
        if self.path is not None and not PurePosixPath(self.path).is_absolute():
            raise ValueError("the path must be absolute")
        return self


class ModelFailureOut(BaseModel):
    """Explains why a model did not arrive."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str
    """Is a stable code."""
    message: str


class ModelSummary(BaseModel):
    """Describes a base model that jobs can name as `base_model`, as lists show it."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    name: str
    state: ModelState
    """Is `pending`, then `fetching`, then `ready` or `failed`. Jobs can train a model that is `ready`."""
    hub: str | None
    """Identifies it on the hub, if it came from there."""
    path: str | None
    """Names the folder that it came from, shown only to a key with the scope `admin`."""
    revision: str | None
    """Is a hub's commit, or the SHA-256 over the files of a folder: the same revision means the same weights."""
    hub_name: str | None
    """Is the hub id stated when it was added from a folder; not verified."""
    hub_revision: str | None
    """Is the commit on the hub stated then; not verified."""
    num_bytes_done: int
    """Counts the bytes fetched."""
    num_bytes: int | None
    """Counts the bytes of all its files; null before it is known."""
    failure: ModelFailureOut | None
    """Is set while it is `failed`. Posting the model again retries it, and the files that have arrived are kept."""
    license: str | None
    """Identifies the licence of the weights, as the model's card names it."""
    architecture: str | None
    """Is null before the model is `ready`, as are the next two fields; `linear_modules` is empty then."""
    num_parameters: int | None
    max_seq_len: int | None
    """Limits the number of tokens of a row."""
    linear_modules: list[str]
    """Lists the full names of the linear layers except the head: `target_modules` can name them, in full or by their
    endings."""
    projects: list[str] | None
    """Lists the projects that may use it; null means all. A key without the scope `admin` sees only its own project."""
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
    """Describes a base model that jobs can name as `base_model`."""

    license_text: str | None
    """Holds the text of the licence files beside the weights."""
