"""Conducts one run: posts the jobs, injects the planned faults, and waits until all jobs are final."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import psutil

from app.domain.jobs.state import JobState
from tests.chaos.faults import Faults
from tests.chaos.job_views import JobView, Work, WorkerKind, count_free, descendants, find_work, is_gone, read_jobs
from tests.chaos.plan import Disturbance, JobPlan, Release
from tests.chaos.releases import Releases
from tests.chaos.scripted_child import hold
from tests.chaos.stack import DRAIN_SECONDS, EXACT_RESUME_WAIT_SECONDS, LEASE_SECONDS, Stack
from tests.chaos.users import Users

TICK_SECONDS = 0.1
COUNT_SECONDS = 0.3
CHILD_OUTLIVES_SECONDS = 10.0
"""Limits how long a training process outlives its worker, and how long a worker outlives its drain timeout."""
NEAR_END_SECONDS = 0.02
SETTLE_SECONDS = 30.0
PROGRESS_SECONDS = 20.0
PAUSE_SECONDS = 0.5
USER_ACTIONS = ("cancelled", "paused", "paused_and_resumed")
"""Lists the hits that users cause."""
LONGEST_STALL_SECONDS = 2 * LEASE_SECONDS + EXACT_RESUME_WAIT_SECONDS
OVERLAP_SECONDS = 0.3
"""Is the time from another worker's claim until the stalled worker is resumed, during that attempt."""
BRIEF_STALL_SECONDS = LEASE_SECONDS
"""Lets the lease expire sometimes, so that the worker may recover its attempt."""
APART_FROM_TRAINING = ("dispatcher_killed", "api_killed")
"""Lists the disturbances that do not affect training jobs."""


class InjectedFault(NamedTuple):
    """Records a fault that was injected while a job trained."""

    job_id: str
    attempt: int
    kind: str
    at: float


