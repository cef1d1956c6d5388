"""Events that a training process tells of its own work. Members of the union in `job_events`."""

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
        return f"The model is loaded: {self.num_trainable_parameters:,} trainable parameters ({share:.2%})."


class OutOfMemoryFallbackEvent(EventBody):
    """Memory did not suffice for a micro-batch; the training goes on under a smaller plan, at the same rows a step."""

    type: Literal["out_of_memory_fallback"] = "out_of_memory_fallback"
    level: ClassVar[Level] = "warn"
    step: int
    """The step that is done again, or that the dry run is for."""
    gradient_checkpointing: bool
    micro_batch_tokens: int

    @property
    def message(self) -> str:
        how = "with" if self.gradient_checkpointing else "without"
        return (
            f"Memory did not suffice for step {self.step}; training goes on {how} gradient checkpointing and up to "
            f"{self.micro_batch_tokens:,} tokens a micro-batch."
        )


class StepSkipped(EventBody):
    """The step's float16 gradients overflowed: its weights are what they were, and the loss is scaled by less."""

    type: Literal["step_skipped"] = "step_skipped"
    level: ClassVar[Level] = "warn"
    template: ClassVar[str] = (
        "Skipped step {step}: its float16 gradients overflowed. The loss is scaled by {loss_scale:,.0f} from here on."
    )
    step: int
    loss_scale: float
    """What the loss is multiplied by from the next step on."""


class DryRunPassed(EventBody):
    """A dry run of the largest micro-batch, an evaluation and a checkpoint went well; no step was taken."""

    type: Literal["dry_run_passed"] = "dry_run_passed"
    num_tokens: int
    peak_memory_bytes: int
    """Peak of the training process so far: GPU memory, or its resident set on the CPU."""
    seconds: float

    @property
    def message(self) -> str:
        return (
            f"A dry run of {self.num_tokens:,} tokens went well in {self.seconds:.1f} s; peak memory "
            f"{self.peak_memory_bytes / 1e9:.2f} GB."
        )


class ReferenceComputed(EventBody):
    """So many pairs have their log-probabilities by the model that the job began with (objective `dpo`). Told now and
    then, and when all have."""

    type: Literal["reference_computed"] = "reference_computed"
    template: ClassVar[str] = "The reference is computed for {num_done:,} of {num_rows:,} pairs."
    num_done: int
    num_rows: int
    """All that the job needs: training and validation rows together."""
    seconds: float
    """Of this attempt."""


class Evaluated(EventBody):
    type: Literal["evaluated"] = "evaluated"
    step: int
    validation_loss: float
    validation_token_accuracy: float | None = None
    """Null for the objective `dpo`, which no single token is right or wrong for."""
    validation_reward_accuracy: float | None = None
    """Share of the pairs whose chosen answer gained more than the rejected one; `dpo` only."""
    validation_reward_margin: float | None = None
    """By how much it gained more, in the mean; `dpo` only."""

    @property
    def message(self) -> str:
        right = self.validation_reward_accuracy
        told = "" if right is None else f", the chosen answer ahead in {right:.1%} of the pairs"
        return f"Validation loss {self.validation_loss:.4f} at step {self.step}{told}."


class EarlyStopped(EventBody):
    """The training ended before its last step, at an evaluation."""

    type: Literal["early_stopped"] = "early_stopped"
    template: ClassVar[str] = (
        "Training stopped early at step {step}: the validation loss no longer falls. "
        "It was lowest at step {best_step} ({best_validation_loss:.4f})."
    )
    step: int
    best_step: int
    best_validation_loss: float
