"""Defines the trackers that receive a job's metrics. A spec never contains secrets: the keys are the worker's."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Discriminator, Field, StringConstraints, Tag

from app.domain.spec_part import SpecPart

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
IntegrationType = Literal["wandb", "mlflow", "tensorboard"]


class Needs(NamedTuple):
    """Lists a worker's requirements for a type: any of the packages, and any of the variables, if there are some."""

    packages: tuple[str, ...]
    variables: tuple[tuple[str, str | None], ...]
    """Holds names, and the value that each must have; None accepts any."""

    def are_met(self, installed: Collection[str], environment: Mapping[str, str]) -> bool:
        """Say whether a worker meets the requirements. An empty variable counts as unset."""
        has_package = any(name in installed for name in self.packages)
        is_set = any(
            bool(environment.get(name)) if value is None else environment.get(name) == value
            for name, value in self.variables
        )
        return has_package and (is_set or not self.variables)

    @property
    def remedy(self) -> str:
        """Explain how to make a worker serve the type."""
        settings = [name if value is None else f"{name}={value}" for name, value in self.variables]
        set_variables = f", set {' or '.join(settings)} in its environment," if settings else ""
        return f"On a worker, run pip install 'tunewright[integrations]'{set_variables} and restart it."


NEEDS: Final[Mapping[IntegrationType, Needs]] = {
    "wandb": Needs(("wandb",), (("WANDB_API_KEY", None), ("WANDB_MODE", "offline"))),
    "mlflow": Needs(("mlflow-skinny", "mlflow"), (("MLFLOW_TRACKING_URI", None),)),
    "tensorboard": Needs(("tensorboardX",), ()),
}


class WandbRun(SpecPart):
    project: Label
    name: Label | None = None
    """Name of the run; defaults to the job's name or id."""
    entity: Label | None = None
    """Team or user; defaults to that of the API key."""
    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=50
    )


class MlflowRun(SpecPart):
    experiment: Label
    name: Label | None = None
    """Name of the run; defaults to the job's name or id."""


class Wandb(SpecPart):
    """Sends the metrics to Weights & Biases while the job trains, with the worker's `WANDB_API_KEY`."""

    type: Literal["wandb"]
    wandb: WandbRun


class Mlflow(SpecPart):
    """Sends the metrics to the worker's `MLFLOW_TRACKING_URI` while the job trains."""

    type: Literal["mlflow"]
    mlflow: MlflowRun


class Tensorboard(SpecPart):
    """Saves the metrics as an artifact for TensorBoard, `tensorboard.tfevents`."""

    type: Literal["tensorboard"]


def _tag(raw: Any) -> str:
    """Return a tag that is not a field name, so that error pointers omit it."""
    return f"is-{raw.get('type') if isinstance(raw, dict) else getattr(raw, 'type', None)}"


Integration = Annotated[
    Annotated[Wandb, Tag("is-wandb")]
    | Annotated[Mlflow, Tag("is-mlflow")]
    | Annotated[Tensorboard, Tag("is-tensorboard")],
    Discriminator(
        _tag,
        custom_error_type="unknown_integration",
        custom_error_message='Unknown type; use "wandb", "mlflow" or "tensorboard".',
    ),
]


def served(installed: Collection[str], environment: Mapping[str, str]) -> list[IntegrationType]:
    """Return the types that a worker with these packages and variables can serve."""
    return [type for type, needs in NEEDS.items() if needs.are_met(installed, environment)]
