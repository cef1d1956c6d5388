"""Tests tokenizing in a separate process."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from transformers import AutoTokenizer

from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import make_spec
from worker.training.data.dataset import Examples
from worker.training.rows.tokenize import TokenizingHere
from worker.training.rows.tokenizer_process import TokenizingProcess
from worker.training.runtime.channel import StopAsked
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]


def nothing() -> None:
    return


def hurry() -> None:
    raise StopAsked


@pytest.fixture
def process() -> Iterator[TokenizingProcess]:
    started = TokenizingProcess()
    yield started
    started.close()


def rows_of(path: Path) -> list[tuple[int, list[int], list[bool]]]:
    return [(row.line, row.ids.tolist(), row.labelled.tolist()) for row in Examples.of(path)]


def test_the_process_and_the_function_give_the_same(
    process: TokenizingProcess, make_request: MakeRequest, tmp_path: Path
) -> None:
    chat = {"messages": [{"role": "user", "content": "a<eos>"}, {"role": "assistant", "content": "b"}]}
    path = tmp_path / "chat.jsonl"
    path.write_text((json.dumps(chat) + "\n") * 3 + json.dumps({"messages": chat["messages"] * 200}) + "\n")
    spec = make_spec(training={"max_seq_len": 64, "train_on": "assistant"})
    files = {"spec": spec, "dataset_path": path, "validation_path": path, "validation_sha256": "2" * 64}
    here, beside = make_request(**files), make_request(work_dir=tmp_path / "beside", **files)

    assert process.preload(beside.base_model_path) == beside.base_model_path
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    process.begin(beside)
    found = process.rows(nothing)
    in_process = TokenizingHere()
    in_process.begin(here)
    expected = in_process.rows(nothing)

    paths = {"training_path", "validation_path"}
    assert found.model_dump(exclude=paths) == expected.model_dump(exclude=paths)
    assert (found.num_truncated, found.num_literal_special_tokens, found.chat_template) == (1, 406, "tunewright-chat-1")
    assert rows_of(found.training_path) == rows_of(expected.training_path)
    assert found.validation_path is not None
    assert len(rows_of(found.validation_path)) == 4
    folders = process.tokenizer(), in_process.tokenizer()
    assert folders[0].parent.parent == beside.work_dir
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]
    assert "tokenizer.json" in contents[0]


def test_any_selection_gives_the_examples_of_the_file(make_request: MakeRequest) -> None:
    tokenizing = TokenizingHere()
    tokenizing.begin(make_request())
    rows = Examples.of(tokenizing.rows(nothing).training_path)
    chosen = rows.choose([5, 2])[1:]
    assert [row.line for row in chosen] == [3]
    assert chosen[0].ids.equal(rows[2].ids)
    assert rows.num_tokens == sum(len(row.ids) for row in rows)
    assert rows.num_labelled == sum(row.num_labelled for row in rows)
    assert rows[3:].longest == max(row.num_inputs for row in rows[3:])
    assert rows[-1].line == rows[len(rows) - 1].line == 24


def test_a_failure_keeps_its_reason(process: TokenizingProcess, make_request: MakeRequest, tmp_path: Path) -> None:
    path = tmp_path / "hopeless.jsonl"
    path.write_text(json.dumps({"prompt": "a" * 100, "completion": "b"}) + "\n")
    process.begin(make_request(spec=make_spec(training={"max_seq_len": 8}), dataset_path=path))
    with pytest.raises(TrainingFailed, match="None of the 1 rows") as caught:
        process.rows(nothing)
    assert caught.value.reason is FailureReason.no_labelled_tokens


def test_a_failure_keeps_its_reason_if_its_trace_cannot_be_written(make_request: MakeRequest, tmp_path: Path) -> None:
    stderr = os.dup(2)
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), 2)
    process = TokenizingProcess()
    os.dup2(stderr, 2)
    os.close(stderr)
    process.begin(make_request(base_model_path=tmp_path / "nowhere"))
    with pytest.raises(TrainingFailed, match="tokenizer") as caught:
        process.rows(nothing)
    process.close()
    assert caught.value.reason is FailureReason.model_unusable


def test_a_model_whose_tokenizer_cannot_be_loaded(
    process: TokenizingProcess, make_request: MakeRequest, tmp_path: Path
) -> None:
    """Check a standby process too: it continues after the failed preload, and the job reports the error."""
    assert process.preload(tmp_path / "nowhere") is None
    process.begin(make_request(base_model_path=tmp_path / "nowhere"))
    with pytest.raises(TrainingFailed, match="tokenizer") as caught:
        process.rows(nothing)
    assert caught.value.reason is FailureReason.model_unusable


def test_a_killed_process_is_a_failure(process: TokenizingProcess, make_request: MakeRequest) -> None:
    process.preload(None)
    os.kill(process.pid, signal.SIGSTOP)
    process.begin(make_request())
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TrainingFailed, match="exit code -9") as caught:
        process.rows(nothing)
    assert caught.value.reason is FailureReason.training_process_died


def test_a_process_that_cannot_start_is_reported_at_once(process: TokenizingProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TrainingFailed, match="exit code -9"):
        process.preload(None)
    assert not process.is_alive()


def test_a_dead_process_is_detected_before_its_reader_has_reaped_it(process: TokenizingProcess) -> None:
    assert process.is_alive()
    with process._process._waitpid_lock:  # type: ignore[attr-defined]  # as the reader does
        os.kill(process.pid, signal.SIGKILL)
        psutil.Process(process.pid).wait(timeout=10)
        assert not process.is_alive()
    process.close()
    assert not process.is_alive()


def test_a_stop_does_not_wait_for_it(process: TokenizingProcess, make_request: MakeRequest) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    process.begin(make_request())
    asked = time.monotonic()
    with pytest.raises(StopAsked):
        process.rows(hurry)
    process.close()
    assert time.monotonic() - asked < 2


def test_a_result_does_not_fail_if_the_process_wrote_no_tokenizer(
    process: TokenizingProcess, make_request: MakeRequest
) -> None:
    process.begin(make_request())
    process.rows(nothing)
    process.close()
    assert AutoTokenizer.from_pretrained(process.tokenizer()).eos_token_id == 2
