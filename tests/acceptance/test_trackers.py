"""Tests a job whose curve goes to every tracker, through the running stack."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import ROOT, Stack, environment
from tests.fixtures.tracked import Tracked, read_events, read_mlflow, read_wandb
from tunewright import Client


def test_a_curve_goes_to_every_tracker(
    stack: Stack, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"Cat {n}", "completion": f" mat {n % 3}."}) for n in range(16)))
    given: list[Any] = ["--model", "tiny", "--dataset", rows, "--max-steps", 4, "--batch-size", 4, "--rank", 4]
    given += ["--validation-split", 0.25, "--wandb", "cats", "--mlflow", "tracked", "--tensorboard", "--name", "mine"]
    command = [sys.executable, "-m", "tunewright", "jobs", "create", *map(str, given), "--json"]
    env = environment(stack.data) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=120)
    id = json.loads(done.stdout)["id"]
    job = client.wait(id)
    assert job.state == "succeeded", client.logs(id)
    assert [each["type"] for each in job.spec["integrations"]] == ["wandb", "mlflow", "tensorboard"]

    points = list(client.metrics(id))
    curves = {name: {} for point in points for name in point.values}
    for point in points:
        for name, value in point.values.items():
            curves[name][point.step] = value
    assert len(curves["loss"]) == 4
    assert curves["validation_loss"]

    def mlflow_run() -> Tracked:
        [run] = [run for run in read_mlflow(f"file:{stack.data}/mlruns", "tracked") if run.config["name"] == "mine"]
        return run

    def wandb_run() -> Tracked:
        [run] = read_wandb(stack.data, id)
        return run

    run = wait_until_closed(mlflow_run, "FINISHED")
    assert (run.curves, run.status, run.name) == (curves, "FINISHED", "mine")
    run = wait_until_closed(wandb_run, 0)
    assert (run.curves, run.status, run.name) == (curves, 0, "mine")
    assert run.config["training"]["max_steps"] == 4
    folder = client.download_artifacts(id, tmp_path / "results")
    read = read_events(folder / "tensorboard.tfevents")
    assert read.keys() == curves.keys()
    for name, curve in curves.items():
        assert read[name].keys() == curve.keys()
        assert all(abs(read[name][step] - value) <= 1e-6 * abs(value) for step, value in curve.items())
    assert not [event for event in client.events(id) if event.type == "warning_issued"]


def wait_until_closed(read: Callable[[], Tracked], status: object) -> Tracked:
    """Read a tracker once it has the status. It receives a job's end after the commit; until then its files may be
    incomplete."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        with suppress(Exception):
            if read().status == status:
                break
        time.sleep(0.2)
    return read()
