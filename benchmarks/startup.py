"""Measures the time from POST /jobs to the first training forward, through the whole local stack over HTTP.

Several jobs run one after another on a separate server. The first is `cold`: the worker's standby process has only its
imports done. The later ones are `warm`: the model's tokenizer and its NF4 weights were used before. The time comes from
the event `training_started`, without the parity check and the dry run, which are reported separately. If a server lacks
this event, the time of the phase `training` is used, and the result says so.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.rows import make_rows, write_rows
from tunewright import Client

SPEC: dict[str, Any] = {
    "base_model": "bench",
    "method": "qlora",
    "training": {"max_steps": 2, "batch_size": 8, "learning_rate": 2e-4},
}
OTHER_SERVERS = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "TUNEWRIGHT_URL", "TUNEWRIGHT_API_KEY")
SETTLE_SECONDS = 20
"""Is the wait between jobs, since each is followed by the start of a standby process."""


@contextmanager
def stack(folder: Path, **variables: str) -> Iterator[None]:
    """Run `tunewright up` on a free port, with data and caches in `folder` and additional environment variables."""
    for name in OTHER_SERVERS:
        os.environ.pop(name, None)
    os.environ["TUNEWRIGHT_DATA_DIR"] = str(folder / "data")
    os.environ["TUNEWRIGHT_CACHE_DIR"] = str(folder / "cache")
    os.environ.update(variables)
    libc = ctypes.CDLL(None)
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tunewright", "up", "--port", "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=lambda: libc.prctl(1, signal.SIGINT),  # PR_SET_PDEATHSIG: ends with the benchmark.
        )  # fmt: skip
    try:
        while not (folder / "data" / "server.json").exists():
            if server.poll() is not None:
                raise RuntimeError(f"the server did not start: {(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def started(client: Client, dataset_id: str) -> dict[str, Any]:
    """Run one job to its end; return the seconds until its training began, and the event that says so."""
    job = client.wait(client.create_job(dataset_id=dataset_id, **SPEC).id)
    if job.state != "succeeded":
        raise RuntimeError(f"the job is {job.state}: {job.failure}")
    events = list(client.events(job.id))
    event = next((event for event in events if event.type == "training_started"), None)
    if event is None:
        event = next(event for event in events if event.type == "phase_changed" and event.data["phase"] == "training")
    seconds = event.data.get("seconds_since_created") or (event.created_at - job.created_at).total_seconds()
    checks = event.data.get("parity_seconds", 0) + event.data.get("dry_run_seconds", 0)
    return {"seconds": round(seconds - checks, 3), "checks_seconds": checks, "event": event.type, "data": event.data}


def measure(folder: Path, model: Path, num_warm: int) -> dict[str, Any]:
    with stack(folder):
        add = ["-m", "tunewright", "models", "add", SPEC["base_model"], "--path", str(model)]
        subprocess.run([sys.executable, *add], check=True, stdout=subprocess.DEVNULL)
        with Client() as client:
            dataset = client.upload_dataset(write_rows(folder / "rows.jsonl", make_rows(48, seed=0)))
            client.wait_for_dataset(dataset.id)
            jobs = []
            for _ in range(1 + num_warm):
                time.sleep(SETTLE_SECONDS)
                jobs.append(started(client, dataset.id))
                print(f"{jobs[-1]['seconds']:.2f} s until {jobs[-1]['event']}", flush=True)
    return {
        "cold_seconds": jobs[0]["seconds"],
        "warm_seconds": statistics.median(job["seconds"] for job in jobs[1:]),
        "jobs": jobs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-model", type=Path)
    parser.add_argument("--warm", type=int, default=3, help="jobs after the first")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    model = arguments.base_model or machine.base_model()
    folder = Path(tempfile.mkdtemp(prefix="tunewright-bench-"))
    if os.geteuid() == 0:
        folder.chmod(0o755)  # Root's PostgreSQL runs as another user, who needs access.
    try:
        result = measure(folder, model, arguments.warm)
    finally:
        shutil.rmtree(folder)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
