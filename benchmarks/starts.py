"""Measures how soon work starts in adverse conditions: `python -m benchmarks.starts --output results.json`.

It uses the whole local stack over HTTP with its default settings. The first stack runs without Redis, so that no
wake-up arrives: the time runs from a job's creation to its claim. The second one trains permanently: the time runs from
the response to an upload until the light worker inspects it. Tries start at random times, independent of the polling.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bars import Bar
from benchmarks.startup import stack
from tests.fixtures.tiny_models import build_tiny_model
from tunewright import Client

SEED = 1
LONGEST_PAUSE_SECONDS = 6.0
"""Limits the pause before a try. It is longer than `TUNEWRIGHT_POLL_SECONDS`."""
PATIENCE_SECONDS = 120.0
CHECK_SECONDS = 0.02
MODEL = "tiny"
JOB: dict[str, Any] = {"base_model": MODEL, "method": "lora"}
ENDLESS = 10_000_000
LIMITS = {"job_without_redis": 15.0, "inspection_beside_training": 5.0}
TEXTS = {
    "job_without_redis": "longest time from POST /jobs to the job's start without Redis, s",
    "inspection_beside_training": "longest time from an upload to its inspection's start while a job trains, s",
}


def until(holds: Callable[[], Any], what: str) -> Any:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        if time.monotonic() > ends:
            raise RuntimeError(f"timed out waiting until {what}")
        time.sleep(CHECK_SECONDS)
    return found


def prepare(client: Client, folder: Path) -> str:
    """Register a model and upload a dataset; return the dataset's id."""
    add = ["-m", "tunewright", "models", "add", MODEL, "--path", str(folder / "model")]
    subprocess.run([sys.executable, *add], check=True, stdout=subprocess.DEVNULL)
    dataset = client.upload_dataset(write_rows(folder / "rows.jsonl"))
    return client.wait_for_dataset(dataset.id).id


def write_rows(path: Path, count: int = 50) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": f" c {n}"}) + "\n" for n in range(count)))
    return path


def without_redis(folder: Path, tries: int, chance: random.Random) -> list[float]:
    """Return the times by the database's clock, from the events."""
    seconds = []
    with stack(folder, REDIS_URL=f"unix://{folder}/nothing.sock"), Client() as client:
        dataset_id = prepare(client, folder)
        for _ in range(tries):
            time.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))
            job = client.create_job(dataset_id=dataset_id, training={"max_steps": 2, "batch_size": 2}, **JOB)
            ended = client.wait(job.id)
            if ended.state != "succeeded":
                raise RuntimeError(f"the job is {ended.state}: {ended.failure}")
            claimed = next(event for event in client.events(job.id) if event.type == "job_claimed")
            seconds.append((claimed.created_at - job.created_at).total_seconds())
            print(f"without Redis: {seconds[-1]:.2f} s", flush=True)
    return seconds


def beside_training(folder: Path, tries: int, chance: random.Random) -> list[float]:
    """Return the times by this process's clock, from the response to the upload."""
    seconds = []
    with stack(folder), Client() as client:
        dataset_id = prepare(client, folder)
        job = client.create_job(dataset_id=dataset_id, training={"max_steps": ENDLESS, "batch_size": 8}, **JOB)
        until(lambda: any(event.type == "training_started" for event in client.events(job.id)), "the job trains")
        for _ in range(tries):
            time.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))
            uploaded = client.upload_dataset(folder / "rows.jsonl")
            answered = time.monotonic()

            def starts(id: str = uploaded.id) -> bool:
                inspects = any(worker.busy and "light" in worker.queues for worker in client.workers())
                return inspects or client.get_dataset(id).state != "inspecting"

            until(starts, "its inspection has started")
            seconds.append(time.monotonic() - answered)
            client.wait_for_dataset(uploaded.id)
            print(f"during a training: {seconds[-1]:.2f} s", flush=True)
        if client.get_job(job.id).state != "running":
            raise RuntimeError("the training ended before the measurement")
        client.cancel_job(job.id)
    return seconds


def summary(name: str, seconds: Sequence[float]) -> dict[str, Any]:
    bar = Bar(TEXTS[name], max(seconds, default=None), "at most", LIMITS[name])
    return {
        "num_tries": len(seconds),
        "p50_seconds": round(statistics.median(seconds), 3) if seconds else None,
        "max_seconds": round(max(seconds), 3) if seconds else None,
        "seconds": [round(each, 3) for each in seconds],
        "bar": bar.as_json(),
    }


def measure(tries: int) -> dict[str, Any]:
    chance = random.Random(SEED)
    result: dict[str, Any] = {"machine": machine.describe(), "seed": SEED}
    for name, do in (("job_without_redis", without_redis), ("inspection_beside_training", beside_training)):
        folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
        if os.geteuid() == 0:
            folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
        try:
            build_tiny_model(folder / "model")
            result[name] = summary(name, do(folder, tries, chance))
        finally:
            shutil.rmtree(folder)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10, help="number of tries for each measurement")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    result = measure(arguments.tries)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    bars = [result[name]["bar"] for name in LIMITS]
    print("\n".join(f"{bar['verdict']}: {bar['text']} {bar['value']}, at most {bar['limit']:g}" for bar in bars))
    return 0 if all(bar["verdict"] == "pass" for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
