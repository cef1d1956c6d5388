"""Shows what a model would see of a dataset, with the functions that make a training's rows, steps and micro-batches.

It does not import torch, as `tokenize` and `sampler` do not.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from safetensors import safe_open

from app.domain.dataset_checks.preview import (
    SHOWN_CHARS,
    SHOWN_TOKENS,
    PredictedFailure,
    PreviewPlan,
    PreviewRow,
    PreviewToken,
    PreviewTotals,
)
from app.domain.datasets.problem import UNSTORABLE
from app.domain.jobs.state import FailureReason
from worker.training.preview.messages import PreviewAnswer, PreviewRequest
from worker.training.rows.rendering import Piece, Rendered, Renderer
from worker.training.rows.sampler import BatchSampler, best_fit, sides_of, split_rows, token_budget
from worker.training.rows.tokenize import tokenize
from worker.training.rows.tokenizer import Tokens
from worker.training.runtime.alignment import ALIGNED
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Tokenized

CUT_CHARS: Final = 200
"""Limits the truncated text that is shown."""
LONGEST_CHARACTER: Final = 8
"""Is the maximum number of tokens that make one character."""
WOULD_FAIL: Final = (FailureReason.no_labelled_tokens, FailureReason.too_many_bad_rows)
"""Lists the failures that are reported together with rows that can be shown."""
UNFINISHED: Final = "\ufffd"
"""Is what an incomplete character decodes to."""


class PreviewRenderer(Renderer):
    """Renders as the training does, and remembers the requested rows as they were before they were truncated."""

    def __init__(self, tokens: Tokens, request: PreviewRequest, max_seq_len: int) -> None:
        super().__init__(tokens, request.job.train_on, max_seq_len, request.spec.objective, request.spec.reasoning)
        self.limit = max_seq_len
        self._wanted = request.spec.rows
        self.seen: dict[int, list[Piece]] = {}
        self.num_rows = self.num_too_long = 0

    def _add_row(self, number: int, pieces: list[Piece], result: Rendered, *, strict: bool) -> None:
        self.num_too_long += any(len(ids) > self.limit for ids, _ in pieces)
        if self.num_rows < self._wanted if isinstance(self._wanted, int) else number in self._wanted:
            self.seen[number] = pieces
        self.num_rows += 1
        super()._add_row(number, pieces, result, strict=strict)


class Columns(NamedTuple):
    """Holds columns of the rows with a labelled token, as `tokenize.pack_rows` wrote them. Each column has one value a
    row; for a pair it is the sum of its two answers."""

    lines: Sequence[int]
    num_tokens: Sequence[int]
    most_tokens: Sequence[int]
    """Counts the tokens of a row's longer document."""
    num_inputs: Sequence[int]
    num_labelled: Sequence[int]

    @classmethod
    def of(cls, path: Path, sides: int) -> "Columns":
        with safe_open(path, "np") as file:
            tokens, inputs, labelled = (
                each.reshape(-1, sides)
                for each in (np.diff(file.get_tensor("starts")), *map(file.get_tensor, ("num_inputs", "num_labelled")))
            )
            lines = file.get_tensor("lines")[::sides]
        columns = (lines, tokens.sum(1), tokens.max(1), inputs.sum(1), labelled.sum(1))
        return cls(*(column.tolist() for column in columns))


NONE: Final = Columns([], [], [], [], [])


class Passes(NamedTuple):
    """Counts what goes through the model in the first epoch."""

    num_steps: int
    num_micro_batches: int
    max_micro_batches_per_step: int
    num_packed: int
    num_padded: int


def preview(request: PreviewRequest, tokens: Tokens, watch: Callable[[], None] = lambda: None) -> PreviewAnswer:
    """Create a preview. Raises TrainingFailed if the rows cannot be rendered at all. If they can be, but a job would
    fail, the answer says so."""
    training = request.job.spec.training
    max_seq_len = training.max_seq_len
    assert not isinstance(max_seq_len, str)
    renderer = PreviewRenderer(tokens, request, max_seq_len)
    refusal: PredictedFailure | None = None
    tokenized: Tokenized | None = None
    try:
        tokenized = tokenize(request.job, tokens, watch, renderer)
    except TrainingFailed as error:
        if error.reason not in WOULD_FAIL:
            raise
        refusal = PredictedFailure(reason=error.reason, message=error.message)
    sides = sides_of(request.spec.objective)
    columns = Columns.of(tokenized.training_path, sides) if tokenized else NONE
    try:
        kept, drawn = split_rows(len(columns.lines), request.job.spec.validation_split, training.seed)
    except TrainingFailed as error:
        kept, drawn = [*range(len(columns.lines))], []
        refusal = refusal or PredictedFailure(reason=error.reason, message=error.message)
    totals = _make_totals(request, renderer, tokenized, columns, kept, len(drawn))
    held_back = {columns.lines[place] for place in drawn}
    rows = [*_make_rows(renderer, tokens, max_seq_len, set(columns.lines), held_back)]
    return PreviewAnswer(totals=totals.model_copy(update={"predicted_failure": refusal}), rows=rows)


