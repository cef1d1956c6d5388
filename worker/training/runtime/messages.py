"""Defines the messages between the training process and its parent: one JSON object a line, over stdin and stdout.

The parent writes one `TrainingRequest` and then any number of `Stop`s; to a standby process it writes `Preload` first.
The child writes lines of `ChildMessage` and ends with exactly one of `Finished`, `Failed` and `Stopped`. When its stdin
closes, its parent has ended, and it exits within ten seconds. Its other output goes to stderr, the job's log. This
module does not import torch, so that the parent can import it.
"""

from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from app.domain.datasets.formats import RecordFormat
from app.domain.events.job_events import JobEvent, RowsSkipped
from app.domain.jobs.resuming import InexactResume
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason, JobPhase
from app.domain.jobs.train_on import TrainOn, resolve_train_on


class TrainingMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preload(TrainingMessage):
    """Asks the process to get ready for a later job. The process answers with `Ready`."""

    kind: Literal["preload"] = "preload"
    base_model_path: Path | None
    """Is the folder of the model that the job will probably use."""


class TrainingRequest(TrainingMessage):
    """Asks for a training by `spec` on the local files named here. In `spec`, nothing that the method needs is null."""

    kind: Literal["train"] = "train"
    spec: JobSpec
    spec_as_sent: JobSpec | None = None
    """Is the spec with its `auto` values, for the manifest. Null if it is the same as `spec`."""
    resolved: dict[str, Any] | None
    """Holds what an earlier attempt decided for `auto` settings. With null, this attempt decides."""
    attempt: int
    base_model: str
    """Is the name in the model registry."""
    base_model_hub: str | None = None
    """Is the model's id on the hub, if it came from there."""
    base_model_revision: str | None
    """Is the commit on the hub, or a digest of the folder's files."""
    base_model_hub_name: str | None = None
    """Is the hub id that the operator gave for a model from a folder. It is not verified."""
    base_model_hub_revision: str | None = None
    """Is the commit of that hub id. It is not verified either."""
    base_model_license: str | None = None
    """Is the id of the weights' licence, for the model card. Null if the model does not state one."""
    base_model_path: Path
    """Is the folder of config, safetensors and tokenizer."""
    dataset_path: Path
    """Is a file in JSON Lines, as `validation_path` is."""
    dataset_sha256: str
    dataset_format: RecordFormat | None = None
    """Is the format that the inspection found. With null, each row is recognized separately."""
    validation_path: Path | None
    validation_sha256: str | None
    validation_format: RecordFormat | None = None
    checkpoint_path: Path | None
    """Is the folder of the checkpoint to resume from."""
    init_from_path: Path | None = None
    """Is the folder of the adapter that `spec.init_from` names. It is not read when there is a checkpoint."""
    work_dir: Path
    """Is the attempt's folder, which exists. Results and checkpoints are written below it."""
    log_path: Path | None = None
    """Is the file that stderr goes to from here on. Null leaves stderr as it is."""
    cache_dir: Path
    device: Literal["auto", "cuda", "cpu"] = "auto"
    threads: int | None = None
    machine_facts: dict[str, Any] | None = None
    """Holds the machine facts that the worker has published, from `numerics.machine_facts`. With null, the process
    finds them."""

    @property
    def train_on(self) -> TrainOn:
        """Return the spec's `train_on`, with `auto` resolved by the training dataset. It applies to the validation rows
        too."""
        return resolve_train_on(self.spec.training.train_on, self.dataset_format)

    @property
    def base_address(self) -> tuple[str, str | None] | None:
        """Return the hub id and commit by which others find the base model, or None for a folder without a hub id."""
        if self.base_model_hub is not None:
            return self.base_model_hub, self.base_model_revision
        return (self.base_model_hub_name, self.base_model_hub_revision) if self.base_model_hub_name else None

    @property
    def tokens_dir(self) -> Path:
        """Return the folder of the tokenizing process's output."""
        return self.work_dir / "tokens"


class Stop(TrainingMessage):
    """Asks the process to stop after the current step. `drain` writes a checkpoint first, `cancel` does not."""

    kind: Literal["stop"] = "stop"
    why: Literal["drain", "cancel"]


class Ready(TrainingMessage):
    """Reports that the imports are done."""

    kind: Literal["ready"] = "ready"
    base_model_path: Path | None
    """Is the model whose tokenizer is loaded, or null."""


