"""Acts as the users of a run: creates jobs, retries failed requests, and pauses, resumes and cancels jobs."""

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
        """Holds the jobs whose creation was confirmed with a 201."""
        self.num_unanswered = 0
        """Counts the requests that ended in an error of the server or the connection."""
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
        """Cancel the job; return whether that was accepted. A job that is final by then rejects it."""
        return self.threads.submit(self._accepted, lambda: self.client.cancel_job(job_id))

    def pause(self, job_id: str) -> Future[bool]:
        return self.threads.submit(self._accepted, lambda: self.client.pause_job(job_id))

    def resume(self, job_id: str) -> Future[bool]:
        return self.threads.submit(self._accepted, lambda: self.client.resume_job(job_id))

    def pause_and_resume(self, job_id: str) -> Future[bool]:
        """Pause and resume at once, so that the pausing attempt must release the job."""
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
        """Retry the request while the server is unavailable."""
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
