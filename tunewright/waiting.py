"""Waits for the end of a job by long polling."""

import math
import time

from tunewright.errors import TunewrightError
from tunewright.transport import Transport, jittered
from tunewright.watch import Outage
from tunewright.wire import Job

WAIT_SECONDS = 30
CROWDED_SECONDS = 5.0
"""Is the delay before the next request to a server that has too many waiting requests."""


def wait_until_final(transport: Transport, job_id: str, timeout: float | None) -> Job:
    """Return the job once it has ended. Raises TimeoutError after `timeout` seconds. Short outages of the server are
    tolerated."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    poller = JobPoller(transport, job_id)
    outage = Outage()
    while True:
        try:
            job = poller.fetch(deadline - time.monotonic())
            outage.end()
        except TunewrightError as error:
            if error.status is not None and error.status < 500:
                raise
            if error.code == "too_many_waiting":
                poller.tag = None
                time.sleep(jittered(CROWDED_SECONDS))
            else:
                outage.wait(error)
            continue
        if job.is_final:
            return job
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Job {job_id} is still {job.state} after {timeout:g} seconds. The job continues.")


class JobPoller:
    """Requests a job. After the first one, each request waits on the server for a change."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        self.transport, self.job_id = transport, job_id
        self.tag: str | None = None
        self.job: Job | None = None

    def fetch(self, seconds_left: float) -> Job:
        wait = max(1, math.ceil(min(WAIT_SECONDS, seconds_left)))
        waiting = {"headers": {"If-None-Match": self.tag}, "params": {"wait": wait}} if self.tag else {}
        answer = self.transport.request("GET", "jobs", self.job_id, good=304, **waiting)
        if self.job is None or answer.status_code != 304:
            self.job = Job.read(answer.json())
        self.tag = answer.headers.get("ETag")
        return self.job
