"""Tests what operators use: the output of `tunewright up`, the status, the log, and a support bundle."""

import json
import re
import shlex
import subprocess
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests.acceptance.conftest import Stack, Type, environment, paused
from tunewright import Client

MARKER = "c4n4ryV4lue"


def test_up_prints_commands_that_work(stack: Stack, client: Client, tiny_model: Path, tmp_path: Path) -> None:
    """Run the commands as copied into another terminal, with the model's folder filled in."""
    printed = stack.data.with_name(stack.data.name + ".log").read_text()
    commands = re.findall(r"^  (\S.*)$", printed, re.M)
    suggested = {
        word: next(line for line in commands if word in line) for word in ("export", "status", "models add", "curl")
    }
    assert str(stack.data) in suggested["export"]
    script = "\n".join((suggested["export"], suggested["models add"].replace("FOLDER", shlex.quote(str(tiny_model)))))
    kept = {name: value for name, value in environment(stack.data).items() if name != "TUNEWRIGHT_DATA_DIR"}
    done = subprocess.run(["/bin/sh", "-c", script], env=kept, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "my-model" in {model.name for model in client.models()}
    remove = suggested["models add"].partition("models add")[0] + "models remove my-model"
    subprocess.run(["/bin/sh", "-c", f"{suggested['export']}\n{remove}"], env=kept, cwd=tmp_path, check=True)
    assert stack.server["url"] in suggested["curl"]
    assert str(stack.data / "api_key") in suggested["curl"]


def test_every_error_is_found_in_the_log_by_its_request_id(stack: Stack, client: Client) -> None:
    key = (stack.data / "api_key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    url = stack.server["url"]
    answers = [httpx2.get(f"{url}{path}?token={MARKER}", headers=headers) for path in ("/jobs/none", "/v1/none", "/")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    log, end = stack.data / "logs" / "api.log", time.monotonic() + 10
    while ids[-1] not in (text := log.read_text()):  # the line is written after the response has ended
        assert time.monotonic() < end, text
        time.sleep(0.02)
    lines = {line["request_id"]: line for line in map(json.loads, re.findall(r"^\{.*\}$", text, re.M))}
    logged = [lines[id] for id in ids]
    assert [(line["route"], line["status"]) for line in logged] == [("/jobs/{id}", 422), (None, 404), ("/", 200)]
    assert logged[0]["key"] == "key-" + key.split("_")[1]
    assert key not in text
    assert MARKER not in text


def test_status_shows_what_runs_and_sets_the_exit_status(type_in: Type, stack: Stack) -> None:
    output = type_in("status").stdout
    assert output.startswith(f"Tunewright {version('tunewright')}: all parts respond")
    assert re.search(r"training workers\s+1 online", output)
    assert re.search(r"jobs\s+\d+ queued, \d+ running", output)
    status = json.loads(type_in("status", "--json").stdout)
    assert (status["ok"], status["version"], status["database"]) == (True, version("tunewright"), "ok")
    assert len(status["online_workers"]) == 2
    assert type_in("--version").stdout == f"tunewright {version('tunewright')}\n"
    type_in("status", status=1, TUNEWRIGHT_URL="http://127.0.0.1:1")


def test_status_names_what_is_missing(type_in: Type, stack: Stack) -> None:
    """Take the light worker offline, as an expired lease does."""
    with database(stack) as connection, paused(stack, "queues light"):
        connection.execute("UPDATE workers SET online_until = now() WHERE queues = '{light}'")
        output = type_in("status", status=1).stdout
    assert output.startswith(f"Tunewright {version('tunewright')}: no light worker is online")
    assert "none online; datasets are not inspected" in output


def database(stack: Stack) -> psycopg.Connection[Any]:
    return psycopg.connect(stack.server["database_url"].replace("+psycopg", ""), autocommit=True)


def unpack(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as bundle:
        return {name.partition("/")[2]: bundle.read(name).decode() for name in bundle.namelist()}


def test_a_support_bundle_contains_everything_but_secrets(
    type_in: Type, stack: Stack, rows: Path, tmp_path: Path
) -> None:
    key = (stack.data / "api_key").read_text().strip()
    words = ["--model", "tiny", "--dataset", rows, "--max-steps", 100_000, "--metadata", f"password={MARKER}"]
    job = json.loads(type_in("jobs", "create", *words, "--name", f"with {key}", "--json").stdout)
    type_in("jobs", "cancel", job["id"])
    type_in("jobs", "watch", job["id"], status=1)
    log_tail = f"cannot reach postgresql://tunewright:{MARKER}@db/x with Bearer {MARKER} and whsec_{MARKER}"
    add_attempt = (
        "INSERT INTO attempts (project_id, job_id, number, worker_id, claim_token, log_tail)"
        " SELECT project_id, id, 99, 'here-1', '', %s FROM jobs WHERE id = %s"
    )
    with database(stack) as connection:
        connection.execute(add_attempt, (log_tail, job["id"]))
    assert type_in("support-bundle", job["id"]).stdout.strip() == f"{job['id']}-support.zip"
    files = unpack(tmp_path / f"{job['id']}-support.zip")
    assert {"README.txt", "job.json", "events.json", "log.txt", "workers.json", "datasets.json"} <= files.keys()
    assert json.loads(files["job.json"])["spec"]["training"]["max_steps"] == 100_000
    assert json.loads(files["events.json"])[-1]["type"] == "job_cancelled"
    assert files["log.txt"].startswith("cannot reach postgresql://tunewright:[removed]@db/x with Bearer [removed]")
    assert {each["id"] for each in json.loads(files["workers.json"])}
    [dataset] = json.loads(files["datasets.json"])
    assert (dataset["id"], dataset["num_examples"]) == (job["spec"]["dataset_id"], 12)
    server = json.loads(files["server.json"])
    assert (server["about"]["version"], server["readiness"]["database"]) == (version("tunewright"), "ok")
    everything = "\n".join(files.values())
    assert "cat number" not in everything
    for secret in (key, key.split("_", 2)[2], MARKER):
        assert secret not in everything
    assert "[job_not_found]" in type_in("support-bundle", "ftjob-0", status=1).stderr
