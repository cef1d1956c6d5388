"""Defines previews: the request, and what a model would see of a dataset."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.domain.datasets.report import ReportPart
from app.domain.jobs.spec import BadRowPolicy, Objective
from app.domain.jobs.state import FailureReason
from app.domain.jobs.train_on import Reasoning, TrainOn
from app.domain.spec_part import SpecPart

MAX_ROWS: Final = 20
SHOWN_TOKENS: Final = 8192
"""Limits the tokens shown of all rows of a preview together, divided evenly."""
SHOWN_CHARS: Final = 65_536
"""Limits the characters of the rows' text in the same way."""
Line = Annotated[int, Field(ge=1, le=2**53)]


class PreviewSpec(SpecPart):
    """The rows to show and the settings. Fields shared with JobSpec have the same meaning and default."""

    base_model: str = Field(min_length=1, max_length=200)
    """Name of a base model in the registry (`GET /models`). Its tokenizer and chat template produce the tokens."""
    objective: Objective = "sft"
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] | Annotated[list[Line], Field(min_length=1, max_length=MAX_ROWS)] = 5
    """Number of first rows to show, or the lines of the rows to show, numbered as in problems and `row_losses.csv`."""
    max_seq_len: Literal["auto"] | Annotated[int, Field(ge=8, le=10_000_000)] = "auto"
    train_on: TrainOn = "auto"
    reasoning: Reasoning = "train"
    batch_size: int = Field(default=8, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    validation_split: float | None = Field(default=None, gt=0, lt=1)
    on_bad_rows: BadRowPolicy = BadRowPolicy()
    memory: Literal["auto", "min"] = "auto"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Kind of device that the micro-batches are counted for. `auto` uses the device of an online worker."""

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


class PreviewPlan(ReportPart):
    """The machine that the micro-batches are counted for."""

    worker: str
    """Id of the worker."""
    device: Literal["cuda", "cpu"]
    device_name: str | None
    micro_batch_tokens: int
    """Maximum tokens of a micro-batch on that machine, if its memory suffices."""


class PredictedFailure(ReportPart):
    """How a job would fail."""

    reason: FailureReason
    message: str


class PreviewTotals(ReportPart):
    """Totals of the whole file. Values shared with the job event `dataset_prepared` have the same names."""

    chat_template: str | None
    """Source of the chat template; null if no row needed one."""
    max_seq_len: int
    """Maximum tokens of a row; longer rows are truncated."""
    train_on: TrainOn | None
    """Which tokens carry loss, with `auto` resolved. Null for `dpo`, which always uses the two answers."""
    num_rows: int
    """Number of rows that are trained on."""
    num_validation_rows: int
    """Number of rows that `validation_split` holds out."""
    num_dropped_rows: int
    """Number of rows without a labelled token, which are dropped."""
    skipped_rows: dict[str, int]
    """Number of rows that `on_bad_rows` skips, by error code."""
    num_truncated_rows: int
    """Number of truncated rows. A truncated row without a labelled token is dropped too."""
    num_tokens: int
    """Number of tokens of one epoch."""
    num_labelled_tokens: int
    """Number of tokens of one epoch that carry loss."""
    num_template_mismatch_rows: int
    """Number of rows that the chat template renders differently turn by turn than as a whole. Answers that are missing
    from the whole are not learned."""
    num_answers_without_end_token: int
    """Number of answers that end without a special token; the model does not learn to stop after them."""
    num_literal_special_tokens: int
    """Number of special tokens written in the rows' content, which are read as plain text."""
    num_reasoning_turns: int
    """Number of answers with reasoning, unless it is dropped."""
    num_unrendered_reasoning: int
    """Number of answers among them whose reasoning the chat template omits, as many templates do for earlier
    answers."""
    num_unrendered_names: int
    """Number of turns whose name the chat template omits."""
    steps_per_epoch: int
    micro_batches_per_step: float
    """Mean over the first epoch."""
    max_micro_batches_per_step: int
    """Maximum over the first epoch's steps."""
    num_packed_tokens: int
    """Number of tokens that the model processes in the first epoch."""
    num_padded_tokens: int
    """Number of tokens that it would process without packing, with each row padded to the longest of its step."""
    padding_saved_share: float
    """Share of the padded tokens that packing saves, 0 to 1."""
    device_plan: PreviewPlan
    predicted_failure: PredictedFailure | None = None
    """Set if a job with these settings could not start."""
    missing_lines: list[int] = Field(default_factory=list)
    """Requested lines that contain no row."""


class PreviewToken(ReportPart):
    id: int
    text: str
    """Text that the token adds. Empty if the next token completes a character that this one begins."""
    labelled: bool
    """Whether the token carries loss."""


class PreviewRow(ReportPart):
    """A row as the model reads it. For the objective `dpo` it is one of the row's two answers, with the prompt."""

    line: int
    answer: Literal["chosen", "rejected"] | None
    """Which answer of a pair is shown. Null for other objectives."""
    text: str
    """Text before truncation, with special tokens. All rows together show at most 65,536 characters."""
    num_tokens: int
    """Number of tokens that the model reads."""
    num_labelled_tokens: int
    num_truncated_tokens: int
    """Number of tokens beyond `max_seq_len`, which are truncated."""
    truncated_text: str
    """Beginning of the text that was cut off."""
    dropped: bool
    """Whether the row is dropped because it has no labelled token."""
    in_validation_split: bool
    """Whether `validation_split` draws the row for validation."""
    tokens: list[PreviewToken]
    """The tokens in order. Only the first and last tokens of a long row are shown; all rows together show at most 8,192
    tokens."""
    num_omitted_tokens: int
    """Number of tokens omitted from the middle of `tokens`."""
