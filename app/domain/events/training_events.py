"""Defines the events that a training process reports. They are members of the union in `job_events`."""

from typing import ClassVar, Literal

from app.domain.events.base import EventBody, Level


class ModelLoaded(EventBody):
    type: Literal["model_loaded"] = "model_loaded"
    num_parameters: int
    num_trainable_parameters: int
    seconds: float

    @property
    def message(self) -> str:
        share = self.num_trainable_parameters / self.num_parameters
        return f"Loaded the model: {self.num_trainable_parameters:,} trainable parameters ({share:.2%})."


class OutOfMemoryFallbackEvent(EventBody):
    """Reports that a micro-batch did not fit in memory. The training continues under a smaller plan, with the same rows
    per step."""

    type: Literal["out_of_memory_fallback"] = "out_of_memory_fallback"
    level: ClassVar[Level] = "warn"
    step: int
    """Gives the step that is repeated, or that the dry run is for."""
    gradient_checkpointing: bool
    micro_batch_tokens: int

    @property
    def message(self) -> str:
        how = "with" if self.gradient_checkpointing else "without"
        return (
            f"Out of memory at step {self.step}; continuing {how} gradient checkpointing and up to "
            f"{self.micro_batch_tokens:,} tokens per micro-batch."
        )


class StepSkipped(EventBody):
    """Reports that the step's float16 gradients overflowed: the weights are unchanged, and the loss scale is
    reduced."""

    type: Literal["step_skipped"] = "step_skipped"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = (
        "Skipped step {step}: its float16 gradients overflowed. The loss scale is now {loss_scale:,.0f}."
    )
    step: int
    loss_scale: float
    """Gives the loss scale from the next step on."""


class DryRunPassed(EventBody):
    """Reports that a dry run of the largest micro-batch, an evaluation and a checkpoint succeeded. No step was
    taken."""

    type: Literal["dry_run_passed"] = "dry_run_passed"
    num_tokens: int
    peak_memory_bytes: int
    """Gives the training process's peak so far: GPU memory, or its resident set on the CPU."""
    seconds: float

    @property
    def message(self) -> str:
        return (
            f"The dry run of {self.num_tokens:,} tokens passed in {self.seconds:.1f} s; peak memory "
            f"{self.peak_memory_bytes / 1e9:.2f} GB."
        )


class ReferenceComputed(EventBody):
    """Reports the number of pairs whose log-probabilities by the initial model are computed (objective `dpo`). Sent
    periodically, and at the end."""

    type: Literal["reference_computed"] = "reference_computed"
    template: ClassVar[str] = "Computed the reference for {num_done:,} of {num_rows:,} pairs."
    num_done: int
    num_rows: int
    """Counts all pairs that the job needs: training and validation rows together."""
    seconds: float
    """Counts the seconds of this attempt."""


class Evaluated(EventBody):
    type: Literal["evaluated"] = "evaluated"
    step: int
    validation_loss: float
    validation_token_accuracy: float | None = None
    """Is null for the objective `dpo`, where no single token is right or wrong."""
    validation_reward_accuracy: float | None = None
    """Gives the share of the pairs whose chosen answer gained more than the rejected one. `dpo` only."""
    validation_reward_margin: float | None = None
    """Gives the mean difference between the two gains. `dpo` only."""

    @property
    def message(self) -> str:
        share = self.validation_reward_accuracy
        preferred = "" if share is None else f"; the chosen answer is preferred in {share:.1%} of the pairs"
        return f"Validation loss {self.validation_loss:.4f} at step {self.step}{preferred}."


class EarlyStopped(EventBody):
    """Reports that the training ended before its last step, at an evaluation."""

    type: Literal["early_stopped"] = "early_stopped"
    template: ClassVar[str] = (
        "Stopped early at step {step}: the validation loss no longer decreases. "
        "It was lowest at step {best_step} ({best_validation_loss:.4f})."
    )
    step: int
    best_step: int
    best_validation_loss: float
