"""Compares previews and overlaps of datasets with what a job then does, through the running stack."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT, Stack, environment
from tunewright import Client


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Write training rows, some of which are truncated or dropped, and validation rows, two of which are also training
    rows."""
    rows = [{"prompt": f"The cat number {n} " * (1 + 3 * (n % 5)), "completion": " sat on a mat."} for n in range(40)]
    held_back = [*rows[5:7], *({"prompt": f"Dog {n}", "completion": "!"} for n in range(6))]
    paths = tmp_path / "rows.jsonl", tmp_path / "held_back.jsonl"
    for path, some in zip(paths, (rows, held_back), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return paths


def test_a_preview_agrees_with_the_job(client: Client, stack: Stack, files: tuple[Path, Path]) -> None:
    """The preview is created while the job runs, and the command line shows it."""
    dataset, validation = (client.upload_dataset(path) for path in files)
    settings = {"max_seq_len": 40, "batch_size": 3, "seed": 5}
    given = {"base_model": "tiny", "dataset_id": dataset.id, "validation_dataset_id": validation.id}
    job = client.create_job(**given, training=settings | {"epochs": 1})
    asked = client.create_preview(dataset.id, base_model="tiny", rows=[2, 41], **settings)
    preview = client.wait_for_preview(dataset.id, asked.id)
    assert preview.state == "ready", preview
    words = ["datasets", "preview", dataset.id, "--model", "tiny", "--max-seq-len", "40", "--line", "2"]
    command = [sys.executable, "-m", "tunewright", *words]
    env = environment(stack.data) | {"PYTHONPATH": str(ROOT)}
    shown = subprocess.run(command, cwd=files[0].parent, env=env, capture_output=True, text=True, check=True).stdout
    assert "line 2: 40 tokens, " in shown
    assert "steps per epoch" in shown

    assert preview.totals is not None
    totals = preview.totals
    assert totals["missing_lines"] == [41]
    assert totals["num_dropped_rows"] > 0
    assert totals["num_truncated_rows"] > 0
    done = client.wait(job.id)
    assert done.state == "succeeded", client.logs(job.id)
    events = {event.type: event for event in client.events(job.id)}
    prepared = events["dataset_prepared"].data
    same = ("num_rows", "num_dropped_rows", "num_truncated_rows", "num_tokens", "num_labelled_tokens", "chat_template")
    assert {name: totals[name] for name in same} == {name: prepared[name] for name in same}
    assert totals["steps_per_epoch"] == done.total_steps
    (decided,) = done.resolved
    assert totals["device_plan"]["micro_batch_tokens"] == decided["engine"]["micro_batch_tokens"]
    assert totals["train_on"] == decided["training"]["train_on"] == "completion"
    assert totals["device_plan"]["device"] == decided["resources"]["device"]

    overlap = client.wait_for_overlap(dataset.id, client.create_overlap(dataset.id, validation.id).id)
    assert overlap.totals is not None
    assert [(pair["validation_line"], pair["line"]) for pair in overlap.pairs] == [(1, 6), (2, 7)]
    warned = events["validation_overlap"]
    assert (warned.level, warned.data["pairs"]) == ("warn", overlap.pairs)
    command = [sys.executable, "-m", "tunewright", "datasets", "overlap", dataset.id, validation.id]
    found = subprocess.run(command, cwd=files[0].parent, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 1, "the exit status reports an overlap"
    assert "validation line 1 = line 6" in found.stdout
