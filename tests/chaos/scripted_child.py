"""Implements a training process without torch, with the real protocol: `python -m tests.chaos.scripted_child`.

It takes a step every few milliseconds, reports metrics, writes a checkpoint of real files every `save_every` steps,
resumes from one, and obeys `Stop`. Its weights are a chain of digests with one link per step. The seed and the steps
determine the result, so a step that is repeated, left out or taken from another job's checkpoint is detected.
"""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from app.domain.events.job_events import WarningIssued
from app.domain.hardware import machine_fingerprint
from app.domain.jobs.resuming import Difference, InexactResume
from app.domain.jobs.state import JobPhase
from app.files import sync, sync_folder
from worker.training.checkpoint.manifest import digests, first_fault
from worker.training.runtime.channel import Channel, StopAsked, enter_work_dir
from worker.training.runtime.errors import internal_failure
from worker.training.runtime.messages import (
    CheckpointWritten,
    EventMessage,
    Finished,
    MetricsMessage,
    PhaseEntered,
    Planned,
    Preload,
    Ready,
    Started,
    Stopped,
    TrainingRequest,
)

STEP_MS = "step_ms"
"""Is the key of the job's metadata with the duration of a step."""
NUMBER = "number"
"""Is the key of the job's metadata with the number of its plan."""
LONGEST_HOLD_SECONDS = 60.0
WEIGHTS_BYTES = 20_000


def start(seed: int) -> str:
    return hashlib.sha256(f"seed {seed}".encode()).hexdigest()


def link(weights: str, step: int) -> str:
    return hashlib.sha256(f"{weights} {step}".encode()).hexdigest()


def expected_weights(seed: int, steps: int) -> bytes:
    """Return the weights file of an undisturbed training."""
    weights = start(seed)
    for step in range(1, steps + 1):
        weights = link(weights, step)
    return stored(weights)


def expected_loss(seed: int, step: int) -> float:
    return int(link(start(seed), step)[:8], 16) / 2**32


def hold(data: Path, number: object) -> Path:
    """Return the file that makes the job with that number wait before its last step. Its planned faults then hit it
    while it trains, even on a slow machine."""
    return data / "held" / str(number)


def stored(weights: str) -> bytes:
    return (weights.encode() * (WEIGHTS_BYTES // len(weights) + 1))[:WEIGHTS_BYTES]


class Training:
    def __init__(self, request: TrainingRequest, channel: Channel) -> None:
        self.request, self.channel = request, channel
        self.seed = request.spec.training.seed
        self.total = request.spec.training.max_steps or 30
        self.step_seconds = int(request.spec.metadata.get(STEP_MS, "5")) / 1000
        self.step, self.weights = 0, start(self.seed)
        self.inexact_resumes: list[InexactResume] = []
        self.hold = hold(request.work_dir.parents[4], request.spec.metadata.get(NUMBER))

    def run(self) -> None:
        self.channel.send(PhaseEntered(phase=JobPhase.preparing))
        if self.request.checkpoint_path is not None:
            self.resume(self.request.checkpoint_path)
        plan = Planned(resolved={}, total_steps=self.total, start_step=self.step, inexact_resumes=self.inexact_resumes)
        self.channel.send(plan)
        self.channel.send(PhaseEntered(phase=JobPhase.training))
        self.channel.send(Started(parity_seconds=0, dry_run_seconds=0))
        try:
            while self.step < self.total:
                self.channel.raise_if_stopped()
                if self.step == self.total - 1:
                    self.wait_while_held()
                self.take_step()
        except StopAsked:
            if self.channel.stop_wish == "drain":
                self.write_checkpoint()
            self.channel.send(Stopped(step=self.step))
        else:
            self.channel.send(Finished(path=self.write_result()))

    def wait_while_held(self) -> None:
        until = time.monotonic() + LONGEST_HOLD_SECONDS
        while self.hold.exists() and time.monotonic() < until:
            self.channel.raise_if_stopped()
            time.sleep(self.step_seconds)

    def take_step(self) -> None:
        time.sleep(self.step_seconds)
        self.step += 1
        self.weights = link(self.weights, self.step)
        loss = expected_loss(self.seed, self.step)
        self.channel.send(MetricsMessage(step=self.step, values={"loss": loss, "num_tokens": 100.0 * self.step}))
        every = self.request.spec.training.save_every
        if self.step % (5 if every == "auto" else every) == 0:
            self.write_checkpoint()

    def write_checkpoint(self) -> None:
        try:
            self._write_checkpoint()
        except OSError as error:
            self.channel.send(
                EventMessage(event=WarningIssued(code="checkpoint_failed", detail=f"It could not be written: {error}"))
            )

    def _write_checkpoint(self) -> None:
        root = self.request.work_dir / "checkpoints"
        final = root / f"step-{self.step:08d}"
        if final.exists():
            return
        partial = root / f".partial-{final.name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "weights").write_bytes(stored(self.weights))
        state = {"step": self.step, "weights": self.weights, "facts": self.request.machine_facts, **self.exactness()}
        (partial / "state.json").write_text(json.dumps(state))
        (partial / "manifest.json").write_text(json.dumps(digests(partial)))
        sync_folder(partial)
        partial.rename(final)
        sync(root)
        machine = machine_fingerprint(self.request.machine_facts or {})
        self.channel.send(CheckpointWritten(step=self.step, path=final, machine=machine))

    def resume(self, checkpoint: Path) -> None:
        fault = first_fault(checkpoint, json.loads((checkpoint / "manifest.json").read_text()))
        assert fault is None, fault
        state = json.loads((checkpoint / "state.json").read_text())
        self.step, self.weights = state["step"], state["weights"]
        self.inexact_resumes = [InexactResume.model_validate(each) for each in state["inexact_resumes"]]
        before, now = state["facts"] or {}, self.request.machine_facts or {}
        differs = {
            f"machine.{name}": Difference(before=before.get(name), now=now.get(name))
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        }
        if differs:
            self.inexact_resumes.append(InexactResume(step=self.step, differs=differs))
            text = f"Training goes on after step {self.step}, but not bit for bit: {', '.join(differs)} differ."
            self.channel.send(EventMessage(event=WarningIssued(code="inexact_resume", detail=text)))

    def exactness(self) -> dict[str, object]:
        resumes = [each.model_dump(mode="json") for each in self.inexact_resumes]
        return {"exact": not resumes, "inexact_resumes": resumes}

    def write_result(self) -> Path:
        folder = self.request.work_dir / "result"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(stored(self.weights))
        (folder / "adapter_config.json").write_text(json.dumps({"base": self.request.base_model}))
        manifest = {
            "manifest_version": 1,
            "base_model": {"name": self.request.base_model, "revision": self.request.base_model_revision},
            "num_steps": self.step,
            **self.exactness(),
            "files": digests(folder),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        sync_folder(folder)
        return folder


def main() -> int:
    channel = Channel()
    while isinstance(heard := channel.receive(), Preload):
        channel.send(Ready(base_model_path=heard.base_model_path))
    if isinstance(heard, TrainingRequest):
        enter_work_dir(heard)
        try:
            Training(heard, channel).run()
        except OSError as error:
            channel.send(internal_failure(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
