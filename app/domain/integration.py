"""Trackers that a job's curves are passed on to. No secret is ever part of a spec: keys are the worker's own."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
IntegrationType = Literal["wandb", "mlflow", "tensorboard"]


class Needs(NamedTuple):
    """What a worker must have for a type: any of the packages, and any of the variables, if there are some."""

    packages: tuple[str, ...]
    variables: tuple[tuple[str, str | None], ...]
    """Name, and the value that it must have; None is any."""

    def are_met(self, installed: Collection[str], environment: Mapping[str, str]) -> bool:
        """An empty variable is unset."""
        has_package = any(name in installed for name in self.packages)
        is_set = any(
            bool(environment.get(name)) if value is None else environment.get(name) == value
            for name, value in self.variables
        )
        return has_package and (is_set or not self.variables)

    @property
    def remedy(self) -> str:
        """What makes a worker serve the type."""
        words = [name if value is None else f"{name}={value}" for name, value in self.variables]
        set_too = f", and set {' or '.join(words)} in its environment" if words else ""
        return f"Where a worker runs, pip install 'tunewright[integrations]'{set_too}; then start the worker anew."


NEEDS: Final[Mapping[IntegrationType, Needs]] = {
    "wandb": Needs(("wandb",), (("WANDB_API_KEY", None), ("WANDB_MODE", "offline"))),
    "mlflow": Needs(("mlflow-skinny", "mlflow"), (("MLFLOW_TRACKING_URI", None),)),
    "tensorboard": Needs(("tensorboardX",), ()),
}


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


def _tag(raw: Any) -> str:
    """No name, so that it is no part of an error's pointer."""
    return f"is-{raw.get('type') if isinstance(raw, dict) else getattr(raw, 'type', None)}"


Integration = Annotated[
    Annotated[Wandb, Tag("is-wandb")]
    | Annotated[Mlflow, Tag("is-mlflow")]
    | Annotated[Tensorboard, Tag("is-tensorboard")],
    Discriminator(
        _tag,
        custom_error_type="unknown_integration",
        custom_error_message='Give a type that there is: "wandb", "mlflow" or "tensorboard".',
    ),
]


def served(installed: Collection[str], environment: Mapping[str, str]) -> list[IntegrationType]:
    """The types that a worker with these packages and variables can pass curves on to."""
    return [type for type, needs in NEEDS.items() if needs.are_met(installed, environment)]