class PhaseEntered(TrainingMessage):
    kind: Literal["phase"] = "phase"
    phase: JobPhase


class WorkStarted(TrainingMessage):
    """Reports the start of a part of the work: a micro-batch, a layer, some rows. If no message follows for too long,
    that part hangs."""

    kind: Literal["work_started"] = "work_started"
    what: str
    """Is a noun phrase that fits after "in", such as "the parity check"."""


class Planned(TrainingMessage):
    """Reports the plan, once, before the first step."""

    kind: Literal["planned"] = "planned"
    resolved: dict[str, Any]
    """Holds the decisions on `auto` settings. Later attempts receive them as `TrainingRequest.resolved`."""
    total_steps: int
    start_step: int
    inexact_resumes: list[InexactResume] = []
    """Lists the inexact resumes up to `start_step`. Empty if the state is that of an uninterrupted training."""


class Replanned(TrainingMessage):
    """Replaces the plan: memory did not suffice, or timed steps decided how often checkpoints are saved."""

    kind: Literal["replanned"] = "replanned"
    resolved: dict[str, Any]


class Started(TrainingMessage):
    """Reports that this attempt's first training forward comes next. The seconds are those of the checks before it."""

    kind: Literal["started"] = "started"
    parity_seconds: float
    dry_run_seconds: float


class EventMessage(TrainingMessage):
    kind: Literal["event"] = "event"
    event: JobEvent


class MetricsMessage(TrainingMessage):
    """Reports one optimizer step's values (`loss`, `learning_rate`, `grad_norm`, `tokens_per_second`, `epoch`,
    `num_tokens`, `peak_memory_bytes`) or an evaluation's (`validation_loss`, `validation_token_accuracy`). The
    objective `dpo` adds `reward_accuracy`, `reward_margin`, `chosen_reward` and `rejected_reward`; its evaluations have
    `validation_reward_accuracy` and `validation_reward_margin` instead of the token accuracy."""

    kind: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]
    """Leaves out values that are not finite, which JSON cannot hold."""

    @field_validator("values")
    @classmethod
    def _finite(cls, values: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in values.items() if isfinite(value)}


class CheckpointWritten(TrainingMessage):
    """Reports a whole checkpoint in `path`. The child never changes or deletes it."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    path: Path
    machine: str
    """Is the fingerprint of the machine on which the checkpoint resumes exactly; see `app.domain.hardware`."""


class Finished(TrainingMessage):
    """Reports the result's files in `path`. `reports` is a folder of reports on its rows; each file is named after the
    ArtifactKind that it becomes."""

    kind: Literal["finished"] = "finished"
    path: Path
    reports: Path | None = None


class Failed(TrainingMessage):
    kind: Literal["failed"] = "failed"
    reason: FailureReason
    message: str


class Stopped(TrainingMessage):
    """Reports that the training stopped as requested, after `step`."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Tokenized(TrainingMessage):
    """Reports to the training process that the tokenized rows are in files. The counts are of the training dataset."""

    kind: Literal["tokenized"] = "tokenized"
    training_path: Path
    validation_path: Path | None
    """Is null when the validation rows are drawn from the training rows."""
    skipped_path: Path | None = None
    """Is the list of the rows that were left out, or null if none was."""
    skipped: list[RowsSkipped] = []
    num_dropped: int
    num_truncated: int
    num_unstable: int
    num_endless: int
    num_literal_special_tokens: int
    num_reasoning: int
    num_unrendered_reasoning: int
    num_unrendered_names: int
    chat_template: str | None
    """Says where the template came from. Null when no row needed one."""
    turn_ends: list[int]
    """Lists the special tokens that end an answer."""
    eos: int


ParentMessage = Annotated[Preload | TrainingRequest, Field(discriminator="kind")]
parse_parent_message: TypeAdapter[ParentMessage] = TypeAdapter(ParentMessage)

ChildMessage = Annotated[
    Ready
    | PhaseEntered
    | WorkStarted
    | Planned
    | Replanned
    | Started
    | EventMessage
    | MetricsMessage
    | CheckpointWritten
    | Finished
    | Failed
    | Stopped,
    Field(discriminator="kind"),
]
parse_child_message: TypeAdapter[ChildMessage] = TypeAdapter(ChildMessage)
