"""Tests rows that cannot be trained on, which are skipped as far as a spec allows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from app.domain.datasets.container import flawed_line
from app.domain.datasets.formats import MAX_LINE_BYTES
from app.domain.events.job_events import RowsSkipped
from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.data.dataset import Examples
from worker.training.loop.training_loop import train
from worker.training.rows.tokenize import TokenizingHere
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Planned, Tokenized, TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
GOOD = json.dumps({"prompt": "Ticket: ", "completion": "red"}).encode()
BAD = {
    3: (b'{"prompt": "a", "completion": 7}', "wrong_type"),
    4: (b'{"prompt": "a"}', "missing_key"),
    6: (b'{"prompt": "a", "completion": ""}', "no_trainable_text"),
    7: (flawed_line("ragged_row", "The row has 3 cells."), "ragged_row"),
    8: (b'["tunewright:unreadable", "no_such_code", "x"]', "not_an_object"),
    9: (b'{"prompt": "\xff", "completion": "a"}', "not_utf8"),
    10: (b"x" * (MAX_LINE_BYTES + 10), "line_too_long"),
    11: (json.dumps({"prompt": "a" * 100, "completion": "b"}).encode(), "no_labelled_tokens"),
}
ANSWER = {"role": "assistant", "content": "yes"}
LINES = [BAD[number][0] if number in BAD else b"" if number == 2 else GOOD for number in range(1, 31)]


def skipping(max_share: float, **fields: Any) -> Any:
    training = {"max_seq_len": 32} | fields.pop("training", {})
    return make_spec(on_bad_rows={"action": "skip", "max_share": max_share}, training=training, **fields)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join(LINES))
    return path


def tokenized(request: TrainingRequest) -> Tokenized:
    tokenizing = TokenizingHere()
    tokenizing.begin(request)
    return tokenizing.rows(lambda: None)


def read_skipped(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_bad_rows_are_skipped_and_listed_by_line(make_request: MakeRequest, rows: Path) -> None:
    found = tokenized(make_request(spec=skipping(0.3), dataset_path=rows, dataset_format="prompt_completion"))
    assert [row.line for row in Examples.of(found.training_path)] == [1, 5, *range(12, 31)]
    listed = read_skipped(found.skipped_path)
    assert {each["line"]: each["code"] for each in listed} == {number: code for number, (_, code) in BAD.items()}
    assert all(each["role"] == "training" and each["message"] for each in listed)
    assert listed[3]["message"] == "The row has 3 cells."
    codes = {code: 1 for _, code in BAD.values()}
    assert found.skipped == [RowsSkipped(role="training", num_skipped=8, num_rows=29, codes=codes)]
    assert found.num_dropped == 0


def test_one_row_more_than_allowed_fails_the_job_with_the_numbers(make_request: MakeRequest, rows: Path) -> None:
    assert tokenized(make_request(spec=skipping(8 / 29), dataset_path=rows))
    with pytest.raises(TrainingFailed, match=r"8 of 29 training rows \(27.59%\).*at most 27.00%") as caught:
        tokenized(make_request(spec=skipping(0.27), dataset_path=rows))
    assert caught.value.reason is FailureReason.too_many_bad_rows


def test_without_skip_the_first_bad_row_fails_the_job(make_request: MakeRequest, rows: Path) -> None:
    with pytest.raises(TrainingFailed, match="Row 3 of the dataset") as caught:
        tokenized(make_request(dataset_path=rows))
    assert caught.value.reason is FailureReason.dataset_invalid


def test_a_row_that_the_template_rejects_is_skipped(make_request: MakeRequest, tmp_path: Path) -> None:
    def chat(content: str, *more: dict[str, Any]) -> str:
        return json.dumps({"messages": [*more, {"role": "user", "content": content}, ANSWER]})

    path = tmp_path / "chat.jsonl"
    system = {"role": "system", "content": "Be brief."}
    path.write_text("\n".join([chat("a"), chat("b", system), chat("c")]))
    request = make_request(spec=skipping(0.5), dataset_path=path)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    turns = "{% for m in messages %}<turn>{{ m.content }}<end>{% endfor %}"
    ask = "{% if add_generation_prompt %}<turn>{% endif %}"
    template = request.work_dir / "model"
    template.mkdir()
    for file in request.base_model_path.iterdir():
        (template / file.name).symlink_to(file)
    (template / "chat_template.jinja").write_text(refusing + turns + ask)
    found = tokenized(request.model_copy(update={"base_model_path": template}))
    [skipped] = read_skipped(found.skipped_path)
    assert (skipped["line"], skipped["code"]) == (2, "template_refused")
    assert "no system turns" in skipped["message"]


def test_the_validation_rows_are_counted_separately(make_request: MakeRequest, rows: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_bytes((GOOD + b"\n") * 8)
    files = {"dataset_path": good, "validation_path": rows, "validation_sha256": "2" * 64}
    found = tokenized(make_request(spec=skipping(0.3), **files))
    assert [event.role for event in found.skipped] == ["validation"]
    assert {each["role"] for each in read_skipped(found.skipped_path)} == {"validation"}
    with pytest.raises(TrainingFailed, match="8 of 29 validation rows") as caught:
        tokenized(make_request(spec=skipping(0.1), **files))
    assert caught.value.reason is FailureReason.too_many_bad_rows


def test_no_event_without_skipped_rows(make_request: MakeRequest) -> None:
    found = tokenized(make_request(spec=skipping(0.1)))
    assert (found.skipped, found.skipped_path) == ([], None)


def test_a_resumed_training_skips_the_same_rows_and_gives_the_same_bits(
    make_request: MakeRequest, rows: Path, tmp_path: Path
) -> None:
    common = {"spec": skipping(0.3, training={"max_steps": 6, "max_seq_len": 32}), "dataset_path": rows}
    whole, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    train(make_request(work_dir=tmp_path / "whole", **common), whole)
    train(make_request(work_dir=tmp_path / "first", **common), first)
    resolved = next(line for line in first.lines if isinstance(line, Planned)).resolved
    at = first.checkpoints()[0].path
    train(make_request(work_dir=tmp_path / "second", checkpoint_path=at, resolved=resolved, **common), second)

    assert whole.events("rows_skipped") == second.events("rows_skipped") != []
    assert first.losses() + second.losses() == whole.losses()
    folders = [tmp_path / name for name in ("whole", "second")]
    results = [load_file(folder / "result/adapter_model.safetensors") for folder in folders]
    assert all(results[0][key].equal(results[1][key]) for key in results[0])
    lists = [(folder / "reports/skipped_rows.jsonl").read_text() for folder in folders]
    assert lists[0] == lists[1]
    assert len(lists[0].splitlines()) == len(BAD)