class Conductor:
    def __init__(
        self,
        stack: Stack,
        users: Users,
        plans: Sequence[JobPlan],
        disturbances: Sequence[Disturbance],
        releases: Sequence[Release],
        in_flight: dict[bool, int],
    ) -> None:
        self.stack, self.users, self.in_flight = stack, users, in_flight
        self.faults = Faults(stack, self.later)
        self.releases = Releases(stack, self.faults, releases)
        self.to_post = {real: [plan for plan in plans if plan.real is real] for real in (False, True)}
        self.plans = {plan.number: plan for plan in plans}
        self.disturbances = list(disturbances)
        self.began = self.print_at = self.count_at = time.monotonic()
        self.began_at = time.time()
        self.disturb_at = self.began + 3
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.attempts: dict[str, int] = {}
        self.training_since: dict[tuple[str, int], float] = {}
        self.injected: list[InjectedFault] = []
        self.counts: Counter[str] = Counter()
        self.hit_attempts: set[tuple[str, int]] = set()
        self.num_hits: Counter[str] = Counter()
        self.damage: list[str] = []
        """Lists damage that was seen during the run."""
        self.cancel_seconds: list[float] = []
        self.free: list[tuple[float, Counter[WorkerKind]]] = []
        """Records over time how many workers of each kind were free."""
        self.flush_times: list[tuple[float, str]] = []
        """Lists when Redis was flushed, with the number of the job posted next."""
        self.resuming: dict[str, Future[bool] | None] = {}
        self.posting: list[tuple[bool, Future[str]]] = []

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.timers.append((time.monotonic() + seconds, do))

    def run(self, limit_seconds: float) -> list[JobView]:
        """Run until all jobs are final or the time is up, and return the jobs."""
        until = time.monotonic() + limit_seconds
        views: list[JobView] = []
        while time.monotonic() < until:
            seen = read_jobs(self.stack.sessions)
            if seen is not None:
                views = seen
                self.attempts = {view.id: view.attempt for view in views}
                self._print_progress(views)
                self._count_free()
                if self._is_over(views):
                    break
                self._post(views)
                self._inject_due(views)
                self._resume_paused(views)
                self._disturb(views)
                self._release(views)
            self._run_timers()
            self.stack.revive()
            time.sleep(TICK_SECONDS)
        self._settle()
        return read_jobs(self.stack.sessions) or views

    def _print_progress(self, views: Sequence[JobView]) -> None:
        now = time.monotonic()
        if now < self.print_at:
            return
        self.print_at = now + PROGRESS_SECONDS
        final = sum(view.is_final for view in views)
        faults = sum(self.counts.values())
        print(
            f"{now - self.began:4.0f} s: {final} of {len(self.plans)} jobs are final, {len(views) - final} active, "
            f"{faults} faults",
            flush=True,
        )

    def _count_free(self) -> None:
        now = time.monotonic()
        if now < self.count_at:
            return
        self.count_at = now + COUNT_SECONDS
        awake = {name: each for name, each in self.stack.workers().items() if name not in self.faults.stalled}
        self.free.append((time.time(), count_free(self.stack.sessions, awake, self.stack.threads)))

    def _is_over(self, views: Sequence[JobView]) -> bool:
        self.posting = [(real, future) for real, future in self.posting if not future.done()]
        all_ended = all(view.is_final or view.is_stuck_for_good for view in views)
        waits = any(self.to_post.values()) or self.posting or self.releases.release
        return not waits and all_ended

    def _settle(self) -> None:
        """Wait for the end of stalls, outages and restarts."""
        self.faults.wake_all()
        until = time.monotonic() + SETTLE_SECONDS
        while (self.timers or self.stack.back_at) and time.monotonic() < until:
            self._run_timers()
            self.stack.revive()
            time.sleep(TICK_SECONDS)

    def _run_timers(self) -> None:
        due = [timer for timer in self.timers if timer[0] <= time.monotonic()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, do in due:
            do()

    def _post(self, views: Sequence[JobView]) -> None:
        """Post a few jobs at a time, so that usually a worker is free and the measured times include no queueing."""
        active = self._active(views)
        for real, waiting in self.to_post.items():
            for plan in waiting[: max(self.in_flight[real] - active[real], 0)]:
                self._post_one(plan)

    def _active(self, views: Sequence[JobView]) -> Counter[bool]:
        under_way = [view for view in views if not view.is_final and not view.is_stuck]
        posted = Counter(self.plans[view.number].real for view in under_way)
        return posted + Counter(real for real, _ in self.posting)

    def _post_one(self, plan: JobPlan) -> None:
        self.to_post[plan.real].remove(plan)
        if plan.hits:
            held = hold(self.stack.data, plan.number)
            held.parent.mkdir(exist_ok=True)
            held.touch()
        self.posting.append((plan.real, self.users.post(plan)))

    def _inject_due(self, views: Sequence[JobView]) -> None:
        now = time.monotonic()
        for view in views:
            if not view.trains:
                continue
            since = self.training_since.setdefault((view.id, view.attempt), now)
            hits = self.plans[view.number].hits
            count = self.num_hits[view.id]
            if count < len(hits) and (view.id, view.attempt) not in self.hit_attempts:
                hit = hits[count]
                if now - since >= hit.after_seconds:
                    self._inject(view, hit.kind)

    def _inject(self, view: JobView, kind: str) -> None:
        work = find_work(self.stack.workers(), view)
        if work is None or work.worker in self.faults.stalled:
            return
        self.hit_attempts.add((view.id, view.attempt))
        self.num_hits[view.id] += 1
        if self.num_hits[view.id] == len(self.plans[view.number].hits):
            hold(self.stack.data, view.number).unlink()
        self._note(view, kind)
        if kind in USER_ACTIONS:
            self._act_as_user(view, work, kind)
            return
        if kind == "worker_killed":
            self._watch_end(descendants(work.process), kind, CHILD_OUTLIVES_SECONDS)
        if kind == "drained":
            self._watch_end([work.process], kind, DRAIN_SECONDS + CHILD_OUTLIVES_SECONDS)
        getattr(self.faults, kind)(work)
        if kind == "host_stalled_briefly":
            self.later(BRIEF_STALL_SECONDS, lambda: self.faults.wake(work.worker))
        elif kind in ("host_stalled", "worker_stalled"):
            self._wake_when_taken_over(view, work)

    def _wake_when_taken_over(self, view: JobView, work: Work) -> None:
        until = time.monotonic() + LONGEST_STALL_SECONDS

        def check_again() -> None:
            taken_over = self.attempts[view.id] > view.attempt
            if taken_over or time.monotonic() > until:
                if not taken_over:  # The attempt continues, so the job's next hit must come in it.
                    self.hit_attempts.discard((view.id, view.attempt))
                self.later(OVERLAP_SECONDS, lambda: self.faults.wake(work.worker))
            else:
                self.later(TICK_SECONDS, check_again)

        check_again()

    def _note(self, view: JobView, kind: str) -> None:
        self.counts[kind] += 1
        self.injected.append(InjectedFault(view.id, view.attempt, kind, time.time()))

    def _watch_end(self, processes: Sequence[psutil.Process], kind: str, seconds: float) -> None:
        def check() -> None:
            for process in processes:
                if not is_gone(process):
                    self.damage.append(f"process {process.pid} still runs {seconds:.0f} s after {kind}")

        self.later(seconds, check)

    def _act_as_user(self, view: JobView, work: Work, kind: str) -> None:
        if kind == "cancelled":
            self._cancel(view, work)
        elif kind == "paused":
            self.users.pause(view.id)
        else:
            self.users.pause_and_resume(view.id)

    def _resume_paused(self, views: Sequence[JobView]) -> None:
        """Resume each paused job a little later."""
        self.resuming = {id: resumed for id, resumed in self.resuming.items() if not resumed or not resumed.done()}
        for view in views:
            if view.state is JobState.paused and view.id not in self.resuming:
                self.resuming[view.id] = None
                self.later(PAUSE_SECONDS, partial(self._resume, view.id))

    def _resume(self, job_id: str) -> None:
        self.resuming[job_id] = self.users.resume(job_id)

    def _cancel(self, view: JobView, work: Work) -> None:
        """Cancel a job and measure the time from the response to the end of the training process."""
        asked = self.users.cancel(view.id)
        answered: list[float] = []

        def watch() -> None:
            if asked.done() and not answered:
                if not asked.result():
                    return
                answered.append(time.monotonic())
            if answered and is_gone(work.child):
                self.cancel_seconds.append(time.monotonic() - answered[0])
                return
            self.later(NEAR_END_SECONDS, watch)

        watch()

    def _disturb(self, views: Sequence[JobView]) -> None:
        now = time.monotonic()
        if not self.disturbances or now < self.disturb_at:
            return
        disturbance = self.disturbances.pop(0)
        seconds = disturbance.lasts_seconds
        self.disturb_at = now + seconds + (self.disturbances[0].pause_seconds if self.disturbances else 0)
        getattr(self.faults, disturbance.kind)(seconds)
        self.counts[disturbance.kind] += 1
        for view in views:
            if view.trains and disturbance.kind not in APART_FROM_TRAINING:
                self.injected.append(InjectedFault(view.id, view.attempt, disturbance.kind, time.time()))
        if disturbance.kind == "redis_flushed":
            self._post_after_flush(views)

    def _release(self, views: Sequence[JobView]) -> None:
        asked = self.releases.advance(sum(view.is_final for view in views) / len(self.plans))
        self.counts["drained_by_release"] += len(asked)
        for name in asked:
            process = self.stack.workers().get(name)
            if process:
                self._watch_end([process], "a release", DRAIN_SECONDS + CHILD_OUTLIVES_SECONDS)
                work = [view for view in views if view.trains and find_work({name: process}, view)]
                self.injected += [
                    InjectedFault(view.id, view.attempt, "drained_by_release", time.time()) for view in work
                ]

    def _post_after_flush(self, views: Sequence[JobView]) -> None:
        """Post a job that a free worker can take, so that the measured time includes no queueing."""
        workers = self.stack.workers().keys() - self.faults.stalled.keys()
        active = self._active(views)
        for real, waiting in self.to_post.items():
            free = sum(name.startswith("real") is real for name in workers) - active[real]
            if waiting and free > 0:
                self.flush_times.append((time.time(), str(waiting[0].number)))
                self._post_one(waiting[0])
                return
