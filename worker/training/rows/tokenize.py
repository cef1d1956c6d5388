"""Writes a dataset's rows as files of tokens, which the training process maps. It does not import torch; see
`tokenizer_process`.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from app.domain.datasets.formats import RecordFormat
from app.domain.events.job_events import RowsSkipped
from app.domain.jobs.state import FailureReason
from worker.training.rows.bad_rows import NAME as SKIPPED
from worker.training.rows.bad_rows import Role, SkippedRows
from worker.training.rows.rendering import Rendered, Renderer, Row
from worker.training.rows.tokenizer import Tokens, load_tokens
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Tokenized, TrainingRequest
from worker.training.runtime.tokenizing import Report, Watch, ignore


class TokenizingHere:
    """Tokenizes in the calling process, as `tokenizer_process.TokenizingProcess` does in a separate one."""

    def begin(self, request: TrainingRequest) -> None:
        self._request = request

    def rows(self, watch: Watch, report: Report = ignore) -> Tokenized:
        self._tokens = load_tokens(self._request.base_model_path)
        return tokenize(self._request, self._tokens, watch)

    def tokenizer(self) -> Path:
        return save_tokenizer(self._request, self._tokens)


def tokenize(
    request: TrainingRequest, tokens: Tokens, watch: Watch = lambda: None, renderer: Renderer | None = None
) -> Tokenized:
    """Write the rows in the layout of `pack_rows`. `watch` is called before each row and may raise."""
    training = request.spec.training
    assert not isinstance(training.max_seq_len, str)
    _check_formats(request)
    renderer = renderer or Renderer(
        tokens, request.train_on, training.max_seq_len, request.spec.objective, training.reasoning
    )
    folder = request.tokens_dir
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    training_path, validation_path = folder / "training.safetensors", None

    events: list[RowsSkipped] = []
    render = partial(_render_dataset, renderer, request, watch, events)
    rendered = render("training", request.dataset_path, request.dataset_format)
    if not rendered.rows:
        raise TrainingFailed(
            FailureReason.no_labelled_tokens,
            f"None of the {rendered.num_dropped:,} rows has a labelled token within {training.max_seq_len:,} tokens. "
            "Raise max_seq_len or shorten the prompts.",
        )
    save_file(pack_rows(rendered.rows), training_path)
    if request.validation_path:
        held_back = render("validation", request.validation_path, request.validation_format).rows
        if not held_back:
            raise TrainingFailed(
                FailureReason.dataset_invalid, "No row of the validation dataset has a labelled token."
            )
        validation_path = folder / "validation.safetensors"
        save_file(pack_rows(held_back), validation_path)
    return Tokenized(
        training_path=training_path,
        validation_path=validation_path,
        skipped_path=folder / SKIPPED if events else None,
        skipped=events,
        num_dropped=rendered.num_dropped,
        num_truncated=rendered.num_truncated,
        num_unstable=rendered.num_unstable,
        num_endless=rendered.num_endless,
        num_literal_special_tokens=tokens.num_literal_special_tokens,
        num_reasoning=rendered.num_reasoning,
        num_unrendered_reasoning=rendered.num_unrendered_reasoning,
        num_unrendered_names=rendered.num_unrendered_names,
        chat_template=tokens.template_name if rendered.uses_template else None,
        turn_ends=sorted(rendered.turn_ends),
        eos=tokens.eos,
    )


def _check_formats(request: TrainingRequest) -> None:
    """Refuse a dataset format that does not fit the objective. A job may be created before the format is known."""
    wants_pairs = request.spec.objective == "dpo"
    for what, format in (("dataset", request.dataset_format), ("validation dataset", request.validation_format)):
        if format is not None and (format is RecordFormat.preference) != wants_pairs:
            needs = "needs the format preference" if wants_pairs else "needs any other format"
            message = f'The {what} has the format {format}, but the objective "{request.spec.objective}" {needs}.'
            raise TrainingFailed(FailureReason.dataset_invalid, message)


def _render_dataset(
    renderer: Renderer,
    request: TrainingRequest,
    watch: Watch,
    events: list[RowsSkipped],
    role: Role,
    path: Path,
    format: RecordFormat | None,
) -> Rendered:
    """Render the file's rows. Skipped rows are written to a file, and their event is appended to `events`."""
    wish = request.spec.on_bad_rows
    if wish.action == "fail":
        return renderer.render_file(path, format=format, watch=watch)
    with SkippedRows(request.tokens_dir / SKIPPED, role, wish.tolerated) as skipped:
        rendered = renderer.render_file(path, format=format, watch=watch, skipped=skipped)
        if (event := skipped.summarize(rendered.num_rows)) is not None:
            events.append(event)
    return rendered


def pack_rows(rows: list[Row]) -> dict[str, NDArray[Any]]:
    """Concatenate all rows: row i is `ids[starts[i]:starts[i + 1]]`, and `labelled` has the same layout. The counts are
    those of `packing.Example`, for sums over many rows."""
    lengths = [len(row.ids) for row in rows]
    return {
        "ids": np.concatenate([row.ids for row in rows]),
        "labelled": np.concatenate([row.labelled for row in rows]),
        "starts": np.cumsum([0, *lengths], dtype=np.int64),
        "lines": np.array([row.line for row in rows], np.int64),
        "num_inputs": np.array([row.labelled.nonzero()[0][-1] for row in rows], np.int64),
        "num_labelled": np.array([row.labelled[1:].sum() for row in rows], np.int64),
    }


def save_tokenizer(request: TrainingRequest, tokens: Tokens) -> Path:
    """Save the result's tokenizer, with the chat template that rendered the rows."""
    folder = request.tokens_dir / "tokenizer"
    tokens.tokenizer.save_pretrained(folder)
    return folder
