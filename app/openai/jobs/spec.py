"""Converts the job request of OpenAI's client to a JobSpec, and errors of the JobSpec to fields of the request."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.domain.integration import WandbRun
from app.domain.jobs.model_names import FORM
from app.domain.spec_part import SpecPart
from app.errors import FieldError
from app.jobs.service import merged

MIB: Final = 2**20
AUTO_EPOCHS: Final = ((16 * MIB, 3), (64 * MIB, 2))
"""Sets the epochs by the size of the training file, as (maximum bytes, epochs); one beyond the last."""
AUTO_BATCH_SIZES: Final = ((4 * MIB, 8), (16 * MIB, 16), (64 * MIB, 32))
"""Sets the rows per step by the size of the training file, as (maximum bytes, rows); 64 beyond the last."""
AUTO_BETA: Final = 0.1
OFFERED: Final = 'This server supports "supervised" and "dpo".'
EXAMPLE: Final[dict[str, Any]] = {
    "model": "gemma-3-270m",
    "training_file": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
}

Auto = Literal["auto"]


class SupervisedHyperparameters(SpecPart):
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Factor of the base rate: 2e-4 for adapters, 1e-5 for full fine-tuning; `auto` is 1."""


class DpoHyperparametersIn(SupervisedHyperparameters):
    model_config = ConfigDict(title="DpoHyperparameters")

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class Supervised(SpecPart):
    hyperparameters: SupervisedHyperparameters | None = None


class Dpo(SpecPart):
    hyperparameters: DpoHyperparametersIn | None = None


