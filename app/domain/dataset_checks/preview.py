"""Defines previews: the request, and what a model would see of a dataset."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.domain.datasets.report import Part
from app.domain.jobs.spec import BadRowPolicy, Objective, SpecPart
from app.domain.jobs.state import FailureReason
from app.domain.jobs.train_on import Reasoning, TrainOn

MAX_ROWS: Final = 20
SHOWN_TOKENS: Final = 8192
"""Limits the tokens shown of all rows of a preview together, divided evenly."""
SHOWN_CHARS: Final = 65_536
"""Limits the characters of the rows' text in the same way."""
Line = Annotated[int, Field(ge=1, le=2**53)]


class PreviewSpec(SpecPart):
    """Selects the rows to show and the settings. Fields that a JobSpec has too have the same meaning and default."""

    base_model: str = Field(min_length=1, max_length=200)
    """Names a base model of the registry (`GET /models`). Its tokenizer and chat template make the tokens."""
    objective: Objective = "sft"
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] | Annotated[list[Line], Field(min_length=1, max_length=MAX_ROWS)] = 5
    """Gives the number of first rows to show, or the lines of the rows to show, as problems and `row_losses.csv` name
    them."""
    max_seq_len: Literal["auto"] | Annotated[int, Field(ge=8, le=10_000_000)] = "auto"
    train_on: TrainOn = "auto"
    reasoning: Reasoning = "train"
    batch_size: int = Field(default=8, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    validation_split: float | None = Field(default=None, gt=0, lt=1)
    on_bad_rows: BadRowPolicy = BadRowPolicy()
    memory: Literal["auto", "min"] = "auto"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Sets the kind of device that the micro-batches are counted for. `auto` uses the device of an online worker."""

    def as_job(self, dataset_id: str) -> dict[str, Any]:
        """Return the JobSpec fields of a job that trains on what this preview shows."""
        return job_fields(self.model_dump(exclude_unset=True), dataset_id)


OF_JOBS: Final = ("base_model", "objective", "validation_split", "on_bad_rows")
OF_TRAINING: Final = ("max_seq_len", "train_on", "reasoning", "batch_size", "seed", "memory")


def job_fields(asked: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    """Convert the fields of a preview request, validated or not, to the fields of a JobSpec."""
    training = {name: asked[name] for name in OF_TRAINING if name in asked}
    resources = {"resources": {"device": asked["device"]}} if "device" in asked else {}
    fields = {name: asked[name] for name in OF_JOBS if name in asked}
    return fields | resources | {"dataset_id": dataset_id, "training": {"epochs": 1} | training}


class PreviewPlan(Part):
    """Describes the machine that the micro-batches are counted for."""

    worker: str
    """Is the worker's id."""
    device: Literal["cuda", "cpu"]
    device_name: str | None
    micro_batch_tokens: int
    """Is the maximum number of tokens in a micro-batch there, as long as memory suffices."""


class PredictedFailure(Part):
    """Says how a job would fail."""

    reason: FailureReason
    message: str


class PreviewTotals(Part):
    """Describes the whole file. A value that the job event `dataset_prepared` also has, has the same name there."""

    chat_template: str | None
    """Says where the chat template came from. Null when no row needed one."""
    max_seq_len: int
    """Is the number of tokens to which a row is truncated."""
    train_on: TrainOn | None
    """Says which tokens carry loss, with `auto` resolved. Null for `dpo`, which has no choice."""
    num_rows: int
    """Counts the rows that are trained on."""
    num_validation_rows: int
    """Counts the rows that `validation_split` holds back."""
    num_dropped_rows: int
    """Counts the rows without a labelled token, which are left out."""
    skipped_rows: dict[str, int]
    """Counts the rows that `on_bad_rows` leaves out, by error code."""
    num_truncated_rows: int
    """Counts the truncated rows. A truncated row without a labelled token is dropped too."""
    num_tokens: int
    """Counts the tokens of one epoch."""
    num_labelled_tokens: int
    """Counts the tokens of one epoch that carry loss."""
    num_template_mismatch_rows: int
    """Counts the rows that the template renders differently turn by turn than as a whole. Answers that are missing in
    the whole are not learned."""
    num_answers_without_end_token: int
    """Counts the answers that end without a special token: the model does not learn to stop after them."""
    num_literal_special_tokens: int
    """Counts the special tokens written in the rows' content, which are read as plain text."""
    num_reasoning_turns: int
    """Counts the answers with reasoning, unless it is dropped."""
    num_unrendered_reasoning: int
    """Counts those of them whose reasoning the chat template leaves out, as many templates do for earlier answers."""
    num_unrendered_names: int
    """Counts the turns whose name the chat template leaves out."""
    steps_per_epoch: int
    micro_batches_per_step: float
    """Is the mean over the first epoch."""
    max_micro_batches_per_step: int
    """Is the maximum over the first epoch's steps."""
    num_packed_tokens: int
    """Counts the tokens that go through the model in the first epoch."""
    num_padded_tokens: int
    """Counts the tokens that would, if each row were padded to the longest of its step, as without packing."""
    padding_saved_share: float
    """Is the share of the padded tokens that packing saves, 0 to 1."""
    device_plan: PreviewPlan
    predicted_failure: PredictedFailure | None = None
    """Is set if a job with these settings could not start."""
    missing_lines: list[int] = Field(default_factory=list)
    """Lists requested lines that hold no row."""


class PreviewToken(Part):
    id: int
    text: str
    """Is the text that the token adds. Empty if the next token completes a character that this one begins."""
    labelled: bool
    """Says whether the token carries loss."""


class PreviewRow(Part):
    """Shows one row as the model reads it. For the objective `dpo` it is one of the row's two answers, with the
    prompt."""

    line: int
    answer: Literal["chosen", "rejected"] | None
    """Says which of a pair's answers it is. Null for other objectives."""
    text: str
    """Is the whole text before truncation, special tokens included. All rows together show at most 65,536
    characters."""
    num_tokens: int
    """Counts the tokens that the model reads."""
    num_labelled_tokens: int
    num_truncated_tokens: int
    """Counts the tokens beyond `max_seq_len`, which are truncated."""
    truncated_text: str
    """Shows the beginning of the truncated text."""
    dropped: bool
    """Is true if the row has no labelled token and is left out."""
    in_validation_split: bool
    """Is true if `validation_split` draws the row for validation."""
    tokens: list[PreviewToken]
    """Lists the tokens in order. A long row shows its first and last ones: all rows together show at most 8,192
    tokens."""
    num_omitted_tokens: int
    """Counts the tokens left out of the middle of `tokens`."""
