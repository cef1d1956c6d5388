"""The training process is killed with SIGKILL at random moments, repeatedly. It ends with the same adapter as an
undisturbed run, bit for bit, and no incomplete checkpoint ever has a final name.

`TUNEWRIGHT_KILLS` is the number of kills. Their times are random; `TUNEWRIGHT_KILL_SEED` repeats a choice.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.jobs.spec import JobSpec
from tests.fixtures.tiny_models import build_tiny_model, write_rows
from tests.fixtures.training_processes import TrainingProcess
from worker.training.runtime.messages import ChildMessage, Finished, PhaseEntered, TrainingRequest, parse_child_message

KILLS = int(os.environ.get("TUNEWRIGHT_KILLS", "2"))
SEED = int(os.environ.get("TUNEWRIGHT_KILL_SEED", str(time.time_ns() % 10**6)))
MORE_LIVES = 20
"""Limits the additional kills if none of the first left time for a checkpoint."""
IN_START_UP = 0.1
"""Is the share of the kills that come while the process is still preparing."""
LONGEST_LIFE_SECONDS = 1.2
"""Limits the time from the first step to the kill. A checkpoint takes a few hundredths of a second."""
STEPS_A_KILL = 50
"""Is more than a process completes before its kill on any likely machine, so that steps remain for the next one."""


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., TrainingRequest]:
    model, rows = build_tiny_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl", num_rows=40)
    training = {
        "max_steps": STEPS_A_KILL * KILLS,
        "batch_size": 4,
        "learning_rate": 0.003,
        "save_every": 1,
        "eval_every": 5,
        "early_stopping": {"patience": 1000},
    }
    spec = JobSpec.model_validate(
        {
            "base_model": "tiny",
            "dataset_id": "file-" + "0" * 24,
            "validation_split": 0.1,
            "method": "qlora",
            "adapter": {"dropout": 0.1},
            "training": training,
        }
    ).decided(512)

    def make(name: str, checkpoint: Path | None = None) -> TrainingRequest:
        work_dir = tmp_path / name
        work_dir.mkdir(exist_ok=True)
        return TrainingRequest(
            spec=spec,
            resolved=None,
            attempt=1,
            base_model="acme/tiny",
            base_model_revision="r1",
            base_model_path=model,
            dataset_path=rows,
            dataset_sha256="0" * 64,
            validation_path=None,
            validation_sha256=None,
            checkpoint_path=checkpoint,
            work_dir=work_dir,
            cache_dir=tmp_path / "cache",
            threads=1,
        )

    return make


class Life:
    """Runs one training process."""

    def __init__(self, request: TrainingRequest) -> None:
        self.request = request
        self.log = (request.work_dir / "log").open("a")
        self.process = TrainingProcess(self.log)
        self.process.stdin.write(request.model_dump_json() + "\n")
        self.process.stdin.flush()

    def messages(self) -> Iterator[ChildMessage]:
        return (parse_child_message.validate_json(line) for line in self.process.stdout)

    def wait_for_training(self) -> None:
        phases = (line for line in self.messages() if isinstance(line, PhaseEntered))
        assert any(line.phase == "training" for line in phases), "it ended before it trained"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


def finish(request: TrainingRequest) -> bytes:
    """Train to the end and return the adapter."""
    life = Life(request)
    try:
        *_, last = life.messages()
        assert isinstance(last, Finished), last
        return (last.path / "adapter_model.safetensors").read_bytes()
    finally:
        life.end()


def kill_at_random(request: TrainingRequest, moments: random.Random) -> None:
    life = Life(request)
    try:
        if moments.random() < IN_START_UP:
            time.sleep(moments.uniform(0, 5))
        else:
            life.wait_for_training()
            time.sleep(moments.uniform(0, LONGEST_LIFE_SECONDS))
    finally:
        life.end()


def assert_whole(checkpoint: Path) -> None:
    files: dict[str, Any] = json.loads((checkpoint / "manifest.json").read_text())["files"]
    found = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.name != "manifest.json"}
    assert found.keys() >= {"adapter_model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"}
    assert files == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in found.items()
    }, f"{checkpoint.name} is incomplete"


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_bit_for_bit_like_one_that_was_not(
    request_for: Callable[..., TrainingRequest],
) -> None:
    print(f"TUNEWRIGHT_KILL_SEED={SEED}")
    moments = random.Random(SEED)
    undisturbed = finish(request_for("undisturbed"))
    newest: Path | None = None
    reached, torn = [0], set()
    while len(reached) <= KILLS or not reached[-1]:
        assert len(reached) < KILLS + MORE_LIVES, "no process lived long enough for a checkpoint"
        kill_at_random(request_for("killed", newest), moments)
        written = request_for("killed").work_dir / "checkpoints"
        torn |= {(partial.name, partial.stat().st_mtime_ns) for partial in written.glob(".partial-*")}
        checkpoints = sorted(written.glob("step-*"))
        for checkpoint in checkpoints:
            assert_whole(checkpoint)
        newest = checkpoints[-1] if checkpoints else None
        reached.append(int(newest.name.removeprefix("step-")) if newest else 0)
    print(f"steps saved at each kill: {reached}; {len(torn)} kills interrupted a write")
    assert finish(request_for("killed", newest)) == undisturbed
