"""Runs the rows of docs/chaos.md that need a separate stack, one after another: `python -m tests.chaos.rows`.

The clocks of its workers and dispatchers are a day ahead or a day behind. Redis redelivers unacknowledged messages
after two seconds. Workers do not poll at first, so that polling cannot hide a lost wake-up.

Each row reports what it found. A row that fails has a fault, and the exit status is then 1.
"""

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import func, select

from app import live_metrics, outbox
from app.db.session import transaction
from app.db.tables import Attempt, Job, JobEvent, MetricValue
from tests.chaos import entry
from tests.chaos.consistency import ConsistencyCheck, check_leftovers
from tests.chaos.faults import send
from tests.chaos.job_views import find_work, read_jobs
from tests.chaos.plan import JobPlan
from tests.chaos.scripted_child import hold
from tests.chaos.stack import Stack, running_stack
from tests.chaos.stub_model import write_stub_model
from tests.chaos.users import MODEL, Users

SCALE = 20.0
LEASE_SECONDS = 60 / SCALE
DRAIN_SECONDS = 30 / SCALE
DAY_SECONDS = 86_400
VISIBILITY_SECONDS = 2
NUM_RESTARTS = 20
LEASES_AWAY = 20
LEASES_UNDISTURBED = 3.5
STEPS_AWAY = 780
START_SECONDS = 15.0
"""Limits the time from a job's creation to its claim, after any fault of Redis."""
LATE_SECONDS = 1.5
"""Allows for a busy machine when recovery notices the end of a lease."""
KILLING_SECONDS = 0.5
"""Allows for a busy machine when a process tree is killed."""
LATE_STOP_SECONDS = 10.0
"""Allows for a busy machine when the training process and the worker stop after a drain."""
NEVER_SECONDS = "600"
PATIENCE_SECONDS = 60.0
CLOCKS = {"1": DAY_SECONDS, "2": -DAY_SECONDS}


