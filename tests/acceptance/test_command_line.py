"""Tests `tunewright` as a user types it, against the running stack."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.acceptance.conftest import Stack, Type
from tunewright import Client, TunewrightError
from tunewright.command_line import app


def test_from_a_file_to_an_adapter(type_in: Type, rows: Path, tmp_path: Path) -> None:
    assert "tiny" in type_in("models", "list").stdout
    training = ["--max-steps", 3, "--batch-size", 4, "--rank", 4, "--alpha", 8]
    posted = type_in("jobs", "create", "--model", "tiny", "--dataset", rows, *training, "--name", "cats", "--watch")
    assert "The job was created and queued." in posted.stdout
    assert "step 3/3  100%  loss" in posted.stdout
    assert "The job succeeded" in posted.stdout

    [job] = json.loads(type_in("jobs", "list", "--json", "--limit", 1).stdout)
    assert (job["name"], job["spec"]["adapter"]["rank"], job["spec"]["training"]["max_steps"]) == ("cats", 4, 3)
    assert job["id"] in type_in("jobs", "list", "--state", "succeeded").stdout
    shown = type_in("jobs", "show", job["id"]).stdout
    assert "100%, step 3 of 3, attempt 1" in shown
    assert job["adapter_id"] in shown
    type_in("jobs", "logs", job["id"])
    assert type_in("jobs", "metrics", job["id"], "--name", "loss").stdout.strip() == f"{job['id']}.csv"
    assert [row.split(",")[:2] for row in (tmp_path / f"{job['id']}.csv").read_text().splitlines()[1:]] == [
        ["loss", str(step)] for step in (1, 2, 3)
    ]

    adapters = type_in("adapters", "list", COLUMNS="300").stdout
    assert job["adapter_id"] in adapters
    assert (named := f"ft:tiny::{job['id'][-8:]}") in adapters
    assert type_in("adapters", "download", named).stdout.strip() == job["adapter_id"]
    type_in("jobs", "download", job["id"], "again")
    files = {path.name: path.read_bytes() for path in (tmp_path / job["adapter_id"]).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"} <= files.keys()
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    losses = again.pop("row_losses.csv").decode().splitlines()
    assert (losses[0], len(losses)) == ("line,num_labelled_tokens,loss,step", 13)
    steps = again.pop("step_metrics.csv").decode().splitlines()
    assert (steps[0].split(",")[:2], len(steps)) == (["step", "train_loss"], 4)
    assert files == again
    assert "--yes" in type_in("jobs", "delete", job["id"], status=1).stderr
    type_in("jobs", "delete", job["id"], "--yes")
    assert "[job_not_found]" in type_in("jobs", "show", job["id"], status=1).stderr


def test_checkpoints_are_listed_with_losses_downloaded_and_trained_from(
    type_in: Type, client: Client, rows: Path, tmp_path: Path
) -> None:
    training = {"max_steps": 3, "batch_size": 4, "save_every": 1, "eval_every": 1}
    (tmp_path / "spec.json").write_text(json.dumps({"method": "lora", "training": training, "validation_split": 0.2}))
    words = ["jobs", "create", "--spec", "spec.json", "--model", "tiny"]
    type_in(*words, "--dataset", rows, "--watch")
    job = next(client.list_jobs())
    checkpoints = client.checkpoints(job.id)
    title, *lines = type_in("checkpoints", "list", job.id, COLUMNS="200").stdout.splitlines()
    assert re.findall(r"(?:validation )?(?:loss|accuracy)", title) == ["loss", "validation loss", "validation accuracy"]
    for line, each in zip(lines, checkpoints, strict=True):
        losses = [f"{each.metrics[name]:.4f}" for name in ("loss", "validation_loss")]
        assert line.split()[:5] == [each.id, each.name, str(each.step), *losses]
    last = checkpoints[0]
    assert type_in("checkpoints", "download", job.id, last.step).stdout.strip() == last.id
    assert {path.name for path in (tmp_path / last.id).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert "[checkpoint_not_found]" in type_in("checkpoints", "download", job.id, 99, status=1).stderr

    dataset = job.spec["dataset_id"]
    more = ["--dataset", dataset, "--init-from", last.name, "--max-steps", 100_000, "--json"]
    posted = json.loads(type_in(*words, *more).stdout)
    assert posted["spec"]["init_from"] == last.name
    client.cancel_job(posted["id"])


def test_workers_stay_online_while_they_train(type_in: Type, rows: Path) -> None:
    def workers() -> dict[str, Any]:
        """Return the online workers by their queue."""
        return {each["queues"][0]: each for each in json.loads(type_in("workers", "--json").stdout) if each["online"]}

    assert workers().keys() == {"light", "training"}
    # The dataset is inspected first, so that the job waits only for its project's limit.
    dataset = json.loads(type_in("datasets", "upload", rows, "--json").stdout)["id"]
    words = ["--model", "tiny", "--dataset", dataset, "--max-steps", 100_000, "--json"]
    job = json.loads(type_in("jobs", "create", *words).stdout)
    until = time.monotonic() + 60
    while not workers()["training"]["busy"]:
        assert time.monotonic() < until
    began = workers()["training"]["seen_at"]
    time.sleep(3)
    training = workers()["training"]
    assert (training["busy"], training["online"]) == (True, True)
    assert training["seen_at"] > began
    assert not workers()["light"]["busy"]
    assert {"busy", "idle"} <= set(type_in("workers").stdout.split())

    waiting = json.loads(type_in("jobs", "create", *words, "--label", "pool=demo").stdout)
    assert waiting["spec"]["resources"]["labels"] == training["labels"] == {"pool": "demo"}
    output = type_in("workers", "--job", waiting["id"]).stdout
    assert "The worker is busy with other work." in output
    assert "The worker does not train; its queues are light." in output
    assert "1st in queue" in type_in("jobs", "show", waiting["id"]).stdout
    assert "at most 1 running jobs" in type_in("projects", "set-limit", "default", 1).stdout
    assert "limit of 1 running job is reached" in type_in("jobs", "show", waiting["id"]).stdout
    assert "no limit" in type_in("projects", "set-limit", "default", "none").stdout
    for each in (waiting, job):
        type_in("jobs", "cancel", each["id"])
    type_in("jobs", "watch", job["id"], status=1)


def test_a_job_is_posted_once_paused_resumed_and_retried(type_in: Type, rows: Path) -> None:
    dataset = json.loads(type_in("datasets", "upload", rows, "--json").stdout)["id"]
    words = ["--model", "tiny", "--dataset", dataset, "--max-steps", 100_000, "--json", "--idempotency-key", "by hand"]
    words += ["--skip-bad-rows", 0.05]
    job, same = (json.loads(type_in("jobs", "create", *words).stdout) for _ in range(2))
    assert same == job
    assert job["spec"]["on_bad_rows"] == {"action": "skip", "max_share": 0.05}
    assert f"{job['id']} is paus" in type_in("jobs", "pause", job["id"]).stdout
    assert f"{job['id']} is queued" in type_in("jobs", "resume", job["id"]).stdout
    type_in("jobs", "cancel", job["id"])
    type_in("jobs", "watch", job["id"], status=1)
    assert "[job_finished]" in type_in("jobs", "pause", job["id"], status=1).stderr
    again = type_in("jobs", "retry", job["id"]).stdout.split()[0]
    assert job["id"] in type_in("jobs", "show", again).stdout
    type_in("jobs", "cancel", again)


def test_options_override_the_spec_file(type_in: Type, rows: Path, tmp_path: Path) -> None:
    uploaded = json.loads(type_in("datasets", "upload", rows, "--json").stdout)
    spec = {"base_model": "tiny", "training": {"max_steps": 9, "batch_size": 2}, "metadata": {"team": "cats"}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    words = ["--spec", "spec.json", "--dataset", uploaded["id"], "--max-steps", 100_000, "--json"]
    job = json.loads(type_in("jobs", "create", *words).stdout)
    assert (job["spec"]["training"]["max_steps"], job["spec"]["training"]["batch_size"]) == (100_000, 2)
    assert job["id"] in type_in("jobs", "list", "--metadata", "team=cats").stdout
    assert type_in("jobs", "list", "--metadata", "team=dogs").stdout == "(none)\n"
    assert "cancel" in type_in("jobs", "cancel", job["id"]).stdout
    ended = type_in("jobs", "watch", job["id"], status=1)
    assert "The job was cancelled." in ended.stdout
    assert "[job_cancelled]" in ended.stderr


def test_every_invalid_field_of_a_spec_is_reported_before_the_upload(type_in: Type, client: Client, rows: Path) -> None:
    rows.write_text(rows.read_text().replace("cat", "dog"))  # bytes that no other test uploads
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    words = ["--model", "nosuch", "--dataset", rows, "--rank", 0]
    errors = type_in("jobs", "create", *words, status=1).stderr
    assert errors.startswith("tunewright: ")
    assert "[invalid_spec]" in errors.splitlines()[0]
    assert {"/adapter/rank", "/training"} <= {line.split(":")[0].strip() for line in errors.splitlines()[1:]}
    assert "/dataset_id" not in errors
    assert not list(client.list_datasets(sha256=digest)), "the spec is checked before the upload"


def test_the_same_file_is_uploaded_once_and_an_invalid_one_refers_to_its_problems(
    type_in: Type, client: Client, rows: Path, tmp_path: Path
) -> None:
    words = ["jobs", "create", "--model", "tiny", "--max-steps", 100_000, "--json", "--dataset"]
    uploaded = client.wait_for_dataset(client.upload_dataset(rows).id)
    job = type_in(*words, rows)
    assert f"Using dataset {uploaded.id}" in job.stderr
    assert json.loads(job.stdout)["spec"]["dataset_id"] == uploaded.id
    client.cancel_job(json.loads(job.stdout)["id"])

    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnonsense\n')
    errors = type_in(*words[:-1], "--skip-bad-rows", 0.1, "--watch", "--dataset", "bad.jsonl", status=1).stderr
    assert "1 of its 2 rows are bad (50.00%), more than the 10.00% that on_bad_rows allows" in errors
    assert "line 2" in errors
    assert re.search(r"too_many_bad_rows\)\. See: tunewright datasets problems file-[0-9a-f]{24} ", errors)
    assert "jobs logs" not in errors


def test_a_file_with_mapped_columns_is_reused_only_with_the_same_mapping(
    type_in: Type, client: Client, rows: Path
) -> None:
    words = ["jobs", "create", "--model", "tiny", "--max-steps", 100_000, "--json", "--dataset"]
    plain = client.wait_for_dataset(client.upload_dataset(rows).id)
    swapped = ["--map", "prompt=completion", "--map", "completion=prompt"]
    mapped = type_in(*words, rows, *swapped)
    [id] = {json.loads(mapped.stdout)["spec"]["dataset_id"]} - {plain.id}
    dataset = client.wait_for_dataset(id)
    assert (dataset.state, dataset.columns) == ("ready", {"prompt": "completion", "completion": "prompt"})
    assert dataset.sha256 == plain.sha256
    again = type_in(*words, rows, *swapped)
    assert f"Using dataset {id}" in again.stderr
    unmapped = type_in(*words, rows)
    assert f"Using dataset {plain.id}" in unmapped.stderr
    for posted in (mapped, again, unmapped):
        client.cancel_job(json.loads(posted.stdout)["id"])
    for arguments, message in (
        ((plain.id, *swapped), "an existing dataset cannot be changed"),
        ((rows, "--map", "x"), "FIELD=KEY"),
    ):
        refused = type_in(*words, *arguments, status=2).stderr
        assert message in " ".join(refused.replace("│", "").split())


def test_a_dataset_is_inspected_shown_and_deleted(type_in: Type, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnonsense \x1b[31m\n')
    refused = type_in("datasets", "upload", "bad.jsonl", status=1).stdout
    assert "invalid" in refused
    assert "line 2" in refused
    assert "\x1b" not in refused
    (tmp_path / "other.csv").write_text("input,output\na,b\n")
    words = ["--map", "prompt=input", "--map", "completion=output"]
    assert "prompt=input, completion=output" in type_in("datasets", "upload", "other.csv", *words).stdout
    dataset = json.loads(type_in("datasets", "upload", rows, "--json").stdout)
    assert (dataset["state"], dataset["num_examples"]) == ("ready", 12)
    shown = type_in("datasets", "show", dataset["id"]).stdout
    assert dataset["sha256"] in shown
    assert dataset["format_reason"] in shown
    type_in("datasets", "delete", dataset["id"], "--yes")
    assert dataset["id"] not in type_in("datasets", "list").stdout


def test_a_project_is_created_used_only_with_its_own_key_and_deleted(type_in: Type, stack: Stack, rows: Path) -> None:
    type_in("projects", "create", "elsewhere", "--data-dir", stack.data, TUNEWRIGHT_DATA_DIR="/nowhere")
    key = type_in("keys", "create", "--project", "elsewhere", "--read-only").stdout.strip()
    with Client(stack.server["url"], key) as client:
        assert list(client.list_jobs()) == []
        with pytest.raises(TunewrightError) as caught:
            client.delete_job("ftjob-0")
        assert caught.value.status == 403
        deleted = type_in("projects", "delete", "elsewhere", "--yes")
        assert "api_keys" in deleted.stdout
        assert "Remaining: 0 rows" in deleted.stdout
        with pytest.raises(TunewrightError) as caught:
            list(client.list_jobs())
    assert caught.value.status == 401
    assert "No project has the name 'elsewhere'" in type_in("keys", "create", "--project", "elsewhere", status=1).stderr


def test_the_data_dir_option_overrides_the_environment(
    type_in: Type, stack: Stack, client: Client, tiny_model: Path
) -> None:
    elsewhere = {"TUNEWRIGHT_DATA_DIR": "/nowhere", "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    where = "--data-dir", stack.data
    assert (
        "tiny2: LlamaForCausalLM" in type_in("models", "add", "tiny2", "--path", tiny_model, *where, **elsewhere).stdout
    )
    assert client.get_model("tiny2").state == "ready"
    type_in("models", "remove", "tiny2", *where, **elsewhere)
    assert "tiny2" not in [model.name for model in client.models()]
    assert "default" in type_in("projects", "list", *where, **elsewhere).stdout
    key = type_in("keys", "create", "--read-only", *where, **elsewhere).stdout.strip()
    with Client(stack.server["url"], key) as reader:
        assert reader.get_model("tiny").state == "ready"
    for command in (("models", "remove", "tiny2"), ("keys", "create"), ("projects", "list")):
        error = type_in(*command, status=1, TUNEWRIGHT_DATA_DIR="/nowhere").stderr
        assert "No server is running on /nowhere" in error


def test_an_error_is_one_line(type_in: Type, tmp_path: Path) -> None:
    lines = [
        type_in("jobs", "show", "nonsense", status=1).stderr,
        type_in("jobs", "list", status=1, TUNEWRIGHT_API_KEY="tw_wrong").stderr,
        type_in("jobs", "list", status=1, TUNEWRIGHT_URL="http://127.0.0.1:1").stderr,
        type_in("jobs", "list", status=1, TUNEWRIGHT_DATA_DIR=str(tmp_path)).stderr,
        type_in("keys", "create", status=1, TUNEWRIGHT_DATA_DIR=str(tmp_path)).stderr,
        type_in("datasets", "upload", "nosuch.jsonl", status=1).stderr,
        type_in("models", "add", "other", "--path", tmp_path, status=1).stderr,
    ]
    for line in lines:
        assert line.count("\n") == 1, line
    codes = [line.rstrip("]\n").rpartition("[")[2] for line in lines[:5]]
    assert codes == ["job_not_found", "unauthorized", "connection_failed", "no_server", "no_server"]


COMMANDS = (
    "",
    "up",
    "keys create",
    "keys list",
    "keys revoke",
    "keys rotate",
    "projects create",
    "projects list",
    "projects set-limit",
    "projects delete",
    "models add",
    "models list",
    "models remove",
    "datasets upload",
    "datasets list",
)
COMMANDS += "datasets show", "datasets delete", "jobs create", "jobs list", "jobs show", "jobs watch", "jobs cancel"
COMMANDS += "jobs pause", "jobs resume", "jobs retry"
COMMANDS += "checkpoints list", "checkpoints download"
COMMANDS += (
    "jobs delete",
    "jobs logs",
    "jobs download",
    "workers",
    "projects set-labels",
    "adapters list",
    "adapters show",
    "adapters download",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="tunewright")
    assert done.exit_code == 0
    usage, blank, explanation, *_ = done.stdout.splitlines()
    assert usage.startswith(f"Usage: tunewright {command}".rstrip())
    assert (blank, explanation.startswith("  ")) == ("", True)