def _make_totals(
    request: PreviewRequest,
    renderer: PreviewRenderer,
    tokenized: Tokenized | None,
    columns: Columns,
    kept: Sequence[int],
    num_drawn: int,
) -> PreviewTotals:
    training, machine = request.job.spec.training, request.machine
    budget = token_budget(machine.device, training.memory)
    epochs = BatchSampler(len(kept), training.batch_size, training.seed)
    passes = _count_passes(columns, kept, epochs, budget, sides_of(request.spec.objective))
    wanted = request.spec.rows
    return PreviewTotals(
        chat_template=tokenized.chat_template if tokenized else None,
        max_seq_len=renderer.limit,
        train_on=request.job.train_on if request.spec.objective == "sft" else None,
        num_rows=len(kept),
        num_validation_rows=num_drawn,
        num_dropped_rows=tokenized.num_dropped if tokenized else renderer.num_rows,
        skipped_rows=tokenized.skipped[0].codes if tokenized and tokenized.skipped else {},
        num_truncated_rows=tokenized.num_truncated if tokenized else renderer.num_too_long,
        num_tokens=sum(columns.num_tokens[place] for place in kept),
        num_labelled_tokens=sum(columns.num_labelled[place] for place in kept),
        num_template_mismatch_rows=tokenized.num_unstable if tokenized else 0,
        num_answers_without_end_token=tokenized.num_endless if tokenized else 0,
        num_literal_special_tokens=tokenized.num_literal_special_tokens if tokenized else 0,
        num_reasoning_turns=tokenized.num_reasoning if tokenized else 0,
        num_unrendered_reasoning=tokenized.num_unrendered_reasoning if tokenized else 0,
        num_unrendered_names=tokenized.num_unrendered_names if tokenized else 0,
        steps_per_epoch=passes.num_steps,
        micro_batches_per_step=round(passes.num_micro_batches / passes.num_steps, 3) if passes.num_steps else 0,
        max_micro_batches_per_step=passes.max_micro_batches_per_step,
        num_packed_tokens=passes.num_packed,
        num_padded_tokens=passes.num_padded,
        padding_saved_share=round(1 - passes.num_packed / passes.num_padded, 4) if passes.num_padded else 0,
        device_plan=PreviewPlan(**machine.model_dump(), micro_batch_tokens=budget),
        missing_lines=[] if isinstance(wanted, int) else sorted(set(wanted) - renderer.seen.keys()),
    )


def _count_passes(columns: Columns, kept: Sequence[int], epochs: BatchSampler, budget: int, sides: int) -> Passes:
    """Count the steps' micro-batches as `packing.pack` packs them, alignment included."""
    num_micro_batches = most = packed = padded = 0
    for step in range(1, epochs.steps_per_epoch + 1):
        places = [kept[index] for index in epochs.rows(step)]
        lengths = [columns.num_inputs[place] for place in places]
        bins = best_fit(lengths, budget)
        num_micro_batches += len(bins)
        most = max(most, len(bins))
        packed += sum(-(-sum(lengths[index] for index in held) // ALIGNED) * ALIGNED for held in bins)
        padded += sides * len(places) * max(columns.most_tokens[place] for place in places)
    return Passes(epochs.steps_per_epoch, num_micro_batches, most, packed, padded)


def _make_rows(
    renderer: PreviewRenderer, tokens: Tokens, max_seq_len: int, learned: set[int], held_back: set[int]
) -> Iterator[PreviewRow]:
    documents = [(line, *piece) for line, pieces in sorted(renderer.seen.items()) for piece in _name_answers(pieces)]
    count = max(len(documents), 1)
    most_tokens, most_chars = SHOWN_TOKENS // count, SHOWN_CHARS // count
    for line, answer, ids, labelled in documents:
        kept = ids[:max_seq_len]
        # The first token has no prediction, and so carries no loss regardless of its label.
        carries = [number > 0 and bool(label) for number, label in enumerate(labelled[:max_seq_len])]
        head, tail = most_tokens - most_tokens // 2, max(len(kept) - most_tokens // 2, most_tokens - most_tokens // 2)
        chosen = [*range(min(head, len(kept))), *range(tail, len(kept))]
        texts = _token_texts(tokens, [kept[place] for place in chosen])
        yield PreviewRow(
            line=line,
            answer=answer,
            text=_decode_start(tokens, ids, most_chars),
            num_tokens=len(kept),
            num_labelled_tokens=sum(carries),
            num_truncated_tokens=len(ids) - len(kept),
            truncated_text=_decode_start(tokens, ids[max_seq_len:], CUT_CHARS),
            dropped=line not in learned,
            in_validation_split=line in held_back,
            tokens=[
                PreviewToken(id=kept[place], text=text, labelled=carries[place])
                for place, text in zip(chosen, texts, strict=True)
            ],
            num_omitted_tokens=len(kept) - len(chosen),
        )


def _name_answers(pieces: list[Piece]) -> Iterator[tuple[Literal["chosen", "rejected"] | None, list[int], list[bool]]]:
    if len(pieces) == 1:
        yield (None, *pieces[0])
    else:
        yield ("chosen", *pieces[0])
        yield ("rejected", *pieces[1])


def _decode_start(tokens: Tokens, ids: Sequence[int], most_chars: int) -> str:
    """Decode only tokens that can be shown: each adds a character, or a part of one."""
    return tokens.decode(ids[: LONGEST_CHARACTER * most_chars])[:most_chars].translate(UNSTORABLE)


def _token_texts(tokens: Tokens, ids: Sequence[int]) -> Iterator[str]:
    """Return what each token adds to the text before it. Each is decoded after its predecessor, since a tokenizer may
    drop the space that the first token begins with."""
    begin = done = 0
    for index in range(len(ids)):
        before, after = tokens.decode(ids[begin:done]), tokens.decode(ids[begin : index + 1])
        is_whole = not after.endswith(UNFINISHED) or index - done >= LONGEST_CHARACTER
        yield after[len(before) :].translate(UNSTORABLE) if is_whole else ""
        if is_whole:
            begin, done = done, index + 1