class Rows:
    def __init__(self, stack: Stack, users: Users) -> None:
        self.stack, self.users = stack, users
        self.plans: dict[int, JobPlan] = {}
        self.found: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        self.two_long = [self.post_held(steps=300, step_ms=50) for _ in range(2)]
        for row in (self.visibility, self.clocks, self.outages, self.drain):
            began = time.monotonic()
            try:
                found = row()
            except Exception:
                found = {"fault": traceback.format_exc()}
            self.found[row.__name__] = found | {"seconds": round(time.monotonic() - began, 1)}
            print(row.__name__, json.dumps(self.found[row.__name__]), flush=True)

    # Rows

    def visibility(self) -> dict[str, Any]:
        """Run two jobs for more than twice the timeout, while a third worker only receives wake-ups."""
        self.until(lambda: all(self.is_training(id) for id in self.two_long), "both jobs train")
        self.stack.add_worker("scripted-3")
        self.until(lambda: self.is_listening("scripted-3"), "a third worker listens")
        held = self.redis(lambda client: client.hlen("unacked"))
        time.sleep(2.25 * VISIBILITY_SECONDS)
        self.until(lambda: self.wakeups("scripted-3"), "Redis redelivers the unacknowledged messages")
        offered = self.wakeups("scripted-3")
        with transaction(self.stack.sessions) as session:
            outbox.enqueue_wakeup(session, self.stack.project_id, "training")
        self.until(lambda: self.wakeups("scripted-3") > offered, "the third worker has received that wake-up")
        claims = [self.count(id, "job_claimed") for id in self.two_long]
        assert claims == [1, 1], claims
        assert all(self.is_training(id) for id in self.two_long)
        return {"unacknowledged_while_they_train": held, "offered_again": offered, "claims": claims}

    def clocks(self) -> dict[str, Any]:
        """Kill the workers of the same two jobs, whose clocks are wrong."""
        workers = {id: self.worker_of(id) for id in self.two_long}
        assert sorted(workers.values()) == ["scripted-1", "scripted-2"], workers
        for id, worker in workers.items():
            skew = self.skew(id)
            assert abs(skew - CLOCKS[worker[-1]]) < 60, f"the clock of {worker} is {skew} s off"
            assert self.count(id, "attempt_lost") == 0

        def leases() -> float:
            return min(self.seconds_since(id, "job_claimed") for id in self.two_long) / LEASE_SECONDS

        self.until(lambda: leases() > LEASES_UNDISTURBED, "the jobs have run for several leases")
        assert all(self.count(id, "attempt_lost") == 0 for id in self.two_long)
        ran_leases = leases()
        killed_at, ends = zip(*(self.kill(id) for id in self.two_long), strict=True)
        left = [end - at for at, end in zip(killed_at, ends, strict=True)]
        assert all(0 < seconds < LEASE_SECONDS + KILLING_SECONDS for seconds in left), left
        self.until(lambda: all(self.count(id, "attempt_lost") for id in self.two_long), "both losses are noticed")
        lost = [self.happened_at(id, "attempt_lost") for id in self.two_long]
        assert all(0 <= at - end < LATE_SECONDS for at, end in zip(lost, ends, strict=True)), (lost, ends)
        return {
            "leases_run_undisturbed": round(ran_leases, 1),
            "lease_seconds": round(LEASE_SECONDS, 2),
            "seconds_from_death_to_loss": [round(at - died, 2) for died, at in zip(killed_at, lost, strict=True)],
        }

    def outages(self) -> dict[str, Any]:
        """Stop PostgreSQL for many leases while a job trains, and restart Redis repeatedly."""
        self.bring_back_workers()
        self.until(lambda: all(self.view(id).is_final for id in self.two_long), "the lost jobs have ended")
        id = self.post_held(steps=STEPS_AWAY, step_ms=80)
        self.until(
            lambda: self.is_training(id) and self.newest_live(id) > 0, "the job trains and publishes live metrics"
        )
        began = time.monotonic()
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        live = self.disturb_redis(id)
        time.sleep(max(began + LEASES_AWAY * LEASE_SECONDS - time.monotonic(), 0))
        self.stack.start_server(self.stack.postgres)
        away = time.monotonic() - began
        self.release(id)
        self.until(lambda: self.num_stored(id) == STEPS_AWAY, "the points of the outage are stored")
        caught_up = time.monotonic() - began - away
        following = self.post(steps=5, step_ms=5)
        self.until(lambda: self.view(following).attempt == 1, "a job created afterwards has started", START_SECONDS)
        self.until(lambda: all(self.view(each).is_final for each in (id, following)), "both jobs have ended")
        with transaction(self.stack.sessions) as session:
            job = session.get_one(Job, id)
            assert (job.state, job.attempt, job.lost_attempts, job.failed_attempts) == ("succeeded", 1, 0, 0), (
                job.failure_message
            )
            claims = session.scalar(select(func.count()).select_from(Attempt).where(Attempt.job_id == id))
            points = session.scalar(select(func.count(MetricValue.number.distinct())).where(MetricValue.job_id == id))
        assert (claims, points) == (1, STEPS_AWAY)
        assert self.count(id, "attempt_lost") == 0
        return {
            "leases_away": round(away / LEASE_SECONDS, 1),
            "redis_restarts": NUM_RESTARTS,
            "live_points_after_the_last_fault": live,
            "points_stored": STEPS_AWAY,
            "seconds_until_all_were": round(caught_up, 2),
            "seconds_until_the_next_job_ran": round(
                self.happened_at(following, "job_claimed") - self.happened_at(following, "job_created"), 2
            ),
        }

    def drain(self) -> dict[str, Any]:
        """Drain a worker while PostgreSQL is unreachable. The worker stops, and another one continues its job."""
        id = self.post_held(steps=60, step_ms=25)
        self.until(lambda: self.is_training(id), "the job trains")
        worker = self.stack.programs[self.worker_of(id)]
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        assert worker.process is not None
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        self.until(lambda: not worker.is_running(), "the worker has stopped", DRAIN_SECONDS + LATE_STOP_SECONDS)
        gone = time.monotonic() - began
        self.stack.start_server(self.stack.postgres)
        self.until(lambda: read_jobs(self.stack.sessions), "Postgres answers")
        self.release(id)
        self.until(lambda: self.view(id).is_final, "the job has ended on another worker")
        assert (self.view(id).attempt, self.count(id, "attempt_lost")) == (2, 1)
        return {"drain_seconds": round(DRAIN_SECONDS, 2), "seconds_until_it_was_gone": round(gone, 2)}

    def kill(self, id: str) -> tuple[float, float]:
        """Kill the job's worker with all its processes. Return the time, and the end of the job's lease."""
        work = find_work(self.stack.workers(), self.view(id))
        assert work is not None
        killed_at = time.time()
        send(work.tree(), signal.SIGKILL)
        self.release(id)
        return killed_at, self.lease_end(id)

    def disturb_redis(self, id: str) -> int:
        """Restart and disturb Redis. Return how many live points the job publishes afterwards."""
        for _ in range(NUM_RESTARTS):
            self.stack.stop_server(self.stack.redis, signal.SIGKILL)
            self.stack.start_server(self.stack.redis)
            self.until(lambda: self.redis(lambda client: client.ping()), "Redis answers")
        self.redis(lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        self.redis(lambda client: client.execute_command("CLIENT", "PAUSE", "1000", "ALL"))
        time.sleep(1)
        before = self.newest_live(id)
        self.until(lambda: self.newest_live(id) > before, "live metrics continue")
        return self.newest_live(id) - before

    def bring_back_workers(self) -> None:
        """Restart the killed workers, with polling."""
        for number in CLOCKS:
            child = self.stack.programs[f"scripted-{number}"]
            self.until(lambda child=child: not child.is_running(), "the worker is dead")  # type: ignore[misc]
            child.spec = replace(child.spec, env={**child.spec.env, "TUNEWRIGHT_POLL_SECONDS": str(5 / SCALE)})
            self.stack.start_program(child)

    # Helpers

    def post(self, steps: int, step_ms: int) -> str:
        number = len(self.plans)
        self.plans[number] = JobPlan(number, False, number, steps, 0, (), step_ms=step_ms, save_every=20)
        return self.users.post(self.plans[number]).result()

    def post_held(self, steps: int, step_ms: int) -> str:
        """Post a job that does not end before `release`."""
        held = hold(self.stack.data, len(self.plans))
        held.parent.mkdir(exist_ok=True)
        held.touch()
        return self.post(steps, step_ms)

    def release(self, id: str) -> None:
        hold(self.stack.data, self.users.accepted[id].number).unlink()

    def until(self, holds: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, f"timed out waiting until {what}"
            time.sleep(0.05)

    def view(self, id: str) -> Any:
        return next(view for view in read_jobs(self.stack.sessions) or [] if view.id == id)

    def is_training(self, id: str) -> bool:
        return bool(self.view(id).trains)

    def worker_of(self, id: str) -> str:
        work = find_work(self.stack.workers(), self.view(id))
        assert work is not None
        return work.worker

    def wakeups(self, worker: str) -> int:
        return self.stack.programs[worker].log.read_text(errors="replace").count(entry.WAKEUP)

    def is_listening(self, worker: str) -> bool:
        """Return whether the worker has registered; it looks for work soon after that."""
        child = self.stack.programs[worker]
        assert child.process is not None
        return any(each.id.endswith(f"-{child.process.pid}") for each in self.users.client.workers())

    def redis(self, ask: Callable[[redis.Redis], Any]) -> Any:
        """Call `ask` with a client; return None while Redis does not answer."""
        try:
            with self.stack.connect_to_redis() as client:
                return ask(client)
        except redis.RedisError:
            return None

    def newest_live(self, id: str) -> int:
        """Return the number of the newest point in Redis, 0 for none."""
        newest = self.redis(lambda client: client.xrevrange(live_metrics.metrics_key(id), count=1))
        return int(json.loads(newest[0][1][b"point"])["number"]) if newest else 0

    def count(self, id: str, type: str) -> int:
        with transaction(self.stack.sessions) as session:
            query = select(func.count()).select_from(JobEvent).where(JobEvent.job_id == id, JobEvent.type == type)
            return session.scalar(query) or 0

    def happened_at(self, id: str, type: str) -> float:
        """Return the time by the database's clock, which is also this process's."""
        with transaction(self.stack.sessions) as session:
            query = select(func.min(JobEvent.created_at)).where(JobEvent.job_id == id, JobEvent.type == type)
            return session.scalars(query).one().timestamp()

    def lease_end(self, id: str) -> float:
        with transaction(self.stack.sessions) as session:
            return session.scalars(select(Job.lease_until).where(Job.id == id)).one().timestamp()

    def seconds_since(self, id: str, type: str) -> float:
        return time.time() - self.happened_at(id, type)

    def skew(self, id: str) -> float:
        """Return how far ahead the clock is that dated the newest point."""
        with transaction(self.stack.sessions) as session:
            at = session.scalars(select(func.max(MetricValue.measured_at)).where(MetricValue.job_id == id)).one()
        return at.timestamp() - time.time()

    def num_stored(self, id: str) -> int:
        """Return the number of points in PostgreSQL; 0 while it does not answer."""
        if not read_jobs(self.stack.sessions):
            return 0
        with transaction(self.stack.sessions) as session:
            query = select(func.count(MetricValue.number.distinct())).where(MetricValue.job_id == id)
            return session.scalar(query) or 0


def make_stack(folder: Path) -> Stack:
    over = {f"dispatcher-{number}": {entry.CLOCK: str(seconds)} for number, seconds in CLOCKS.items()}
    wakeups_only = {entry.VISIBILITY: str(VISIBILITY_SECONDS), "TUNEWRIGHT_POLL_SECONDS": NEVER_SECONDS}
    over |= {f"scripted-{number}": wakeups_only | {entry.CLOCK: str(seconds)} for number, seconds in CLOCKS.items()}
    over["scripted-3"] = wakeups_only
    return Stack(folder, num_scripted=2, num_real=0, scale=SCALE, over=over)


def run(stack: Stack) -> dict[str, dict[str, Any]]:
    users = Users(stack.url, stack.key)
    stack.register_model(MODEL, write_stub_model(stack.data / "model"))
    users.upload(stack.data)
    rows = Rows(stack, users)
    rows.run()
    damage = ConsistencyCheck(stack, users.client, rows.plans).run(users.accepted)
    users.close()
    damage += [f"{name} did not stop when requested" for name in stack.stop_programs()]
    damage += list(check_leftovers(stack))
    return rows.found | {"consistency": {"fault": "; ".join(damage)} if damage else {}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rows")
    parser.add_argument("--out", type=Path, help="write the results to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    given = parser.parse_args()
    with running_stack(make_stack, keep=given.keep) as stack:
        found = run(stack)
    print(json.dumps(found, indent=2))
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if any("fault" in row for row in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
