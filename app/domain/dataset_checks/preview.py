"""Previews: what is asked for, and what a model would see of a dataset."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.domain.datasets.report import Part
from app.domain.jobs.spec import BadRowPolicy, Objective, SpecPart
from app.domain.jobs.state import FailureReason
from app.domain.jobs.train_on import Reasoning, TrainOn

MAX_ROWS: Final = 20
SHOWN_TOKENS: Final = 8192
"""Of all rows of one preview together, evenly."""
SHOWN_CHARS: Final = 65_536
"""The same for the rows' text."""
Line = Annotated[int, Field(ge=1, le=2**53)]


class PreviewSpec(SpecPart):
    """What to show, and by which settings. Those that a JobSpec has too mean the same and have the same defaults."""

    base_model: str = Field(min_length=1, max_length=200)
    """Name of a base model in the registry (`GET /models`): its tokenizer and chat template make the tokens."""
    objective: Objective = "sft"
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] | Annotated[list[Line], Field(min_length=1, max_length=MAX_ROWS)] = 5
    """So many of the first rows; or the lines of the rows to show, as problems and `row_losses.csv` name them."""
    max_seq_len: Literal["auto"] | Annotated[int, Field(ge=8, le=10_000_000)] = "auto"
    train_on: TrainOn = "auto"
    reasoning: Reasoning = "train"
    batch_size: int = Field(default=8, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    validation_split: float | None = Field(default=None, gt=0, lt=1)
    on_bad_rows: BadRowPolicy = BadRowPolicy()
    memory: Literal["auto", "min"] = "auto"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Kind of device that the micro-batches are counted for; `auto` is that of a worker which is online."""

    def as_job(self, dataset_id: str) -> dict[str, Any]:
        """A JobSpec that is trained on what this one shows."""
        return job_fields(self.model_dump(exclude_unset=True), dataset_id)


OF_JOBS: Final = ("base_model", "objective", "validation_split", "on_bad_rows")
OF_TRAINING: Final = ("max_seq_len", "train_on", "reasoning", "batch_size", "seed", "memory")


def job_fields(asked: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    """What is asked of a preview, checked or not, as the fields of a JobSpec."""
    training = {name: asked[name] for name in OF_TRAINING if name in asked}
    resources = {"resources": {"device": asked["device"]}} if "device" in asked else {}
    fields = {name: asked[name] for name in OF_JOBS if name in asked}
    return fields | resources | {"dataset_id": dataset_id, "training": {"epochs": 1} | training}


class PreviewPlan(Part):
    """The machine that the micro-batches are counted for."""

    worker: str
    """Its id."""
    device: Literal["cuda", "cpu"]
    device_name: str | None
    micro_batch_tokens: int
    """Most tokens that go through the model at once there, as long as its memory suffices for so many."""


class PredictedFailure(Part):
    """How a job would end."""

    reason: FailureReason
    message: str


class PreviewTotals(Part):
    """Of the whole file. What the event `dataset_prepared` of a job tells has the same name and the same value."""

    chat_template: str | None
    """Where the chat template came from; null when no row needed one."""
    max_seq_len: int
    """Tokens a row is cut to."""
    train_on: TrainOn | None
    """Which tokens carry loss: what was asked for, or what `auto` came to; null for `dpo`, which has no choice."""
    num_rows: int
    """Rows that are trained on."""
    num_validation_rows: int
    """Rows that `validation_split` holds back."""
    num_dropped_rows: int
    """Rows with no token to learn from, which are left out."""
    skipped_rows: dict[str, int]
    """Rows that `on_bad_rows` leaves out, by what is wrong with them."""
    num_truncated_rows: int
    """Rows that are cut; one that has no token to learn from then is dropped too."""
    num_tokens: int
    """Of one epoch, as `num_labelled_tokens`."""
    num_labelled_tokens: int
    """Tokens that carry loss."""
    num_template_mismatch_rows: int
    """Rows that the template renders otherwise turn by turn than as a whole; answers that the whole leaves out are not
    learned."""
    num_answers_without_end_token: int
    """Answers that end without a special token, so that the model does not learn to stop after them."""
    num_literal_special_tokens: int
    """Special tokens that are written in the rows' content, and are read as plain text."""
    num_reasoning_turns: int
    """Answers with reasoning, unless it is dropped."""
    num_unrendered_reasoning: int
    """Of these, those whose reasoning the chat template leaves out, as many do of earlier answers."""
    num_unrendered_names: int
    """Turns whose name the chat template leaves out."""
    steps_per_epoch: int
    micro_batches_per_step: float
    """The mean over the first epoch."""
    max_micro_batches_per_step: int
    """Of one step of the first epoch."""
    num_packed_tokens: int
    """What goes through the model in the first epoch."""
    num_padded_tokens: int
    """What would, were each row padded to the longest of its step, as is done without packing."""
    padding_saved_share: float
    """Share of the padded tokens that packing saves, 0 to 1."""
    device_plan: PreviewPlan
    predicted_failure: PredictedFailure | None = None
    """Set where a job by these settings could not begin."""
    missing_lines: list[int] = Field(default_factory=list)
    """Lines that were asked for and hold no row."""


class PreviewToken(Part):
    id: int
    text: str
    """What it adds to the text; empty where the next token completes a character that this one begins."""
    labelled: bool
    """Whether it carries loss."""


class PreviewRow(Part):
    """One row as the model meets it; for the objective `dpo` one of its two answers, behind the prompt."""

    line: int
    answer: Literal["chosen", "rejected"] | None
    """Which of a pair's answers it is; null for other objectives."""
    text: str
    """All of it, special tokens included, before it is cut; at most 65,536 characters of all rows together."""
    num_tokens: int
    """Tokens that the model meets."""
    num_labelled_tokens: int
    num_truncated_tokens: int
    """Tokens beyond `max_seq_len`, which are cut off."""
    truncated_text: str
    """How the text begins that is cut off."""
    dropped: bool
    """It has no token to learn from, and is left out."""
    in_validation_split: bool
    """`validation_split` draws it for validation."""
    tokens: list[PreviewToken]
    """In order. Of a long row the first and the last: all rows together show at most 8,192."""
    num_omitted_tokens: int
    """Tokens that are left out of the middle of `tokens`."""