class Method(SpecPart):
    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_offered(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(asked := raw.get("type"), str) and asked not in ("supervised", "dpo"):
            raise PydanticCustomError(
                "unsupported_method", 'The method "{asked}" is not supported. ' + OFFERED, {"asked": asked[:80]}
            )
        return raw

    @model_validator(mode="after")
    def _of_one_type(self) -> Self:
        other = self.dpo if self.type == "supervised" else self.supervised
        if other is not None:
            raise PydanticCustomError(
                "other_method", "The settings belong to a method other than the type; remove them."
            )
        return self


class WandbIntegration(SpecPart):
    """Sends curves to Weights & Biases. Configure other trackers in `tunewright`."""

    type: Literal["wandb"]
    wandb: WandbRun

    @field_validator("type", mode="before")
    @classmethod
    def _only_wandb(cls, asked: Any) -> Any:
        if asked != "wandb":
            raise PydanticCustomError(
                "unsupported_integration",
                'Only "wandb" is accepted here; put "mlflow" and "tensorboard" into tunewright.integrations.',
            )
        return asked


class CreateJob(SpecPart):
    """A fine-tuning job to create: the fields of OpenAI's API, and `tunewright` for any field of a JobSpec."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    model: str = Field(min_length=1, max_length=400)
    """A base model of the registry, or a fine-tuned model (`ft:…`) or checkpoint (`ft:…:ckpt-step-88`) from which
    training continues."""
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """The seed; if omitted, a random one is chosen and returned."""
    metadata: dict[str, str] | None = None
    integrations: list[WandbIntegration] | None = Field(default=None, max_length=5)
    hyperparameters: SupervisedHyperparameters | None = None
    """Deprecated: use `method`."""
    method: Method | None = None
    tunewright: dict[str, Any] = Field(default={})
    """Fields of a JobSpec that OpenAI's API does not have."""

    @property
    def type(self) -> Literal["supervised", "dpo"]:
        return self.method.type if self.method else "supervised"

    def chosen(self) -> DpoHyperparametersIn:
        """Return the method's hyperparameters, which take precedence over the deprecated ones."""
        old = self.hyperparameters.model_dump(exclude_unset=True) if self.hyperparameters else {}
        part = (self.method.dpo if self.type == "dpo" else self.method.supervised) if self.method else None
        new = part.hyperparameters.model_dump(exclude_unset=True) if part and part.hyperparameters else {}
        return DpoHyperparametersIn.model_validate(old | new)

    def place_of(self, field: str) -> str:
        """Return the location of a hyperparameter in the body, or where it belongs."""
        in_method = self.method is not None and getattr(self.method, self.type) is not None
        return f"/method/{self.type}/hyperparameters/{field}" if in_method else f"/hyperparameters/{field}"


def auto_epochs(num_bytes: int) -> int:
    return next((epochs for limit, epochs in AUTO_EPOCHS if num_bytes <= limit), 1)


def auto_batch_size(num_bytes: int) -> int:
    return next((size for limit, size in AUTO_BATCH_SIZES if num_bytes <= limit), 64)


def spec_of(body: CreateJob, num_bytes: int, seed: int, base_rate: float) -> tuple[dict[str, Any], list[FieldError]]:
    """Return a JobSpec's JSON: the request's values, overridden by `tunewright`, then defaults for what neither sets.
    Report an error for each field to which the two give different values. `num_bytes` is the training file's size."""
    given, chosen = _given_fields(body, base_rate), body.chosen()
    errors = [
        FieldError(
            f"/tunewright{place}", "duplicate_field", f"The body sets {one!r:.80}, but tunewright sets {two!r:.80}."
        )
        for place, one, two in _find_differences(given, body.tunewright)
    ]
    spec = merged(given, body.tunewright)
    training = spec.setdefault("training", {})
    if isinstance(training, dict):
        if "max_steps" not in training:
            training.setdefault("epochs", auto_epochs(num_bytes))
        training.setdefault("batch_size", auto_batch_size(num_bytes))
        training.setdefault("seed", seed)
    if body.type == "dpo" and isinstance(spec.setdefault("dpo", {}), dict):
        spec["dpo"].setdefault("beta", AUTO_BETA if chosen.beta == "auto" else chosen.beta)
    return spec, errors


def _given_fields(body: CreateJob, base_rate: float) -> dict[str, Any]:
    chosen, training = body.chosen(), dict[str, Any]()
    if chosen.n_epochs != "auto":
        training["epochs"] = chosen.n_epochs
    if chosen.batch_size != "auto":
        training["batch_size"] = chosen.batch_size
    if chosen.learning_rate_multiplier != "auto":
        training["learning_rate"] = chosen.learning_rate_multiplier * base_rate
    if body.seed is not None:
        training["seed"] = body.seed
    start = FORM.fullmatch(body.model)
    spec = {
        "base_model": start[1].split(":")[1] if start else body.model,
        "init_from": body.model if start else None,
        "dataset_id": body.training_file,
        "validation_dataset_id": body.validation_file,
        "suffix": body.suffix,
        "metadata": body.metadata,
        "integrations": [each.model_dump(exclude_unset=True) for each in body.integrations or ()] or None,
        "objective": "dpo" if body.type == "dpo" else None,
    }
    return {name: value for name, value in spec.items() if value is not None} | (
        {"training": training} if training else {}
    )


def _find_differences(given: Mapping[str, Any], over: Mapping[str, Any], place: str = "") -> list[tuple[str, Any, Any]]:
    found = []
    for name in given.keys() & over.keys():
        one, two = given[name], over[name]
        if name == "metadata" and place == "":
            one, two = {k: v for k, v in one.items() if isinstance(two, dict) and k in two}, two
        if isinstance(one, dict) and isinstance(two, dict):
            found += _find_differences(one, two, f"{place}/{name}")
        elif one != two:
            found.append((f"{place}/{name}", one, two))
    return found


def locate_in_body(errors: list[FieldError], body: CreateJob) -> list[FieldError]:
    """Return errors of the spec, located at the fields of the body that cause them."""
    places = {
        "/base_model": "/model",
        "/init_from": "/model" if FORM.fullmatch(body.model) else "/tunewright/init_from",
        "/dataset_id": "/training_file",
        "/validation_dataset_id": "/validation_file",
        "/training/epochs": body.place_of("n_epochs"),
        "/training/batch_size": body.place_of("batch_size"),
        "/training/learning_rate": body.place_of("learning_rate_multiplier"),
        "/training/seed": "/seed",
        "/dpo/beta": body.place_of("beta"),
        "/suffix": "/suffix",
    }
    same = ("/metadata", *(["/integrations"] if body.integrations else []))
    return [
        error
        if error.pointer.startswith((*same, "/tunewright"))
        else error._replace(pointer=_place(error.pointer, places, body))
        for error in errors
    ]


def remove_duplicates(errors: list[FieldError]) -> list[FieldError]:
    """Remove duplicates: a field that accepts a word or a number reports both errors; the number's error says more."""
    others = {error.pointer for error in errors if error.code != "literal_error"}
    return [error for error in errors if error.code != "literal_error" or error.pointer not in others]


def _place(pointer: str, places: Mapping[str, str], body: CreateJob) -> str:
    node: Any = body.tunewright
    for part in pointer.split("/")[1:]:
        node = node.get(part) if isinstance(node, dict) else None
    if node is not None or pointer not in places:
        return f"/tunewright{pointer}"
    return places[pointer]
