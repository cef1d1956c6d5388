"""Runs trainings through a long outage of PostgreSQL while Redis restarts repeatedly: `python -m tests.chaos.soak`.

One job uses the scripted training process and runs to its end. One uses the real process and is cancelled after the
outage. Neither may lose its attempt or a metric point, and no program's memory or open files may grow. Exits with 1
otherwise.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

from app.db.session import transaction
from app.db.tables import Job, MetricValue
from app.domain.jobs.state import JobState
from tests.chaos.consistency import ConsistencyCheck, check_leftovers
from tests.chaos.faults import Faults
from tests.chaos.job_views import JobView, find_work, read_jobs
from tests.chaos.plan import JobPlan
from tests.chaos.resource_use import ResourceUse, grown
from tests.chaos.stack import SCALE, Stack, running_stack
from tests.chaos.stub_model import write_model
from tests.chaos.users import MODEL, Users
from tunewright import TunewrightError

STEP_MS = 50
SAVE_EVERY = 100
ENDLESS = 10_000_000
LONGEST_WARM_UP_SECONDS = 60.0
LONGEST_SETTLING_SECONDS = 120.0
"""Limits the settling time before memory is measured: a worker grew by 12 MB in about 85 s, and not afterwards."""
REDIS_LIVES_LEASES = (0.3, 1.0)
PATIENCE_SECONDS = 1200.0
"""Limits each wait."""
TICK_SECONDS = 0.1
PROGRESS_SECONDS = 30.0
NUM_SAMPLES = 200
"""Counts the measurements of memory and files during the outage."""


class Soak:
    def __init__(self, stack: Stack, users: Users, seed: int, seconds: float) -> None:
        self.stack, self.users, self.seconds = stack, users, seconds
        self.lease = 60 / stack.scale
        self.warm_up = min(LONGEST_WARM_UP_SECONDS, seconds / 8)
        self.chance = random.Random(seed)
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.faults = Faults(stack, self.later)
        self.asked: list[Future[Any]] = []
        self.num_restarts = 0
        self.began = time.monotonic()
        self.printed_at = -PROGRESS_SECONDS
        steps = int((self.warm_up + seconds + self.lease) * 1000 / STEP_MS)
        self.plans = {0: JobPlan(0, False, 0, steps, 0, (), step_ms=STEP_MS, save_every=SAVE_EVERY)}
        if stack.num_real:
            self.plans[1] = JobPlan(1, True, 0, ENDLESS, 0, (), save_every=SAVE_EVERY)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.timers.append((time.monotonic() + seconds, do))

    def run(self) -> dict[str, Any]:
        for plan in self.plans.values():
            self.users.post(plan).result()
        self.run_until(lambda: all(view.trains for view in self.views()), "all jobs train")
        self.restart_redis()
        ends_at = time.monotonic() + self.warm_up
        self.run_until(lambda: time.monotonic() > ends_at, "the warm-up is over")
        use = ResourceUse(self.processes())
        away = self.outage(use)
        back = time.time()
        self.run_until(lambda: self.stored_since(back), "the points of the outage are stored")
        caught_up = time.time() - back
        for view in self.views():
            if self.plans[view.number].real:
                assert self.users.cancel(view.id).result()
        self.run_until(lambda: all(view.is_final for view in self.views()), "all jobs are final")
        self.timers.clear()
        self.stack.start_server(self.stack.redis)
        verdicts = use.verdicts()
        return {
            "seconds_away": round(away, 1),
            "lease_seconds": self.lease,
            "leases_away": round(away / self.lease, 1),
            "redis_restarts": self.num_restarts,
            "requests_refused_meanwhile": len(self.asked),
            "seconds_until_all_was_stored": round(caught_up, 1),
            "points": self.points(),
            "programs": verdicts,
            "damage": [*self.damage(), *grown(verdicts)],
        }

    def outage(self, use: ResourceUse) -> float:
        """Stop PostgreSQL for the planned time; return the duration in seconds."""
        job_id = self.views()[0].id
        began = time.monotonic()
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        sample_at = began
        settled = min(LONGEST_SETTLING_SECONDS, self.seconds / 2)

        def watch() -> bool:
            nonlocal sample_at
            now = time.monotonic()
            if now >= sample_at:
                sample_at += self.seconds / NUM_SAMPLES
                if now - began > settled:
                    use.sample()
                self.ask(job_id)
            return now - began >= self.seconds

        self.run_until(watch, "the outage of PostgreSQL has lasted long enough")
        self.stack.start_server(self.stack.postgres)
        return time.monotonic() - began

    def ask(self, job_id: str) -> None:
        """Send a user's request during the outage. No request may report success."""
        waiting = [future for future in self.asked if not future.done()]
        if not waiting:
            posts = len(self.asked) % 2 == 0
            spec = self.users.spec(self.plans[0])
            do = (lambda: self.users.client.create_job(**spec)) if posts else lambda: self.users.client.get_job(job_id)
            self.asked.append(self.users.threads.submit(do))

    def restart_redis(self) -> None:
        self.faults.redis_restarted(min(1.0, self.lease / 4))
        self.num_restarts += 1
        self.later(max(2.0, self.lease * self.chance.uniform(*REDIS_LIVES_LEASES)), self.restart_redis)

    def run_until(self, is_reached: Callable[[], bool], what: str) -> None:
        """Run timers until the condition holds. Ended programs are not restarted, and count as damage."""
        until = time.monotonic() + self.seconds + PATIENCE_SECONDS
        while not is_reached():
            now = time.monotonic()
            if now > until:
                raise TimeoutError(f"timed out waiting until {what}")
            if now - self.printed_at > PROGRESS_SECONDS:
                self.printed_at = now
                print(
                    f"{now - self.began:5.0f} s: waiting until {what}; {self.num_restarts} restarts of Redis",
                    flush=True,
                )
            due = [timer for timer in self.timers if timer[0] <= now]
            self.timers = [timer for timer in self.timers if timer not in due]
            for _, do in due:
                do()
            time.sleep(TICK_SECONDS)

    def processes(self) -> dict[str, psutil.Process]:
        """Return the programs, and the training processes by their workers' names."""
        programs = self.stack.programs.items()
        found = {name: psutil.Process(child.process.pid) for name, child in programs if child.process}
        for view in self.views():
            work = find_work(self.stack.workers(), view)
            assert work is not None
            found[f"child of {work.worker}"] = work.child
        return found

    def views(self) -> list[JobView]:
        return read_jobs(self.stack.sessions) or []

    def stored_since(self, back: float) -> bool:
        """Return whether PostgreSQL has points of every job that were measured after the outage."""
        if not self.views():
            return False  # PostgreSQL does not answer yet.
        with transaction(self.stack.sessions) as session:
            query = select(func.extract("epoch", func.max(MetricValue.measured_at))).group_by(MetricValue.job_id)
            newest = session.scalars(query).all()
        return len(newest) == len(self.plans) and min(newest) > back

    def points(self) -> dict[str, int]:
        with transaction(self.stack.sessions) as session:
            query = select(MetricValue.job_id, func.count()).where(MetricValue.name == "loss")
            return {row[0]: row[1] for row in session.execute(query.group_by(MetricValue.job_id))}

    def damage(self) -> Iterator[str]:
        """Yield damage that the consistency check does not cover."""
        ended = [name for name, child in self.stack.programs.items() if not child.is_running()]
        yield from (f"{name} ended during the outage" for name in ended)
        for future in self.asked:
            if not isinstance(error := future.exception(), TunewrightError) or (error.status or 500) < 500:
                yield f"a user was answered while PostgreSQL was unreachable: {error or future.result()}"
        with transaction(self.stack.sessions) as session:
            jobs = session.scalars(select(Job)).all()
        if len(jobs) != len(self.plans):
            yield f"there are {len(jobs)} jobs, but {len(self.plans)} were accepted"
        for job in jobs:
            if (job.attempt, job.lost_attempts, job.failed_attempts) != (1, 0, 0):
                yield f"{job.id} took {job.attempt} attempts, {job.lost_attempts} lost, {job.failed_attempts} failed"
            if job.state == JobState.failed:
                yield f"{job.id} failed: {job.failure_message}"
            steps = [point.step for point in self.users.client.metrics(job.id, names=["loss"])]
            if steps != list(range(1, len(steps) + 1)):
                yield f"{job.id} has a curve of {len(steps)} points up to step {steps[-1]}"


