"""Defines fine-tuning jobs in OpenAI's format."""

from typing import Any, Final, Literal

from pydantic import ConfigDict

from app.db.tables import Job
from app.domain.jobs.model_names import fine_tuned_name
from app.domain.jobs.spec import LEARNING_RATES, JobSpec
from app.domain.jobs.state import FINAL, FailureReason, JobState
from app.jobs.schemas import JobOut
from app.openai.base_schema import unix
from app.openai.jobs.repository import SHOWN_FILES, ShownFineTune
from app.web.api_model import ApiModel

Status = Literal["validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
STATUSES: Final[dict[JobState, Status]] = {
    JobState.queued: "queued",
    JobState.running: "running",
    JobState.pausing: "pausing",
    JobState.paused: "paused",
    JobState.cancelling: "cancelled",
    JobState.succeeded: "succeeded",
    JobState.failed: "failed",
    JobState.cancelled: "cancelled",
}
BLAMED: Final = {
    FailureReason.dataset_invalid: "training_file",
    FailureReason.too_many_bad_rows: "training_file",
    FailureReason.no_labelled_tokens: "training_file",
    FailureReason.model_unusable: "model",
    FailureReason.init_from_not_found: "model",
}
"""Maps reasons of a failure to the field of the request that causes each."""
EXAMPLE: Final[dict[str, Any]] = {
    "id": "ftjob-9c1f7b0e2d3a4c5b6a798801",
    "object": "fine_tuning.job",
    "created_at": 1767608053,
    "finished_at": 1767608441,
    "estimated_finish": None,
    "model": "gemma-3-270m",
    "fine_tuned_model": "ft:gemma-3-270m:support:6a798801",
    "organization_id": "proj-5f0c1d2e3a4b5c6d7e8f9a0b",
    "status": "succeeded",
    "training_file": "file-5f0c1d2e3a4b5c6d7e8f9a0b",
    "validation_file": None,
    "result_files": ["art-1d2c3b4a5968778695a4b3c2", "art-2d2c3b4a5968778695a4b3c2"],
    "seed": 1861229053,
    "trained_tokens": 141_210,
    "hyperparameters": {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0},
    "method": {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}},
    },
    "integrations": None,
    "metadata": {"team": "support"},
    "error": None,
}


class Error(ApiModel):
    code: str
    """Why the job failed: `failure.reason` of the native API."""
    message: str
    param: str | None


class Hyperparameters(ApiModel):
    """The resolved hyperparameters. `n_epochs` is null for a length that OpenAI's format cannot express: in steps, or
    in fractions of an epoch."""

    n_epochs: int | None
    batch_size: int
    learning_rate_multiplier: float


class DpoHyperparameters(Hyperparameters):
    beta: float


class SupervisedPart(ApiModel):
    hyperparameters: Hyperparameters


class DpoPart(ApiModel):
    hyperparameters: DpoHyperparameters


class MethodOut(ApiModel):
    type: Literal["supervised", "dpo"]
    supervised: SupervisedPart | None = None
    dpo: DpoPart | None = None


class FineTuningJob(ApiModel):
    """A fine-tuning job; the same job as the native `/jobs/{id}`."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    """The model that is trained: a base model, or the model from which training continues."""
    fine_tuned_model: str | None
    organization_id: str
    """Id of the project."""
    status: Status
    training_file: str
    validation_file: str | None
    result_files: list[str]
    """The step metrics and the adapter archive; empty until the job has succeeded."""
    seed: int
    trained_tokens: int | None
    hyperparameters: Hyperparameters
    method: MethodOut
    integrations: list[dict[str, Any]] | None
    metadata: dict[str, str] | None
    error: Error | None
    tunewright: dict[str, Any]
    """Other fields of the native API: `spec`, `resolved`, `state`, `phase`, `step`, `total_steps` and `adapter_id`."""


class FineTuningJobList(ApiModel):
    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


def shown(found: ShownFineTune) -> FineTuningJob:
    job, out = found.job, JobOut.of(found.job, found.details)
    spec, state = out.spec, out.state
    tokens = out.last_metrics.get("num_tokens")
    start = spec.init_from or ""
    return FineTuningJob(
        id=job.id,
        created_at=unix(job.created_at),
        finished_at=unix(job.finished_at) if state in FINAL else None,
        estimated_finish=unix(out.estimated_finish_at),
        model=start if start.startswith("ft:") else job.base_model,
        fine_tuned_model=fine_tuned_name(job) if state is JobState.succeeded else None,
        organization_id=job.project_id,
        status=_status(state, is_inspecting=found.is_inspecting),
        training_file=spec.dataset_id,
        validation_file=spec.validation_dataset_id,
        result_files=[found.files[kind] for kind in SHOWN_FILES if kind in found.files],
        seed=spec.training.seed,
        trained_tokens=int(tokens) if tokens is not None and state in FINAL else None,
        hyperparameters=_hyperparameters(spec),
        method=_method(spec),
        integrations=_integrations(job.spec),
        metadata=job.metadata_ or None,
        error=_error(job),
        tunewright={
            "spec": out.spec.model_dump(mode="json"),
            "resolved": [each.model_dump(mode="json") for each in out.resolved],
            "state": state,
            "phase": out.phase,
            "step": out.step,
            "total_steps": out.total_steps,
            "adapter_id": out.adapter_id,
        },
    )


def _status(state: JobState, *, is_inspecting: bool) -> Status:
    if state is JobState.queued and is_inspecting:
        return "validating_files"
    return STATUSES[state]


def _hyperparameters(spec: JobSpec) -> Hyperparameters:
    training = spec.training
    base_rate = LEARNING_RATES[spec.objective][spec.method]
    multiplier = 1.0 if training.learning_rate == "auto" else training.learning_rate / base_rate
    whole = training.epochs is not None and training.epochs == int(training.epochs)
    return Hyperparameters(
        n_epochs=int(training.epochs or 0) if whole else None,
        batch_size=training.batch_size,
        learning_rate_multiplier=float(f"{multiplier:.12g}"),
    )


def _method(spec: JobSpec) -> MethodOut:
    chosen = _hyperparameters(spec)
    if spec.dpo is None:
        return MethodOut(type="supervised", supervised=SupervisedPart(hyperparameters=chosen))
    return MethodOut(
        type="dpo", dpo=DpoPart(hyperparameters=DpoHyperparameters(**chosen.model_dump(), beta=spec.dpo.beta))
    )


def _integrations(spec: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the wandb integrations, the only ones in OpenAI's format; the others are in `tunewright`."""
    return [each for each in spec["integrations"] if each["type"] == "wandb"] or None


def _error(job: Job) -> Error | None:
    if job.failure_reason is None:
        return None
    reason = FailureReason(job.failure_reason)
    return Error(code=reason, message=job.failure_message or "", param=BLAMED.get(reason))
