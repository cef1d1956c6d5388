"""Tests that a preview matches a training on the same rows and settings: ids, labels, events, steps, micro-batches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.domain.dataset_checks.preview import SHOWN_TOKENS, PreviewSpec
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import Recorder
from worker.training.data.dataset import Rows, prepare_rows
from worker.training.data.packing import pack
from worker.training.model.loading import load_config
from worker.training.model.memory_plan import make_plan
from worker.training.preview.messages import Machine, PreviewAnswer, PreviewRequest
from worker.training.preview.preview import preview
from worker.training.rows.sampler import BatchSampler
from worker.training.rows.tokenize import TokenizingHere
from worker.training.rows.tokenizer import load_tokens
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
ROOM = {"memory_bytes": 2**40, "cpu_seconds": 2**20, "max_file_bytes": 2**40}


def turns(number: int) -> dict[str, Any]:
    texts = ["a question<eos>, ", "the answer. " * (1 + number % 7), "another? ", "naïve 字 ≠ 🎉 " * (number % 4)]
    roles = ("user", "assistant", "user", "assistant")
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]}


FILES: dict[str, list[dict[str, Any]]] = {
    "completions": [{"prompt": "Ticket: " * (n % 9), "completion": "red " * (1 + n % 5)} for n in range(41)],
    "turns": [turns(n) for n in range(23)],
    "pairs": [{"prompt": "Ticket: " * (n % 9), "chosen": "red " * (1 + n % 5), "rejected": "no"} for n in range(41)],
    "texts": [{"text": "x y z " * (1 + n % 12)} for n in range(17)],
}


ANSWERS: dict[int, list[Any]] = {1: [None], 2: ["chosen", "rejected"]}
"""Names the answers of a row, by its number of documents."""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))  # a blank line would shift the numbers
    return path


def ask(make_request: MakeRequest, spec: PreviewSpec, path: Path, **fields: Any) -> PreviewRequest:
    job = JobSpec.model_validate(spec.as_job("file-" + "0" * 24)).decided(512)
    request = make_request(spec=job, dataset_path=path, resolved=None, **fields)
    return PreviewRequest(spec=spec, job=request, machine=Machine(worker="w", device="cpu", device_name="CPU"), **ROOM)


def answer(request: PreviewRequest) -> PreviewAnswer:
    return preview(request, load_tokens(request.job.base_model_path))


def train_rows(request: TrainingRequest) -> tuple[Rows, dict[str, Any]]:
    """Return the rows that a job prepares, and its event."""
    tokenizing, channel = TokenizingHere(), Recorder()
    tokenizing.begin(request)
    rows = prepare_rows(request, tokenizing.rows(lambda: None), channel)
    [event] = channel.events("dataset_prepared")
    return rows, event.model_dump(exclude={"type"})


@pytest.mark.parametrize(
    ("file", "asked"),
    [
        ("completions", {"max_seq_len": 20, "batch_size": 4}),
        ("completions", {"max_seq_len": 64, "train_on": "all", "validation_split": 0.2, "seed": 7}),
        ("turns", {"max_seq_len": 60, "train_on": "assistant", "batch_size": 3}),
        ("turns", {"train_on": "completion"}),
        ("turns", {"validation_split": 0.5, "memory": "min", "batch_size": 23}),
        ("texts", {"batch_size": 64}),
        ("pairs", {"objective": "dpo", "max_seq_len": 24, "batch_size": 4, "validation_split": 0.2}),
    ],
)
def test_it_matches_the_training(make_request: MakeRequest, tmp_path: Path, file: str, asked: dict[str, Any]) -> None:
    path = write(tmp_path / "rows.jsonl", FILES[file])
    spec = PreviewSpec(base_model="tiny", rows=20, **asked)
    request = ask(make_request, spec, path, device="cpu")
    found = answer(request)
    rows, event = train_rows(request.job)
    assert found.totals.model_dump(include=set(event)) == event

    trained = {
        (row.line, answer): (document, held_back)
        for part, held_back in ((rows.validation, True), (rows.training, False))
        for row in part
        for answer, document in zip(ANSWERS[len(row.documents)], row.documents, strict=True)
    }
    answers = ANSWERS[2 if file == "pairs" else 1]
    lines = range(1, min(len(FILES[file]), 20) + 1)
    assert [(row.line, row.answer) for row in found.rows] == [(line, answer) for line in lines for answer in answers]
    assert any(row.num_truncated_tokens for row in found.rows) == (found.totals.num_truncated_rows > 0)
    for shown in found.rows:
        assert shown.dropped == ((shown.line, shown.answer) not in trained)
        if not shown.dropped:
            row, held_back = trained[shown.line, shown.answer]
            assert [token.id for token in shown.tokens] == row.ids.tolist()
            assert [token.labelled for token in shown.tokens] == [False, *row.labelled[1:].tolist()]
            assert (shown.num_tokens, shown.num_labelled_tokens) == (len(row.ids), row.num_labelled)
            assert shown.in_validation_split == held_back

    epochs = BatchSampler(len(rows.training), spec.batch_size, spec.seed)
    budget = make_plan(request.job, load_config(request.job.base_model_path), rows.training.longest).micro_batch_tokens
    steps = [
        pack([rows.training[row] for row in epochs.rows(step)], budget) for step in range(1, epochs.steps_per_epoch + 1)
    ]
    assert found.totals.device_plan.micro_batch_tokens == budget
    assert found.totals.steps_per_epoch == len(steps)
    assert found.totals.max_micro_batches_per_step == max(map(len, steps))
    assert found.totals.micro_batches_per_step == round(sum(map(len, steps)) / len(steps), 3)
    assert found.totals.num_packed_tokens == sum(batch.input_ids.numel() for step in steps for batch in step)


def test_tokens_spell_the_text(make_request: MakeRequest, tmp_path: Path) -> None:
    """Show a character of several tokens at its last token, and mark truncated text."""
    path = write(tmp_path / "rows.jsonl", [{"text": " naïve 字\0≠ 🎉 "}, {"text": "y" * 100}])
    whole, cut = answer(ask(make_request, PreviewSpec(base_model="tiny", rows=[2, 1], max_seq_len=50), path)).rows
    assert whole.text == "".join(token.text for token in whole.tokens)
    assert whole.text == "<bos> naïve 字\ufffd≠ 🎉 <eos>", "PostgreSQL cannot store NUL in text"
    assert (cut.num_tokens, cut.num_truncated_tokens, cut.truncated_text) == (50, 52, "y" * 51 + "<eos>")
    assert cut.text == "<bos>" + "y" * 100 + "<eos>"


def test_a_long_row_shows_its_beginning_and_its_end(make_request: MakeRequest, tmp_path: Path) -> None:
    rows = [{"prompt": "q" * SHOWN_TOKENS, "completion": "z"}] * 20
    path = write(tmp_path / "rows.jsonl", rows)
    found = answer(ask(make_request, PreviewSpec(base_model="tiny", rows=20, max_seq_len=2 * SHOWN_TOKENS), path))
    for row in found.rows:
        assert len(row.tokens) == SHOWN_TOKENS // 20
        assert row.num_omitted_tokens == row.num_tokens - len(row.tokens) > 7000
        assert [token.text for token in (row.tokens[0], *row.tokens[-2:])] == ["<bos>", "z", "<eos>"]
    assert sum(len(token.model_dump_json()) for row in found.rows for token in row.tokens) < 500_000


def test_lines_without_a_row_are_listed(make_request: MakeRequest, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    found = answer(ask(make_request, PreviewSpec(base_model="tiny", rows=[3, 2, 9]), path))
    assert [row.line for row in found.rows] == [3]
    assert found.totals.missing_lines == [2, 9]


def test_a_predicted_failure_is_reported_with_the_rows(make_request: MakeRequest, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "long " * 20, "completion": "x"}] * 3)
    request = ask(make_request, PreviewSpec(base_model="tiny", max_seq_len=8), path)
    found = answer(request)
    assert found.totals.predicted_failure is not None
    assert found.totals.predicted_failure.reason is FailureReason.no_labelled_tokens
    assert (found.totals.num_rows, found.totals.num_dropped_rows, found.totals.num_truncated_rows) == (0, 3, 3)
    assert [row.dropped for row in found.rows] == [True] * 3
    assert (found.totals.steps_per_epoch, found.totals.micro_batches_per_step, found.totals.padding_saved_share) == (
        0,
        0,
        0,
    )
    with pytest.raises(TrainingFailed) as failed:
        train_rows(request.job)
    assert failed.value.message == found.totals.predicted_failure.message

    one = write(tmp_path / "one.jsonl", [{"text": "a"}])
    alone = ask(make_request, PreviewSpec(base_model="tiny", validation_split=0.5), one)
    refusal = answer(alone).totals.predicted_failure
    with pytest.raises(TrainingFailed) as failed:
        train_rows(alone.job)
    assert refusal is not None
    assert (refusal.reason, refusal.message) == (failed.value.reason, failed.value.message)


def test_bad_rows_are_skipped_as_a_job_skips_them(make_request: MakeRequest, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*FILES["completions"][:9], {"prompt": "a", "completion": ""}])
    skipping = PreviewSpec.model_validate(
        {"base_model": "tiny", "rows": 20, "on_bad_rows": {"action": "skip", "max_share": 0.2}}
    )
    request = ask(make_request, skipping, path)
    found = answer(request)
    rows, _ = train_rows(request.job)
    assert [row.line for row in found.rows] == [example.line for example in rows.training] == [*range(1, 10)]
    assert (found.totals.num_rows, found.totals.skipped_rows) == (9, {"no_trainable_text": 1})
    strict = skipping.model_validate(skipping.model_dump() | {"on_bad_rows": {"action": "skip", "max_share": 0.01}})
    refusal = answer(ask(make_request, strict, path)).totals.predicted_failure
    assert refusal is not None
    assert refusal.reason is FailureReason.too_many_bad_rows


def test_unrendered_reasoning_is_refused(make_request: MakeRequest, tmp_path: Path) -> None:
    """Refuse the rows as a job does. Without the reasoning, both continue."""
    thought = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    path = write(
        tmp_path / "rows.jsonl", [{"messages": [{"role": "user", "content": "a", "name": "Ann"}, thought]}] * 2
    )
    for reasoning in ("train", "context"):
        request = ask(make_request, PreviewSpec(base_model="tiny", reasoning=reasoning), path)
        for fails in (lambda request=request: answer(request), lambda request=request: train_rows(request.job)):
            with pytest.raises(TrainingFailed, match=f"training.reasoning '{reasoning}' is not possible") as failed:
                fails()
            assert failed.value.reason is FailureReason.reasoning_not_rendered
    totals = answer(ask(make_request, PreviewSpec(base_model="tiny", reasoning="drop"), path)).totals
    assert (totals.num_rows, totals.num_reasoning_turns, totals.num_unrendered_names) == (2, 0, 2)


def test_the_settings_are_those_of_a_job() -> None:
    """Compare the settings: a preview omits what has no effect on rows."""
    spec, job = (
        PreviewSpec(base_model="tiny"),
        JobSpec(base_model="tiny", dataset_id="file-" + "0" * 24, training={"epochs": 1}),
    )
    assert JobSpec.model_validate(spec.as_job(job.dataset_id)) == job
    for name in ("max_seq_len", "train_on", "reasoning", "batch_size", "seed", "memory"):
        assert getattr(spec, name) == getattr(job.training, name)
    assert (spec.validation_split, spec.device) == (job.validation_split, job.resources.device)
    assert (spec.on_bad_rows, spec.objective) == (job.on_bad_rows, job.objective)