def parse() -> argparse.Namespace:
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 10**6)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--minutes", type=float, default=30, help="duration of the PostgreSQL outage")
    parser.add_argument("--scale", type=float, default=1, help=f"factor that shortens all waits ({SCALE} in chaos)")
    parser.add_argument(
        "--real", type=int, choices=[0, 1], default=1, help="1 to run one job in the real training process"
    )
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return parser.parse_args()


def soak(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    users = Users(stack.url, stack.key)
    stack.register_model(MODEL, write_model(stack.data / "model", given.real > 0))
    users.upload(stack.data)
    this = Soak(stack, users, given.seed, given.minutes * 60)
    report = this.run()
    damage = report["damage"] + ConsistencyCheck(stack, users.client, this.plans).run(users.accepted)
    users.close()
    damage += [f"{name} did not stop when requested" for name in stack.stop_programs()]
    damage += list(check_leftovers(stack))
    return {
        "seed": given.seed,
        "minutes": given.minutes,
        **report,
        "damage": damage,
        "verdicts": verdicts(report, damage),
    }


def verdicts(report: Mapping[str, Any], damage: Sequence[str]) -> dict[str, str]:
    """Return a verdict for each goal of the soak. Damage that belongs to no other goal counts for the last one."""
    grows = list(grown(report["programs"]))
    own = {
        "attempts_and_losses": [found for found in damage if " attempts, " in found or " failed: " in found],
        "metric_points": [found for found in damage if "curve" in found or " points " in found],
        "users_refused_while_it_was_away": [found for found in damage if "a user was answered" in found],
        "memory_and_open_files": [found for found in damage if found in grows],
    }
    assigned = {found for group in own.values() for found in group}
    own["everything_else"] = [found for found in damage if found not in assigned]
    return {name: "broken" if group else "kept" for name, group in own.items()}


def main() -> int:
    given = parse()
    print(f"CHAOS_SEED={given.seed}", flush=True)

    def make(folder: Path) -> Stack:
        return Stack(folder, num_scripted=1, num_real=given.real, scale=given.scale)

    with running_stack(make, keep=given.keep) as stack:
        report = soak(stack, given)
    report["exit_status"] = 1 if report["damage"] else 0
    print(json.dumps(report, indent=2))
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(report["exit_status"])


if __name__ == "__main__":
    sys.exit(main())
