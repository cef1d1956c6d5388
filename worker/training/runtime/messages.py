"""What the training process is told and what it says: one JSON object a line, over its stdin and its stdout.

The parent writes one `TrainingRequest`, then at most some `Stop`s; to a standby process it writes `Preload` first. The
child answers with lines of `ChildMessage` and ends with exactly one of `Finished`, `Failed` and `Stopped`. When its
stdin closes, its parent is gone and it exits within ten seconds. What it prints otherwise goes to stderr, the job's
log. This module knows no torch, so that the parent can import it.
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
    """Get ready for a job that is still to come; `Ready` answers."""

    kind: Literal["preload"] = "preload"
    base_model_path: Path | None
    """Folder of the model that the job will likely be on."""


class TrainingRequest(TrainingMessage):
    """Train `spec` (decided: nothing in it is null that its method needs) on the files named here, which are local."""

    kind: Literal["train"] = "train"
    spec: JobSpec
    spec_as_sent: JobSpec | None = None
    """With what is `auto`, for the manifest; null where it is the same."""
    resolved: dict[str, Any] | None
    """What an earlier attempt decided for `auto` settings; null lets this one decide."""
    attempt: int
    base_model: str
    """The registry's name."""
    base_model_hub: str | None = None
    """Its id on the hub, if it came from there."""
    base_model_revision: str | None
    """Commit on the hub, or digest of the folder's files."""
    base_model_hub_name: str | None = None
    """What a folder's model is said to be on the hub; nobody has checked it."""
    base_model_hub_revision: str | None = None
    """Commit there, said likewise."""
    base_model_license: str | None = None
    """Id of the licence that the weights come under, for the model card; null where the model does not tell it."""
    base_model_path: Path
    """Folder of config, safetensors and tokenizer."""
    dataset_path: Path
    """JSON Lines, as those of `validation_path`."""
    dataset_sha256: str
    dataset_format: RecordFormat | None = None
    """What its inspection found; null lets each row show its own."""
    validation_path: Path | None
    validation_sha256: str | None
    validation_format: RecordFormat | None = None
    checkpoint_path: Path | None
    """Folder of the checkpoint to go on from."""
    init_from_path: Path | None = None
    """Folder of the adapter that `spec.init_from` names; not read when there is a checkpoint."""
    work_dir: Path
    """The attempt's own folder, which exists: results and checkpoints are written below it."""
    log_path: Path | None = None
    """Where stderr goes from here on; null leaves it where it is."""
    cache_dir: Path
    device: Literal["auto", "cuda", "cpu"] = "auto"
    threads: int | None = None
    machine_facts: dict[str, Any] | None = None
    """What the worker has published of its machine, by `numerics.machine_facts`; null lets the process look itself."""

    @property
    def train_on(self) -> TrainOn:
        """As the spec has it, `auto` decided by the training dataset; it holds for the validation rows too."""
        return resolve_train_on(self.spec.training.train_on, self.dataset_format)

    @property
    def base_address(self) -> tuple[str, str | None] | None:
        """Id on the hub and commit by which others find the base model; None for a folder of which nobody said it."""
        if self.base_model_hub is not None:
            return self.base_model_hub, self.base_model_revision
        return (self.base_model_hub_name, self.base_model_hub_revision) if self.base_model_hub_name else None

    @property
    def tokens_dir(self) -> Path:
        """What the tokenizing process hands over."""
        return self.work_dir / "tokens"


class Stop(TrainingMessage):
    """Stop after the current step: `drain` writes a checkpoint first, `cancel` does not."""

    kind: Literal["stop"] = "stop"
    why: Literal["drain", "cancel"]


class Ready(TrainingMessage):
    """The imports are done."""

    kind: Literal["ready"] = "ready"
    base_model_path: Path | None
    """The model whose tokenizer is loaded; null for none."""


class PhaseEntered(TrainingMessage):
    kind: Literal["phase"] = "phase"
    phase: JobPhase


class WorkStarted(TrainingMessage):
    """A part of the work begins: a micro-batch, a layer, some rows. When nothing more is said for too long, it is what
    the process hangs in."""

    kind: Literal["work_started"] = "work_started"
    what: str
    """As it reads behind "It hangs in "."""


class Planned(TrainingMessage):
    """Said once, before the first step."""

    kind: Literal["planned"] = "planned"
    resolved: dict[str, Any]
    """Decisions on `auto` settings, to be handed to later attempts as `TrainingRequest.resolved`."""
    total_steps: int
    start_step: int
    inexact_resumes: list[InexactResume] = []
    """Those that `start_step` was come to by; empty while it is as an uninterrupted training would have it."""


class Replanned(TrainingMessage):
    """From here on this is the plan: memory did not suffice, or steps were timed to say how often they are saved."""

    kind: Literal["replanned"] = "replanned"
    resolved: dict[str, Any]


class Started(TrainingMessage):
    """The first training forward of this attempt comes next; seconds are those spent on looking before leaping."""

    kind: Literal["started"] = "started"
    parity_seconds: float
    dry_run_seconds: float


class EventMessage(TrainingMessage):
    kind: Literal["event"] = "event"
    event: JobEvent


class MetricsMessage(TrainingMessage):
    """One optimizer step's values (`loss`, `learning_rate`, `grad_norm`, `tokens_per_second`, `epoch`, `num_tokens`,
    `peak_memory_bytes`) or an evaluation's (`validation_loss`, `validation_token_accuracy`). The objective `dpo` adds
    `reward_accuracy`, `reward_margin`, `chosen_reward` and `rejected_reward`; `validation_reward_accuracy` and
    `validation_reward_margin` stand in the token accuracy's place."""

    kind: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]
    """What is not a finite number is left out: JSON has no word for it."""

    @field_validator("values")
    @classmethod
    def _finite(cls, values: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in values.items() if isfinite(value)}


class CheckpointWritten(TrainingMessage):
    """A whole checkpoint lies in `path`, which the child never changes again; it deletes none."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    path: Path
    machine: str
    """Fingerprint of the machine that it resumes exactly on; see `app.domain.hardware`."""


class Finished(TrainingMessage):
    """The result's files lie in `path`; `reports` is a folder of what is told about its rows, each file named after the
    ArtifactKind that it becomes."""

    kind: Literal["finished"] = "finished"
    path: Path
    reports: Path | None = None


class Failed(TrainingMessage):
    kind: Literal["failed"] = "failed"
    reason: FailureReason
    message: str


class Stopped(TrainingMessage):
    """It stopped as asked, after `step`."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Tokenized(TrainingMessage):
    """The tokenizing process's word to the training process: the rows lie in files. Counts are of the training
    dataset."""

    kind: Literal["tokenized"] = "tokenized"
    training_path: Path
    validation_path: Path | None
    """Null when the validation rows are to be drawn from the others."""
    skipped_path: Path | None = None
    """Lists the rows that were left out; null if none was."""
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
    """Where it came from; null when no row needed one."""
    turn_ends: list[int]
    """Special tokens that end an answer."""
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
