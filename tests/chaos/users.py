"""The users of a run: they post jobs, ask again when no good answer comes, and pause, resume and cancel."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tests.chaos import entry
from tests.chaos.plan import JobPlan
from tests.chaos.scripted_child import NUMBER, STEP_MS
from tunewright import Client, TunewrightError

T = TypeVar("T")

MODEL = "tiny"
AGAIN_SECONDS = 0.3
PATIENCE_SECONDS = 60.0


class Users:
    def __init__(self, url: str, key: str) -> None:
        self.client = Client(url, key)
        self.threads = ThreadPoolExecutor(8, thread_name_prefix="user")
        self.accepted: dict[str, JobPlan] = {}
        """Jobs whose 201 was seen."""
        self.num_unanswered = 0
        """Requests that ended in an error of the server or of the connection."""
        self.lock = threading.Lock()

    def upload(self, folder: Path) -> None:
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": f" c {n}"}) + "\n" for n in range(8)))
        dataset = self.client.upload_dataset(path)
        assert self.client.wait_for_dataset(dataset.id).state == "ready"
        self.dataset_id = dataset.id

    def post(self, plan: JobPlan) -> Future[str]:
        return self.threads.submit(self._post, plan)

    def _post(self, plan: JobPlan) -> str:
        spec = self.spec(plan)
        key = f"job-{plan.number}"
        job = self.insist(lambda: self.client.create_job(idempotency_key=key, **spec))
        with self.lock:
            self.accepted[job.id] = plan
        return job.id

    def spec(self, plan: JobPlan) -> dict[str, Any]:
        return {
            "base_model": MODEL,
            "dataset_id": self.dataset_id,
            "method": "lora",
            "resources": {"device": entry.REAL_DEVICE if plan.real else entry.SCRIPTED_DEVICE},
            "max_retries": 10,
            "priority": plan.priority,
            "metadata": {NUMBER: str(plan.number), STEP_MS: str(plan.step_ms)},
            "training": {
                "max_steps": plan.steps,
                "batch_size": 2,
                "save_every": plan.save_every,
                "seed": plan.seed,
            },
        }

    def cancel(self, job_id: str) -> Future[bool]:
        """Whether the cancel was accepted; a job that is final by then refuses it."""
        return self.threads.submit(self._accepted, lambda: self.client.cancel_job(job_id))

    def pause(self, job_id: str) -> Future[bool]:
        return self.threads.submit(self._accepted, lambda: self.client.pause_job(job_id))

    def resume(self, job_id: str) -> Future[bool]:
        return self.threads.submit(self._accepted, lambda: self.client.resume_job(job_id))

    def pause_and_resume(self, job_id: str) -> Future[bool]:
        """At once, so that the attempt that was to pause has to yield."""
        return self.threads.submit(
            lambda: (
                self._accepted(lambda: self.client.pause_job(job_id))
                and self._accepted(lambda: self.client.resume_job(job_id))
            )
        )

    def _accepted(self, ask: Callable[[], Any]) -> bool:
        try:
            self.insist(ask)
        except TunewrightError as error:
            if error.status == 409:
                return False
            raise
        return True

    def insist(self, ask: Callable[[], T]) -> T:
        """As often as a server that is away makes necessary."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except TunewrightError as error:
                if (error.status is not None and error.status < 500) or time.monotonic() > until:
                    raise
                self.num_unanswered += 1
                time.sleep(AGAIN_SECONDS)

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)
        self.client.close()
