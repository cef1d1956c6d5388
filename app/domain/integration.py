"""Trackers that a job's curves are passed on to. No secret is ever part of a spec: keys are the worker's own."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "wandb": ("wandb",),
    "mlflow": ("mlflow-skinny", "mlflow"),
    "tensorboard": ("tensorboardX",),
}
"""What a worker must have installed for a type: any of these."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WandbRun(Part):
    project: Label
    name: Label | None = None
    """Of the run; the job's name or id unless given."""
    entity: Label | None = None
    """The team or user; the key's own unless given."""
    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=50
    )


class MlflowRun(Part):
    experiment: Label
    name: Label | None = None
    """Of the run; the job's name or id unless given."""


class Wandb(Part):
    """Curves go to Weights & Biases while the job trains, by the worker's `WANDB_API_KEY`."""

    type: Literal["wandb"]
    wandb: WandbRun


class Mlflow(Part):
    """Curves go to the worker's `MLFLOW_TRACKING_URI` while the job trains."""

    type: Literal["mlflow"]
    mlflow: MlflowRun


class Tensorboard(Part):
    """The curves become an artifact that TensorBoard reads, `tensorboard.tfevents`."""

    type: Literal["tensorboard"]


Integration = Annotated[Wandb | Mlflow | Tensorboard, Field(discriminator="type")]


def supported(versions: Mapping[str, str]) -> frozenset[str]:
    """The types that a worker with these packages can serve."""
    return frozenset(type for type, packages in PACKAGES.items() if any(name in versions for name in packages))
