"""Runs readers of event streams whose connections break every few seconds: `python -m tests.chaos.readers`.

Each reader resumes with `Last-Event-ID`. It must receive everything once and in order, although its connection breaks,
a worker dies and Redis restarts. Exits with 1 otherwise.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from tests.chaos.consistency import fold
from tests.chaos.faults import Faults
from tests.chaos.job_views import find_work, read_jobs
from tests.chaos.plan import JobPlan
from tests.chaos.stack import Stack, running_stack
from tests.chaos.stub_model import write_stub_model
from tests.chaos.users import MODEL, Users

NUM_JOBS = 2
STEP_MS = 50
CUT_AFTER_SECONDS = (0.5, 5.0)
PATIENCE_SECONDS = 90.0


class Received:
    """Collects what a reader receives about one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.events: list[dict[str, Any]] = []
        self.points: list[tuple[int, int, int]] = []

    def num_repeats(self) -> int:
        """Return the number of events and points received more than once."""
        numbers = {event["number"] for event in self.events}
        return len(self.events) - len(numbers) + len(self.points) - len(set(self.points))

    def num_gaps(self, steps: int) -> int:
        """Return the number of events before the last one, and of steps of the curve, that were never received."""
        numbers = {event["number"] for event in self.events}
        received = {step for _, _, step in self.points}
        return max(numbers, default=0) - len(numbers) + len(set(range(1, steps + 1)) - received)

    def faults(self, steps: int) -> Iterator[str]:
        numbers = [event["number"] for event in self.events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{self.job_id} has events {numbers}"
        if self.points != sorted(set(self.points)):
            yield f"points of {self.job_id} are repeated or out of order"
        rewinds = {e["data"]["attempt"]: e["data"]["step"] for e in self.events if e["type"] == "job_resumed"}
        if (kept := fold(self.points, rewinds)) != list(range(1, steps + 1)):
            missing = sorted(set(range(1, steps + 1)) - set(kept))
            yield f"points of {self.job_id} yield {len(kept)} of {steps} steps, without {missing[:10]}"


class Reader:
    """Reads the stream of one job or of several, and collects everything it receives."""

    def __init__(self, http: httpx2.AsyncClient, job_ids: list[str], chance: random.Random) -> None:
        self.http, self.job_ids, self.chance = http, job_ids, chance
        self.cursor = ""
        self.received = {job_id: Received(job_id) for job_id in job_ids}
        self.num_cut = 0
        self.is_over = False

    async def read(self) -> None:
        while not self.is_over:
            try:
                async with asyncio.timeout(self.chance.uniform(*CUT_AFTER_SECONDS)):
                    await self._read_until_cut()
            except TimeoutError:
                self.num_cut += 1
            except httpx2.TransportError:
                await asyncio.sleep(0.2)

    async def _read_until_cut(self) -> None:
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        path = f"/jobs/{self.job_ids[0]}/stream" if len(self.job_ids) == 1 else "/stream"
        params = {"job": self.job_ids} if path == "/stream" else {}
        async with self.http.stream("GET", path, params=params, headers=headers) as response:
            if response.status_code == httpx2.codes.NO_CONTENT:
                self.is_over = True
                return
            response.raise_for_status()
            message: dict[str, str] = {}
            async for line in response.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    message[name] = value
                else:
                    self._collect(message)
                    message = {}

    def _collect(self, message: dict[str, str]) -> None:
        self.cursor = message.get("id", self.cursor)
        data = json.loads(message.get("data", "{}"))
        of_job = self.received[data.get("job_id", self.job_ids[0])]
        match message.get("event"):
            case "job_event":
                of_job.events.append(data)
            case "metrics":
                of_job.points.append((data["attempt"], data["number"], data["step"]))
            case "end":
                self.is_over = len(self.job_ids) == 1  # a stream of several jobs ends with 204


async def watch(stack: Stack, users: Users, job_ids: list[str], given: argparse.Namespace) -> list[Reader]:
    headers = {"Authorization": f"Bearer {stack.key}"}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=stack.url, headers=headers, limits=limits, timeout=30) as http:
        readers = [
            Reader(http, choose_jobs(job_ids, number), random.Random(f"{given.seed} reader {number}"))
            for number in range(given.readers)
        ]
        reading = asyncio.gather(*(reader.read() for reader in readers))
        await asyncio.gather(reading, inject_faults(stack, job_ids[0], given.seconds))
        return readers


