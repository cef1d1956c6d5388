"""Base models on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.db import tables

EXAMPLE: dict[str, Any] = {
    "name": "gemma-3-270m",
    "revision": "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730",
    "architecture": "Gemma3ForCausalLM",
    "num_parameters": 268_098_176,
    "max_seq_len": 32_768,
    "linear_modules": ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"],
    "projects": None,
    "created_at": "2026-01-05T10:12:13.141593Z",
}


class ModelOut(BaseModel):
    """A base model that jobs can name as `base_model`."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"example": EXAMPLE})

    name: str
    revision: str | None
    """A hub's commit, or the SHA-256 over the files of a folder: the same revision means the same weights."""
    architecture: str
    num_parameters: int
    max_seq_len: int
    """Most tokens a row may have."""
    linear_modules: list[str]
    """Full names of the linear layers but the head: what `target_modules` can name, whole or by their endings."""
    projects: list[str] | None
    """Projects that may use it; null stands for all. A key without the scope `admin` is shown its own project alone."""
    created_at: datetime

    @classmethod
    def of(cls, model: tables.BaseModel, projects: Sequence[str] | None) -> "ModelOut":
        return cls(
            name=model.name,
            projects=None if model.for_all_projects else list(projects or ()),
            revision=model.revision,
            architecture=model.architecture,
            num_parameters=model.num_parameters,
            max_seq_len=model.max_seq_len,
            linear_modules=model.linear_modules,
            created_at=model.created_at,
        )
