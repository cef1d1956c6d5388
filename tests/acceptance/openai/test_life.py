"""Tests a job with OpenAI's own client: a file, a training, and its results."""

import csv
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.acceptance.openai.conftest import chats
from tunewright import Client

STEPS = list(range(1, 10))
"""Lists the steps of three epochs of 24 rows, eight a step."""


def test_auto_is_resolved_to_numbers(trained: Any, client: Client) -> None:
    resolved = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
    assert trained.hyperparameters.model_dump(exclude_none=True) == resolved
    assert trained.method.supervised.hyperparameters.model_dump(exclude_none=True) == resolved
    assert (trained.model, trained.seed, trained.metadata) == ("tiny", 7, {"team": "colours"})
    assert (trained.error, trained.estimated_finish) == (None, None)
    assert trained.finished_at >= trained.created_at
    assert trained.trained_tokens > 0
    spec = client.get_job(trained.id).spec
    assert (spec["method"], spec["training"]["save_every"], spec["training"]["learning_rate"]) == ("lora", 3, "auto")
    assert trained.tunewright["spec"] == spec
    assert [each["training"]["learning_rate"] for each in trained.tunewright["resolved"]] == [2e-4]


def test_events_report_messages_and_metrics(sdk: OpenAI, trained: Any, client: Client) -> None:
    events = list(sdk.fine_tuning.jobs.list_events(trained.id, limit=5))
    assert len({event.id for event in events}) == len(events)
    messages = [event for event in reversed(events) if event.type == "message"]
    assert [event.message for event in messages] == [event.message for event in client.events(trained.id)]
    points = [event.data for event in reversed(events) if event.type == "metrics"]
    assert [point["step"] for point in points if "train_loss" in point] == STEPS
    assert [point["step"] for point in points if "valid_loss" in point] == [3, 6, 9]


def test_checkpoints_have_metrics(sdk: OpenAI, trained: Any, client: Client) -> None:
    """The last step has no checkpoint, since the result follows at once. A checkpoint that waits to be stored is
    replaced by the next one."""
    checkpoints = list(sdk.fine_tuning.jobs.checkpoints.list(trained.id, limit=1))
    assert [each.step_number for each in checkpoints] in ([6, 3], [6])
    for theirs, ours in zip(checkpoints, client.checkpoints(trained.id), strict=True):
        assert (theirs.id, theirs.fine_tuned_model_checkpoint) == (ours.id, ours.name)
        assert theirs.fine_tuned_model_checkpoint == f"{trained.fine_tuned_model}:ckpt-step-{theirs.step_number}"
        assert theirs.metrics.train_loss == ours.metrics["loss"]
        assert theirs.metrics.valid_loss == theirs.metrics.full_valid_loss == ours.metrics["validation_loss"]
        assert theirs.metrics.valid_mean_token_accuracy == ours.metrics["validation_token_accuracy"]
        assert sdk.models.retrieve(theirs.fine_tuned_model_checkpoint).id == ours.name


def test_results_are_files(sdk: OpenAI, trained: Any, client: Client) -> None:
    made = {artifact.kind: artifact for artifact in client.artifacts(trained.id)}
    shown = [made["step_metrics"], made["adapter_archive"]]
    assert trained.result_files == [each.id for each in shown]
    table, archive = (sdk.files.content(id).content for id in trained.result_files)
    for content, artifact in zip((table, archive), shown, strict=True):
        file = sdk.files.retrieve(artifact.id)
        assert (file.bytes, file.purpose, file.status) == (artifact.size, "fine-tune-results", "processed")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (artifact.size, artifact.sha256)
    assert {*trained.result_files} <= {file.id for file in sdk.files.list(purpose="fine-tune-results")}
    assert table.partition(b"\n")[0].strip() == b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert [int(row["step"]) for row in rows] == STEPS
    assert [int(row["step"]) for row in rows if row["valid_loss"]] == [3, 6, 9]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(tar.getnames())


def test_both_faces_show_the_same_files_and_jobs(sdk: OpenAI, client: Client, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(chats())
    dataset = client.wait_for_dataset(client.upload_dataset(tmp_path / "rows.jsonl").id)
    file = sdk.files.retrieve(dataset.id)
    assert (file.bytes, file.filename, file.status) == (dataset.bytes, "rows.jsonl", "processed")
    assert sdk.files.content(file.id).content == chats()
    assert client.get_dataset(trained.training_file).sha256 == hashlib.sha256(chats()).hexdigest()

    nowhere = {"min_memory_gb": 10_000}
    spec = {"base_model": "tiny", "dataset_id": dataset.id, "training": {"max_steps": 9}, "resources": nowhere}
    job = client.create_job(**spec, metadata={"made by": "us", "team": "none"})
    found = sdk.fine_tuning.jobs.list(metadata={"made by": "us"}).data
    assert [each.id for each in found] == [job.id]
    assert [each.id for each in client.list_jobs(metadata={"team": "colours"})] == [trained.id]
    assert (found[0].training_file, found[0].hyperparameters.n_epochs) == (dataset.id, None)
    assert sdk.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert client.wait(job.id).state == "cancelled"
    with pytest.raises(openai.ConflictError) as final:
        sdk.fine_tuning.jobs.cancel(job.id)
    assert (final.value.code, final.value.param) == ("job_finished", "fine_tuning_job_id")
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as not_found:
        sdk.files.retrieve(file.id)
    assert (not_found.value.code, not_found.value.param) == ("file_not_found", "file_id")
    assert dataset.id not in {each.id for each in client.list_datasets()}
