"""Defines the state machine of a job: who moves it, and what a crash leaves behind.

The table below is its only description. The repository's one writer, the database trigger and the diagram in
`docs/lifecycle.md` are all built from it.
"""

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Lists the states of a job.

    queued      waits for a worker. The server, recovery, a draining worker or a user who resumes it set this state.
    running     one attempt holds a lease. A crash leaves it here until the lease expires; then it is queued.
    pausing     a pause was requested of a running attempt, which checkpoints first. Expires into paused.
    paused      waits for a user.
    cancelling  a cancel was requested of a running attempt, which ends its process. Expires into cancelled.
    succeeded, failed, cancelled  are final: they never change.

    A queued or a paused job has no running process, except for an attempt that yields: a job resumed while it was
    pausing is queued at once, and its attempt keeps the lease until its checkpoint is stored. No worker claims the job
    before that."""

    queued = "queued"
    running = "running"
    pausing = "pausing"
    paused = "paused"
    cancelling = "cancelling"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.queued: frozenset({JobState.running, JobState.paused, JobState.cancelled, JobState.failed}),
    JobState.running: frozenset(
        {JobState.queued, JobState.pausing, JobState.cancelling, JobState.succeeded, JobState.failed}
    ),
    JobState.pausing: frozenset(
        {JobState.paused, JobState.queued, JobState.cancelling, JobState.succeeded, JobState.failed}
    ),
    JobState.paused: frozenset({JobState.queued, JobState.cancelled}),
    JobState.cancelling: frozenset({JobState.cancelled}),
    JobState.succeeded: frozenset(),
    JobState.failed: frozenset(),
    JobState.cancelled: frozenset(),
}

FINAL: Final = frozenset(state for state, onward in TRANSITIONS.items() if not onward)
HELD: Final = frozenset({JobState.running, JobState.pausing, JobState.cancelling})
"""Lists the states in which one attempt holds a lease."""

LAPSE: Final = {
    JobState.running: JobState.queued,
    JobState.pausing: JobState.paused,
    JobState.cancelling: JobState.cancelled,
}
"""Maps a state to the one that follows when the attempt's lease expires."""


class JobPhase(StrEnum):
    """Lists what a running job is doing. A phase is not a state."""

    preparing = "preparing"
    training = "training"
    evaluating = "evaluating"
    publishing = "publishing"


class FailureReason(StrEnum):
    """Lists why a job failed. The codes are a stable part of the API."""

    dataset_invalid = "dataset_invalid"
    too_many_bad_rows = "too_many_bad_rows"
    no_labelled_tokens = "no_labelled_tokens"
    reasoning_not_rendered = "reasoning_not_rendered"
    model_unusable = "model_unusable"
    init_from_not_found = "init_from_not_found"
    out_of_memory = "out_of_memory"
    non_finite_loss = "non_finite_loss"
    disk_full = "disk_full"
    stalled = "stalled"
    deadline_exceeded = "deadline_exceeded"
    inexact_resume = "inexact_resume"
    checkpoint_unusable = "checkpoint_unusable"
    training_process_died = "training_process_died"
    protocol_broken = "protocol_broken"
    crash_loop = "crash_loop"
    internal_error = "internal_error"


NEVER_RETRIED: Final = frozenset({FailureReason.deadline_exceeded})
"""Lists reasons that another attempt cannot fix."""

MAX_LOST_ATTEMPTS: Final = 20
"""Limits the lost workers of a job."""

MAX_LOST_ATTEMPTS_WITHOUT_PROGRESS: Final = 3
"""Limits the lost workers in a row without one step of progress: beyond it the job itself is the likely cause."""