def choose_jobs(job_ids: list[str], number: int) -> list[str]:
    """Let every third reader read all jobs, and the others one each."""
    return job_ids if number % 3 == 0 else [job_ids[number % len(job_ids)]]


async def inject_faults(stack: Stack, job_id: str, seconds: float) -> None:
    """Kill the first job's worker after a third of the time, and Redis after two thirds. Raises TimeoutError if the
    jobs do not end."""
    timers: list[tuple[float, Any]] = []
    faults = Faults(stack, lambda after, do: timers.append((time.monotonic() + after, do)))
    began = time.monotonic()
    todo = [
        (seconds / 3, lambda: kill_worker(stack, faults, job_id)),
        (seconds * 2 / 3, lambda: faults.redis_restarted(1) is None),
    ]
    """Lists times and actions. An action returns whether it was possible."""
    while not all(view.is_final for view in read_jobs(stack.sessions) or ()):
        if todo and time.monotonic() - began > todo[0][0] and todo[0][1]():
            todo.pop(0)
        while timers and time.monotonic() > timers[0][0]:
            timers.pop(0)[1]()
        stack.revive()
        if time.monotonic() - began > seconds + PATIENCE_SECONDS:
            raise TimeoutError("the jobs do not end")
        await asyncio.sleep(0.1)


def kill_worker(stack: Stack, faults: Faults, job_id: str) -> bool:
    """Kill the job's worker if the job trains; return whether it did."""
    [view] = [view for view in read_jobs(stack.sessions) or () if view.id == job_id]
    work = find_work(stack.workers(), view)
    if work is None or not view.trains:
        return False
    faults.host_killed(work)
    return True


def parse() -> argparse.Namespace:
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 10**6)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.readers")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    return parser.parse_args()


def main() -> int:
    given = parse()
    print(f"CHAOS_SEED={given.seed}", flush=True)
    steps = int(given.seconds * 1000 / STEP_MS)
    with running_stack(lambda folder: Stack(folder, num_scripted=NUM_JOBS + 1, num_real=0)) as stack:
        users = Users(stack.url, stack.key)
        stack.register_model(MODEL, write_stub_model(stack.data / "model"))
        users.upload(stack.data)
        plans = [JobPlan(n, False, n, steps, 0, (), step_ms=STEP_MS, save_every=50) for n in range(NUM_JOBS)]
        job_ids = [users.post(plan).result() for plan in plans]
        readers = asyncio.run(watch(stack, users, job_ids, given))
        users.close()
    received = [each for reader in readers for each in reader.received.values()]
    damage = Counter(fault for each in received for fault in each.faults(steps))
    report = {
        "seed": given.seed,
        "num_readers": len(readers),
        "seconds": given.seconds,
        "num_readers_of_all_jobs": sum(len(reader.job_ids) > 1 for reader in readers),
        "num_cut": sum(reader.num_cut for reader in readers),
        "num_gaps": sum(each.num_gaps(steps) for each in received),
        "num_repeats": sum(each.num_repeats() for each in received),
        "num_events_told": sum(len(each.events) for each in received),
        "num_points_told": sum(len(each.points) for each in received),
        "num_attempts": max(point[0] for each in received for point in each.points),
        "damage": [f"{count} readers: {fault}" for fault, count in damage.items()],
    }
    print(json.dumps(report, indent=2))
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if damage else 0


if __name__ == "__main__":
    sys.exit(main())
