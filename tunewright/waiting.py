"""Waits for a job's end by long polling: the server answers as soon as the job has changed."""

import math
import time

from tunewright.errors import TunewrightError
from tunewright.transport import Transport, jittered
from tunewright.watch import Outage
from tunewright.wire import Job

WAIT_SECONDS = 30
CROWDED_SECONDS = 5.0
"""Wait before the next request to a server that accepts no more waiting requests."""


def wait_until_final(transport: Transport, job_id: str, timeout: float | None) -> Job:
    """Return the job once it has ended. Raises TimeoutError after `timeout` seconds. A server that restarts is waited
    for."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    asked = Question(transport, job_id)
    outage = Outage()
    while True:
        try:
            job = asked.ask(deadline - time.monotonic())
            outage.over()
        except TunewrightError as error:
            if error.status is not None and error.status < 500:
                raise
            if error.code == "too_many_waiting":
                asked.tag = None
                time.sleep(jittered(CROWDED_SECONDS))
            else:
                outage.wait(error)
            continue
        if job.is_final:
            return job
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Job {job_id} is still {job.state} after {timeout:g} seconds; it goes on.")


class Question:
    """Requests the job: the first time at once, then only when it differs from the last answer."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        self.transport, self.job_id = transport, job_id
        self.tag: str | None = None
        self.job: Job | None = None

    def ask(self, seconds_left: float) -> Job:
        wait = max(1, math.ceil(min(WAIT_SECONDS, seconds_left)))
        waiting = {"headers": {"If-None-Match": self.tag}, "params": {"wait": wait}} if self.tag else {}
        answer = self.transport.send("GET", "jobs", self.job_id, good=304, **waiting)
        if self.job is None or answer.status_code != 304:
            self.job = Job.read(answer.json())
        self.tag = answer.headers.get("ETag")
        return self.job
