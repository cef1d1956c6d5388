"""`python -m tests.chaos.rows`: rows of docs/chaos.md that need a stack of their own, one after the other on one.

Its workers' clocks go a day ahead and a day behind, and so do its dispatchers'. Redis offers again after two seconds
whatever was not acknowledged. Workers get wake-ups alone at first, so that none can be hidden behind the polling.

Each row says what it found; one that does not hold has a fault, and the exit status is then 1.
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
from tests.chaos.books import Books, check_leftovers
from tests.chaos.faults import send
from tests.chaos.paper_model import write_paper_model
from tests.chaos.plan import JobPlan
from tests.chaos.scripted_child import hold
from tests.chaos.sight import find_work, look
from tests.chaos.stack import Stack, running_stack
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
"""At most, from a job's posting to its claim, whatever befell Redis."""
LATE_SECONDS = 1.5
"""That a busy machine may take until recovery has seen the end of a lease."""
KILLING_SECONDS = 0.5
"""That it may take to kill a tree."""
LATE_GOING_SECONDS = 10.0
"""Beyond a drain, until a busy machine has ended the training process, the worker's threads and the worker."""
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
        """Two jobs run for longer than twice the timeout, and a third worker only receives wake-ups."""
        self.until(lambda: all(self.is_training(id) for id in self.two_long), "both train")
        self.stack.add_worker("scripted-3")
        self.until(lambda: self.is_listening("scripted-3"), "a third worker listens")
        held = self.redis(lambda client: client.hlen("unacked"))
        time.sleep(2.25 * VISIBILITY_SECONDS)
        self.until(lambda: self.wakeups("scripted-3"), "Redis offers it what is not acknowledged")
        offered = self.wakeups("scripted-3")
        with transaction(self.stack.sessions) as session:
            outbox.enqueue_wakeup(session, self.stack.project_id, "training")
        self.until(lambda: self.wakeups("scripted-3") > offered, "the third worker has received that wake-up")
        claims = [self.count(id, "job_claimed") for id in self.two_long]
        assert claims == [1, 1], claims
        assert all(self.is_training(id) for id in self.two_long)
        return {"unacknowledged_while_they_train": held, "offered_again": offered, "claims": claims}

    def clocks(self) -> dict[str, Any]:
        """The same two are on workers whose clocks are wrong; those are then killed."""
        workers = {id: self.worker_of(id) for id in self.two_long}
        assert sorted(workers.values()) == ["scripted-1", "scripted-2"], workers
        for id, worker in workers.items():
            skew = self.skew(id)
            assert abs(skew - CLOCKS[worker[-1]]) < 60, f"the clock of {worker} is {skew} s off"
            assert self.count(id, "attempt_lost") == 0

        def leases() -> float:
            return min(self.seconds_since(id, "job_claimed") for id in self.two_long) / LEASE_SECONDS

        self.until(lambda: leases() > LEASES_UNDISTURBED, "they have run for some leases")
        assert all(self.count(id, "attempt_lost") == 0 for id in self.two_long)
        ran_leases = leases()
        killed_at, ends = zip(*(self.kill(id) for id in self.two_long), strict=True)
        left = [end - at for at, end in zip(killed_at, ends, strict=True)]
        assert all(0 < seconds < LEASE_SECONDS + KILLING_SECONDS for seconds in left), left
        self.until(lambda: all(self.count(id, "attempt_lost") for id in self.two_long), "both losses are seen")
        lost = [self.happened_at(id, "attempt_lost") for id in self.two_long]
        assert all(0 <= at - end < LATE_SECONDS for at, end in zip(lost, ends, strict=True)), (lost, ends)
        return {
            "leases_run_undisturbed": round(ran_leases, 1),
            "lease_seconds": round(LEASE_SECONDS, 2),
            "seconds_from_death_to_loss": [round(at - died, 2) for died, at in zip(killed_at, lost, strict=True)],
        }

    def outages(self) -> dict[str, Any]:
        """Postgres is away for many leases while a job trains; Redis starts anew meanwhile, again and again."""
        self.bring_back_workers()
        self.until(lambda: all(self.sight(id).is_final for id in self.two_long), "what was lost has ended")
        id = self.post_held(steps=STEPS_AWAY, step_ms=80)
        self.until(lambda: self.is_training(id) and self.newest_live(id) > 0, "it trains, and shows itself")
        began = time.monotonic()
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        live = self.hurt_redis(id)
        time.sleep(max(began + LEASES_AWAY * LEASE_SECONDS - time.monotonic(), 0))
        self.stack.start_server(self.stack.postgres)
        away = time.monotonic() - began
        self.release(id)
        self.until(lambda: self.num_stored(id) == STEPS_AWAY, "what was measured meanwhile is stored")
        caught_up = time.monotonic() - began - away
        following = self.post(steps=5, step_ms=5)
        self.until(lambda: self.sight(following).attempt == 1, "a job posted afterwards has started", START_SECONDS)
        self.until(lambda: all(self.sight(each).is_final for each in (id, following)), "both have ended")
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
        """A worker is told to stop while Postgres is away. It goes all the same, and its job goes on elsewhere."""
        id = self.post_held(steps=60, step_ms=25)
        self.until(lambda: self.is_training(id), "it trains")
        worker = self.stack.programs[self.worker_of(id)]
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        assert worker.process is not None
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        self.until(lambda: not worker.is_running(), "the worker has gone", DRAIN_SECONDS + LATE_GOING_SECONDS)
        gone = time.monotonic() - began
        self.stack.start_server(self.stack.postgres)
        self.until(lambda: look(self.stack.sessions), "Postgres answers")
        self.release(id)
        self.until(lambda: self.sight(id).is_final, "it has ended elsewhere")
        assert (self.sight(id).attempt, self.count(id, "attempt_lost")) == (2, 1)
        return {"drain_seconds": round(DRAIN_SECONDS, 2), "seconds_until_it_was_gone": round(gone, 2)}

    def kill(self, id: str) -> tuple[float, float]:
        """The job's worker with all its processes; when, and when its lease ends."""
        work = find_work(self.stack.workers(), self.sight(id))
        assert work is not None
        killed_at = time.time()
        send(work.tree(), signal.SIGKILL)
        self.release(id)
        return killed_at, self.lease_end(id)

    def hurt_redis(self, id: str) -> int:
        """How many points more it shows afterwards."""
        for _ in range(NUM_RESTARTS):
            self.stack.stop_server(self.stack.redis, signal.SIGKILL)
            self.stack.start_server(self.stack.redis)
            self.until(lambda: self.redis(lambda client: client.ping()), "Redis answers")
        self.redis(lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        self.redis(lambda client: client.execute_command("CLIENT", "PAUSE", "1000", "ALL"))
        time.sleep(1)
        before = self.newest_live(id)
        self.until(lambda: self.newest_live(id) > before, "live metrics go on")
        return self.newest_live(id) - before

    def bring_back_workers(self) -> None:
        """Now they poll too."""
        for number in CLOCKS:
            child = self.stack.programs[f"scripted-{number}"]
            self.until(lambda child=child: not child.is_running(), "it is dead")  # type: ignore[misc]
            child.spec = replace(child.spec, env={**child.spec.env, "TUNEWRIGHT_POLL_SECONDS": str(5 / SCALE)})
            self.stack.start_program(child)

    # What is seen

    def post(self, steps: int, step_ms: int) -> str:
        number = len(self.plans)
        self.plans[number] = JobPlan(number, False, number, steps, 0, (), step_ms=step_ms, save_every=20)
        return self.users.post(self.plans[number]).result()

    def post_held(self, steps: int, step_ms: int) -> str:
        """It does not end before it is released."""
        held = hold(self.stack.data, len(self.plans))
        held.parent.mkdir(exist_ok=True)
        held.touch()
        return self.post(steps, step_ms)

    def release(self, id: str) -> None:
        hold(self.stack.data, self.users.accepted[id].number).unlink()

    def until(self, holds: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, f"waited in vain until {what}"
            time.sleep(0.05)

    def sight(self, id: str) -> Any:
        return next(sight for sight in look(self.stack.sessions) or [] if sight.id == id)

    def is_training(self, id: str) -> bool:
        return bool(self.sight(id).trains)

    def worker_of(self, id: str) -> str:
        work = find_work(self.stack.workers(), self.sight(id))
        assert work is not None
        return work.worker

    def wakeups(self, worker: str) -> int:
        return self.stack.programs[worker].log.read_text(errors="replace").count(entry.WAKEUP)

    def is_listening(self, worker: str) -> bool:
        """It has registered, which its first look for work comes soon after."""
        child = self.stack.programs[worker]
        assert child.process is not None
        return any(each.id.endswith(f"-{child.process.pid}") for each in self.users.client.workers())

    def redis(self, ask: Callable[[redis.Redis], Any]) -> Any:
        """None while it does not answer."""
        try:
            with self.stack.straight_to_redis() as client:
                return ask(client)
        except redis.RedisError:
            return None

    def newest_live(self, id: str) -> int:
        """Number of the newest point in Redis, 0 for none."""
        newest = self.redis(lambda client: client.xrevrange(live_metrics.metrics_key(id), count=1))
        return int(json.loads(newest[0][1][b"point"])["number"]) if newest else 0

    def count(self, id: str, type: str) -> int:
        with transaction(self.stack.sessions) as session:
            query = select(func.count()).select_from(JobEvent).where(JobEvent.job_id == id, JobEvent.type == type)
            return session.scalar(query) or 0

    def happened_at(self, id: str, type: str) -> float:
        """By the database's clock, which is ours."""
        with transaction(self.stack.sessions) as session:
            query = select(func.min(JobEvent.created_at)).where(JobEvent.job_id == id, JobEvent.type == type)
            return session.scalars(query).one().timestamp()

    def lease_end(self, id: str) -> float:
        with transaction(self.stack.sessions) as session:
            return session.scalars(select(Job.lease_until).where(Job.id == id)).one().timestamp()

    def seconds_since(self, id: str, type: str) -> float:
        return time.time() - self.happened_at(id, type)

    def skew(self, id: str) -> float:
        """How far ahead the clock is that the newest point was measured by."""
        with transaction(self.stack.sessions) as session:
            at = session.scalars(select(func.max(MetricValue.measured_at)).where(MetricValue.job_id == id)).one()
        return at.timestamp() - time.time()

    def num_stored(self, id: str) -> int:
        """Points in Postgres; none while it does not answer."""
        if not look(self.stack.sessions):
            return 0
        with transaction(self.stack.sessions) as session:
            query = select(func.count(MetricValue.number.distinct())).where(MetricValue.job_id == id)
            return session.scalar(query) or 0


def make_stack(folder: Path) -> Stack:
    over = {f"dispatcher-{number}": {entry.CLOCK: str(seconds)} for number, seconds in CLOCKS.items()}
    bells_alone = {entry.VISIBILITY: str(VISIBILITY_SECONDS), "TUNEWRIGHT_POLL_SECONDS": NEVER_SECONDS}
    over |= {f"scripted-{number}": bells_alone | {entry.CLOCK: str(seconds)} for number, seconds in CLOCKS.items()}
    over["scripted-3"] = bells_alone
    return Stack(folder, num_scripted=2, num_real=0, scale=SCALE, over=over)


def run(stack: Stack) -> dict[str, dict[str, Any]]:
    users = Users(stack.url, stack.key)
    stack.register_model(MODEL, write_paper_model(stack.data / "model"))
    users.upload(stack.data)
    rows = Rows(stack, users)
    rows.run()
    damage = Books(stack, users.client, rows.plans).check(users.accepted)
    users.close()
    damage += [f"{name} did not end when it was asked to" for name in stack.stop_programs()]
    damage += list(check_leftovers(stack))
    return rows.found | {"books": {"fault": "; ".join(damage)} if damage else {}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rows")
    parser.add_argument("--out", type=Path, help="write what was found there, as JSON")
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
