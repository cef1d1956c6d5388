"""Measures Tunewright's training as a worker runs it: the process `python -m worker.training` over its pipe."""

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import JobPhase
from app.domain.jobs.training_config import TrainingSpec
from benchmarks.engines import Engine, Work
from benchmarks.processes import MemoryWatch, ProcessFailed, cpu_seconds, environment
from worker.training.rows.sampler import BatchSampler
from worker.training.runtime.messages import ChildMessage, TrainingRequest, parse_child_message


def unsupported(engine: Engine) -> str | None:
    """Return why this version cannot run the engine; None if it can."""
    unknown = engine.options.keys() - TrainingSpec.model_fields.keys()
    return f"the spec's training has no field {', '.join(sorted(unknown))}" if unknown else None


def order_of_rows(num_rows: int, batch_size: int, seed: int) -> list[int]:
    """Return the row order of one epoch in Tunewright's training, which the peers' file uses too."""
    epochs = BatchSampler(num_rows, batch_size, seed)
    return [row for step in range(1, epochs.steps_per_epoch + 1) for row in epochs.rows(step)]


def make_spec(work: Work, engine: Engine, **training: Any) -> JobSpec:
    spec = {
        "base_model": "gemma-3-270m",
        "dataset_id": "file-" + "0" * 24,
        "method": engine.method,
        "adapter": {"rank": work.rank, "alpha": work.alpha},
        "training": {
            "epochs": 1,
            "batch_size": work.batch_size,
            "learning_rate": work.learning_rate,
            "schedule": "linear",
            "warmup_ratio": 0,
            "save_every": 1_000_000,
            "seed": work.seed,
            **engine.options,
            **training,
        },
    }
    config = json.loads((work.base_model / "config.json").read_text())
    return JobSpec.model_validate(spec).decided(config["max_position_embeddings"])


def make_request(
    work: Work, spec: JobSpec, rows: Path, folder: Path, resolved: dict[str, Any] | None
) -> TrainingRequest:
    return TrainingRequest(
        spec=spec,
        resolved=resolved,
        attempt=1,
        base_model="gemma-3-270m",
        base_model_revision=None,
        base_model_path=work.base_model,
        dataset_path=rows,
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        checkpoint_path=None,
        work_dir=folder,
        cache_dir=folder.parent / "cache",
        threads=work.threads,
    )


def with_micro_batch(resolved: dict[str, Any], num_tokens: int) -> dict[str, Any]:
    """Return an engine's plan with another token budget and without gradient checkpointing."""
    changed = copy.deepcopy(resolved)
    changed["engine"]["micro_batch_tokens"] = num_tokens
    changed["training"]["gradient_checkpointing"] = False
    return changed


def train(request: TrainingRequest, log: Path) -> dict[str, Any]:
    """Run the process to its end and return the timed report of its messages."""
    with log.open("w") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.training"],
            cwd=request.work_dir,
            env=environment(request.work_dir, request.threads or 2),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
        )
    listener = Listener(process.pid)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.model_dump_json() + "\n")
        process.stdin.flush()
        with MemoryWatch(process.pid) as watch:
            for text in process.stdout:
                listener.record(parse_child_message.validate_json(text))
        if process.wait(timeout=60) != 0 or "adapter" not in listener.report:
            raise ProcessFailed(listener.report.get("failure") or log.read_text()[-2000:])
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
    return listener.report | {"peak_memory_bytes": watch.peak, "largest_child_bytes": watch.largest_child}


class Listener:
    """Records the process's messages with their times."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_at_start = 0.0
        self.report: dict[str, Any] = {"started_at": time.monotonic(), "events": [], "checkpoints": [], "losses": []}
        self.report |= {"step_ended_at": [], "step_seconds": [], "step_tokens": []}

    def record(self, line: ChildMessage) -> None:
        now, report = time.monotonic(), self.report
        match line.kind:
            case "phase" if line.phase == JobPhase.training and not report["step_ended_at"]:
                self._begin(now)
            case "started":  # Closer to the first step than the phase, if the process sends it.
                self._begin(now)
                report["before_start"] = line.model_dump(exclude={"kind"})
            case "planned" | "replanned":
                report["resolved"] = line.resolved
                report["largest_micro_batch"] = line.resolved["engine"]["micro_batch_tokens"]
            case "event":
                self._record_event(line.event.model_dump(mode="json"))
            case "metrics" if "loss" in line.values:
                self._record_step(line.values, now)
            case "checkpoint":
                report["checkpoints"].append(line.model_dump(mode="json"))
            case "finished":
                report["adapter"] = str(line.path)
            case "failed":
                report["failure"] = f"{line.reason}: {line.message}"

    def _begin(self, now: float) -> None:
        self.report["training_began_at"] = now
        self._cpu_at_start = cpu_seconds(self._pid)

    def _record_event(self, event: dict[str, Any]) -> None:
        self.report["events"].append(event)
        if event["type"] == "dataset_prepared":
            self.report["num_tokens"], self.report["num_labelled"] = event["num_tokens"], event["num_labelled_tokens"]

    def _record_step(self, values: dict[str, float], now: float) -> None:
        report = self.report
        report["step_ended_at"].append(now)
        report["step_tokens"].append(values["num_tokens"] - sum(report["step_tokens"]))
        report["step_seconds"].append(report["step_tokens"][-1] / values["tokens_per_second"])
        report["losses"].append(values["loss"])
        report["peak_memory_bytes"] = values["peak_memory_bytes"]  # The GPU's memory, if there is one.
        report["cpu_seconds"] = cpu_seconds(self._pid) - self._cpu_at_start


def write_peer_rows(folder: Path, rows: list[dict[str, str]], order: list[int]) -> Path:
    """Write the only file of its folder, so that `datasets` reads it as the split `train`."""
    folder.mkdir()
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(rows[index]) + "\n" for index in order), encoding="utf-8")
    return path
