"""Tests the main job through the running stack: upload, train, watch, download. Only the model is tiny."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import ROOT, Stack, paused
from tunewright import Client, Event, Job, MetricPoint, TunewrightError

README = (ROOT / "README.md").read_text()
LOAD_WITH_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
ids = tokenizer("The cat", return_tensors="pt").input_ids
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
plain = model(ids).logits
adapted = PeftModel.from_pretrained(model, adapter)
assert not torch.equal(adapted(ids).logits, plain), "the adapter changes nothing"
with adapted.disable_adapter():
    assert torch.equal(adapted(ids).logits, plain), "the base was changed"
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": f"The cat number {n}", "completion": f" sat on mat {n % 3}."}) for n in range(24)]
    path.write_text("\n".join(lines) + "\n")
    return path


def submit(client: Client, rows: Path, **fields: Any) -> Job:
    dataset = client.upload_dataset(rows)
    spec = {"base_model": "tiny", "training": {"max_steps": 6, "batch_size": 4, "save_every": 2}} | fields
    return client.create_job(dataset_id=dataset.id, **spec)


def wait_for_state(client: Client, job_id: str, *states: str, seconds: float = 120) -> Job:
    end = time.monotonic() + seconds
    while (job := client.get_job(job_id)).state not in states:
        assert time.monotonic() < end, f"{job} {client.logs(job_id)}"
        assert job.state not in ("failed", "succeeded", "cancelled"), f"{job} {client.logs(job_id)}"
        time.sleep(0.2)
    return job


def test_qlora_from_upload_to_an_adapter_that_peft_loads(
    client: Client, rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    job = submit(client, rows, validation_split=0.25, suffix="cats")
    updates = list(client.watch(job.id))
    done = wait_for_state(client, job.id, "succeeded")
    assert (done.step, done.total_steps, done.progress) == (6, 6, 1.0)
    (decided,) = done.resolved
    assert decided["attempt"] == 1
    assert decided["training"]["gradient_checkpointing"] in (True, False)
    assert (decided["training"]["learning_rate"], decided["training"]["max_seq_len"]) == (2e-4, 512)
    assert decided["resources"] == {"device": "cpu"}
    assert (done.spec["adapter"]["alpha"], decided["adapter"]) == ("auto", {"alpha": 32.0})
    assert decided["quantization"]["compute_dtype"] == decided["engine"]["compute_dtype"] != "auto"

    steps = [each.step for each in updates if isinstance(each, MetricPoint) and "loss" in each.values]
    assert steps == [1, 2, 3, 4, 5, 6]
    kinds = [each.type for each in updates if isinstance(each, Event)]
    assert kinds[:2] == ["job_created", "job_claimed"]
    assert {"dataset_prepared", "model_loaded", "checkpoint_saved", "evaluated"} <= set(kinds)
    assert kinds[-1] == "job_succeeded"
    assert [line for line in client.logs(done.id).splitlines() if "Warning" in line] == []

    assert done.adapter_id
    folder = client.download_adapter(done.adapter_id, tmp_path / "adapter")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, file in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"]
    assert manifest["spec"] == done.spec
    assert {"attempt": 1, **manifest["resolved"]} == {name: part for name, part in decided.items() if part is not None}
    again = client.create_job(**done.spec)
    client.cancel_job(again.id)
    assert again.spec == done.spec, "the spec names no machine, and its `auto` values stay"
    assert {again.spec["training"][field] for field in ("gradient_checkpointing", "learning_rate", "max_seq_len")} == {
        "auto"
    }
    assert (again.spec["resources"]["device"], again.spec["quantization"]["compute_dtype"]) == ("auto", "auto")
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    command = [sys.executable, "-c", LOAD_WITH_PEFT, str(tiny_model), str(folder)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr

    archive = client.download_archive(done.adapter_id, tmp_path / "adapter.tar")
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == sorted(path.name for path in folder.iterdir())


def test_the_readmes_python_example_works(stack: Stack, rows: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(from tunewright import Client\n.*?)```", README, re.S)
    assert "gemma-3-270m" in code
    (tmp_path / "tickets.jsonl").write_bytes(rows.read_bytes())
    variables = {
        "TUNEWRIGHT_URL": stack.server["url"],
        "TUNEWRIGHT_API_KEY": (stack.data / "api_key").read_text().strip(),
    }
    command = [sys.executable, "-c", code.replace("gemma-3-270m", "tiny")]
    env = stack.environment() | variables
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PeftModel.from_pretrained" in (tmp_path / "adapter/README.md").read_text()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_other_methods_train(client: Client, rows: Path, method: str) -> None:
    job = submit(client, rows, method=method)
    done = client.wait(job.id)
    assert done.state == "succeeded", f"{done} {client.logs(job.id)}"
    paths = {artifact.path for artifact in client.artifacts(job.id)}
    expected = {"adapter_model.safetensors", "adapter.tar"} if method == "lora" else {"model.safetensors"}
    assert expected | {"manifest.json", "README.md", "row_losses.csv"} <= paths
    assert (done.adapter_id is not None) == (method == "lora")


def test_a_job_reports_how_soon_it_trained_and_a_later_one_uses_the_standby_process(client: Client, rows: Path) -> None:
    """The first jobs may start before the standby process is loaded, on a busy machine even some seconds after the
    previous job."""
    for pause in (5, 20, 60, 0):
        job = wait_for_state(client, submit(client, rows, training={"max_steps": 1}).id, "succeeded")
        [started] = [event.data for event in client.events(job.id) if event.type == "training_started"]
        assert 0 < started["parity_seconds"] < started["seconds_since_claimed"] < started["seconds_since_created"]
        if started["used_standby_process"]:
            break
        time.sleep(pause)
    assert started["used_standby_process"]


def test_a_running_job_is_cancelled(client: Client, rows: Path) -> None:
    job = submit(client, rows, training={"max_steps": 100_000, "batch_size": 4})
    wait_for_state(client, job.id, "running")
    while client.get_job(job.id).step == 0:
        time.sleep(0.2)
    began = time.monotonic()
    assert client.cancel_job(job.id).state == "cancelling"
    wait_for_state(client, job.id, "cancelled", seconds=15)
    assert time.monotonic() - began < 15
    with pytest.raises(TunewrightError) as refused:
        client.cancel_job(job.id)
    assert refused.value.code == "job_finished"


def test_an_invalid_dataset_fails_the_job_that_waits_for_its_inspection(
    client: Client, stack: Stack, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": ""}\n')
    dataset = client.upload_dataset(bad)
    with paused(stack, "light@"):
        dataset = client.upload_dataset(bad)
        job = client.create_job(base_model="tiny", dataset_id=dataset.id, training={"epochs": 1})
        assert job.waiting_for == "its dataset is being inspected"
    done = client.wait(job.id)
    assert (done.state, done.failure and done.failure["reason"]) == ("failed", "dataset_invalid")
    with pytest.raises(TunewrightError) as refused:
        client.create_job(base_model="tiny", dataset_id=dataset.id, training={"epochs": 1})
    assert [error.code for error in refused.value.errors] == ["dataset_invalid"]


def test_bad_rows_are_skipped_and_listed(client: Client, rows: Path, tmp_path: Path) -> None:
    """Skip rows of a CSV file, whose rows are numbered, and of a validation dataset; both datasets are invalid."""
    table = tmp_path / "table.csv"
    lines = [f"The cat number {n}, sat on mat {n % 3}." for n in range(1, 25)]
    lines[4], lines[6] = "ragged", "The cat number 7,"
    table.write_text("prompt,completion\n" + "\n".join(lines) + "\n")
    validation = tmp_path / "judged.jsonl"
    validation.write_text(rows.read_text() + '\n{"prompt": "a", "completion": 1}\n')
    datasets = [client.upload_dataset(path).id for path in (table, validation)]
    spec = {"base_model": "tiny", "dataset_id": datasets[0], "validation_dataset_id": datasets[1]}
    skip = {"action": "skip", "max_share": 0.1}
    done = client.wait(client.create_job(**spec, on_bad_rows=skip, training={"max_steps": 2}).id)
    assert done.state == "succeeded", f"{done} {client.logs(done.id)}"
    assert [client.get_dataset(id).state for id in datasets] == ["invalid", "invalid"]

    events = {event.data["role"]: event.data for event in client.events(done.id) if event.type == "rows_skipped"}
    assert (events["training"]["num_skipped"], events["training"]["num_rows"]) == (2, 24)
    assert (events["validation"]["num_skipped"], events["validation"]["num_rows"]) == (1, 25)
    folder = client.download_artifacts(done.id, tmp_path / "made")
    listed = [json.loads(line) for line in (folder / "skipped_rows.jsonl").read_text().splitlines()]
    assert [(each["role"], each["line"], each["code"]) for each in listed] == [
        ("training", 5, "ragged_row"),
        ("training", 7, "no_trainable_text"),
        ("validation", 26, "wrong_type"),
    ]
    trained = {int(line.split(",")[0]) for line in (folder / "row_losses.csv").read_text().splitlines()[1:]}
    assert trained < set(range(1, 25)) - {5, 7}

    with pytest.raises(TunewrightError) as refused:
        client.create_job(**spec, on_bad_rows=skip | {"max_share": 0.05}, training={"max_steps": 2})
    assert [(error.pointer, error.code) for error in refused.value.errors] == [("/dataset_id", "too_many_bad_rows")]


def test_deleting_a_job_deletes_its_bytes(client: Client, stack: Stack, rows: Path) -> None:
    job = submit(client, rows, training={"max_steps": 1, "batch_size": 4})
    done = client.wait(job.id)
    assert done.state == "succeeded", client.logs(job.id)
    folders = list((stack.data / "storage").glob(f"*/jobs/{job.id}"))
    assert len(folders) == 1
    client.delete_job(job.id)
    end = time.monotonic() + 60
    while any(path.is_file() for path in folders[0].rglob("*")):
        assert time.monotonic() < end
        time.sleep(0.5)


def test_a_request_without_a_key_is_unauthorized(stack: Stack) -> None:
    answer = httpx2.get(f"{stack.server['url']}/jobs")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
