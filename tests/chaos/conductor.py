"""One run: posts the jobs, does to them what the plan says, and waits until every one of them is final."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import psutil

from app.domain.jobs.state import JobState
from tests.chaos.faults import Faults
from tests.chaos.plan import Disturbance, JobPlan, Release
from tests.chaos.releases import Releases
from tests.chaos.scripted_child import hold
from tests.chaos.sight import Kind, Sight, Work, count_free, descendants, find_work, is_gone, look
from tests.chaos.stack import DRAIN_SECONDS, EXACT_RESUME_WAIT_SECONDS, LEASE_SECONDS, Stack
from tests.chaos.users import Users

TICK_SECONDS = 0.1
COUNT_SECONDS = 0.3
CHILD_OUTLIVES_SECONDS = 10.0
"""At most, its worker; and by this much a worker its drain."""
NEAR_END_SECONDS = 0.02
SETTLE_SECONDS = 30.0
PROGRESS_SECONDS = 20.0
PAUSE_SECONDS = 0.5
WISHES = ("cancelled", "paused", "paused_and_resumed")
"""Hits that users deal."""
LONGEST_STALL_SECONDS = 2 * LEASE_SECONDS + EXACT_RESUME_WAIT_SECONDS
OVERLAP_SECONDS = 0.3
"""From another worker's claim to the moment when the one that was stalled wakes, in the middle of it."""
BRIEF_STALL_SECONDS = LEASE_SECONDS
"""So that the lease lapses now and then, and the worker may take its attempt up again."""
APART_FROM_TRAINING = ("dispatcher_killed", "api_killed")
"""Disturbances that no training job feels."""


class Done(NamedTuple):
    """A fault that was done to a job while it trained."""

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
        self.began = self.tell_at = self.count_at = time.monotonic()
        self.began_at = time.time()
        self.disturb_at = self.began + 3
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.attempts: dict[str, int] = {}
        self.training_since: dict[tuple[str, int], float] = {}
        self.done: list[Done] = []
        self.counts: Counter[str] = Counter()
        self.hit_attempts: set[tuple[str, int]] = set()
        self.num_hits: Counter[str] = Counter()
        self.damage: list[str] = []
        """What was seen on the way and must not be."""
        self.cancel_seconds: list[float] = []
        self.free: list[tuple[float, Counter[Kind]]] = []
        """How many workers were free, of each kind, as time went on."""
        self.flush_times: list[tuple[float, str]] = []
        """When Redis was flushed, and the number of the job that was posted next."""
        self.resuming: dict[str, Future[bool] | None] = {}
        self.posting: list[tuple[bool, Future[str]]] = []

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.timers.append((time.monotonic() + seconds, do))

    def run(self, limit_seconds: float) -> list[Sight]:
        """The jobs as they stand at the end: all final, or time was up."""
        until = time.monotonic() + limit_seconds
        sights: list[Sight] = []
        while time.monotonic() < until:
            seen = look(self.stack.sessions)
            if seen is not None:
                sights = seen
                self.attempts = {sight.id: sight.attempt for sight in sights}
                self._tell_progress(sights)
                self._count_free()
                if self._is_over(sights):
                    break
                self._post(sights)
                self._hit(sights)
                self._resume_paused(sights)
                self._disturb(sights)
                self._release(sights)
            self._run_timers()
            self.stack.revive()
            time.sleep(TICK_SECONDS)
        self._settle()
        return look(self.stack.sessions) or sights

    def _tell_progress(self, sights: Sequence[Sight]) -> None:
        now = time.monotonic()
        if now < self.tell_at:
            return
        self.tell_at = now + PROGRESS_SECONDS
        final = sum(sight.is_final for sight in sights)
        faults = sum(self.counts.values())
        print(
            f"{now - self.began:4.0f} s: {final} of {len(self.plans)} jobs are final, {len(sights) - final} under way, "
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

    def _is_over(self, sights: Sequence[Sight]) -> bool:
        self.posting = [(real, future) for real, future in self.posting if not future.done()]
        all_ended = all(sight.is_final or sight.is_stuck_for_good for sight in sights)
        waits = any(self.to_post.values()) or self.posting or self.releases.release
        return not waits and all_ended

    def _settle(self) -> None:
        """Let what was begun come to its end: stalls, outages, restarts."""
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

    def _post(self, sights: Sequence[Sight]) -> None:
        """A few jobs at a time, so that a worker is mostly free: what is measured is the way, not the queue."""
        active = self._active(sights)
        for real, waiting in self.to_post.items():
            for plan in waiting[: max(self.in_flight[real] - active[real], 0)]:
                self._post_one(plan)

    def _active(self, sights: Sequence[Sight]) -> Counter[bool]:
        under_way = [sight for sight in sights if not sight.is_final and not sight.is_stuck]
        posted = Counter(self.plans[sight.number].real for sight in under_way)
        return posted + Counter(real for real, _ in self.posting)

    def _post_one(self, plan: JobPlan) -> None:
        self.to_post[plan.real].remove(plan)
        if plan.hits:
            held = hold(self.stack.data, plan.number)
            held.parent.mkdir(exist_ok=True)
            held.touch()
        self.posting.append((plan.real, self.users.post(plan)))

    def _hit(self, sights: Sequence[Sight]) -> None:
        now = time.monotonic()
        for sight in sights:
            if not sight.trains:
                continue
            since = self.training_since.setdefault((sight.id, sight.attempt), now)
            hits = self.plans[sight.number].hits
            count = self.num_hits[sight.id]
            if count < len(hits) and (sight.id, sight.attempt) not in self.hit_attempts:
                hit = hits[count]
                if now - since >= hit.after_seconds:
                    self._strike(sight, hit.kind)

    def _strike(self, sight: Sight, kind: str) -> None:
        work = find_work(self.stack.workers(), sight)
        if work is None or work.worker in self.faults.stalled:
            return
        self.hit_attempts.add((sight.id, sight.attempt))
        self.num_hits[sight.id] += 1
        if self.num_hits[sight.id] == len(self.plans[sight.number].hits):
            hold(self.stack.data, sight.number).unlink()
        self._note(sight, kind)
        if kind in WISHES:
            self._wish(sight, work, kind)
            return
        if kind == "worker_killed":
            self._watch_end(descendants(work.process), kind, CHILD_OUTLIVES_SECONDS)
        if kind == "drained":
            self._watch_end([work.process], kind, DRAIN_SECONDS + CHILD_OUTLIVES_SECONDS)
        getattr(self.faults, kind)(work)
        if kind == "host_stalled_briefly":
            self.later(BRIEF_STALL_SECONDS, lambda: self.faults.wake(work.worker))
        elif kind in ("host_stalled", "worker_stalled"):
            self._wake_when_taken_over(sight, work)

    def _wake_when_taken_over(self, sight: Sight, work: Work) -> None:
        until = time.monotonic() + LONGEST_STALL_SECONDS

        def look_again() -> None:
            taken_over = self.attempts[sight.id] > sight.attempt
            if taken_over or time.monotonic() > until:
                if not taken_over:  # the attempt goes on, and what is planned next for its job must come in it
                    self.hit_attempts.discard((sight.id, sight.attempt))
                self.later(OVERLAP_SECONDS, lambda: self.faults.wake(work.worker))
            else:
                self.later(TICK_SECONDS, look_again)

        look_again()

    def _note(self, sight: Sight, kind: str) -> None:
        self.counts[kind] += 1
        self.done.append(Done(sight.id, sight.attempt, kind, time.time()))

    def _watch_end(self, processes: Sequence[psutil.Process], kind: str, seconds: float) -> None:
        def check() -> None:
            for process in processes:
                if not is_gone(process):
                    self.damage.append(f"process {process.pid} lives {seconds:.0f} s after {kind}")

        self.later(seconds, check)

    def _wish(self, sight: Sight, work: Work, kind: str) -> None:
        if kind == "cancelled":
            self._cancel(sight, work)
        elif kind == "paused":
            self.users.pause(sight.id)
        else:
            self.users.pause_and_resume(sight.id)

    def _resume_paused(self, sights: Sequence[Sight]) -> None:
        """Whatever is paused is resumed a little later, whoever paused it."""
        self.resuming = {id: resumed for id, resumed in self.resuming.items() if not resumed or not resumed.done()}
        for sight in sights:
            if sight.state is JobState.paused and sight.id not in self.resuming:
                self.resuming[sight.id] = None
                self.later(PAUSE_SECONDS, partial(self._resume, sight.id))

    def _resume(self, job_id: str) -> None:
        self.resuming[job_id] = self.users.resume(job_id)

    def _cancel(self, sight: Sight, work: Work) -> None:
        """Measured from the answer to the end of the training process."""
        asked = self.users.cancel(sight.id)
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

    def _disturb(self, sights: Sequence[Sight]) -> None:
        now = time.monotonic()
        if not self.disturbances or now < self.disturb_at:
            return
        disturbance = self.disturbances.pop(0)
        seconds = disturbance.lasts_seconds
        self.disturb_at = now + seconds + (self.disturbances[0].pause_seconds if self.disturbances else 0)
        getattr(self.faults, disturbance.kind)(seconds)
        self.counts[disturbance.kind] += 1
        for sight in sights:
            if sight.trains and disturbance.kind not in APART_FROM_TRAINING:
                self.done.append(Done(sight.id, sight.attempt, disturbance.kind, time.time()))
        if disturbance.kind == "redis_flushed":
            self._post_behind_a_flush(sights)

    def _release(self, sights: Sequence[Sight]) -> None:
        asked = self.releases.go_on(sum(sight.is_final for sight in sights) / len(self.plans))
        self.counts["drained_by_release"] += len(asked)
        for name in asked:
            process = self.stack.workers().get(name)
            if process:
                self._watch_end([process], "a release", DRAIN_SECONDS + CHILD_OUTLIVES_SECONDS)
                work = [sight for sight in sights if sight.trains and find_work({name: process}, sight)]
                self.done += [Done(sight.id, sight.attempt, "drained_by_release", time.time()) for sight in work]

    def _post_behind_a_flush(self, sights: Sequence[Sight]) -> None:
        """Where a worker is free to take it: what is measured is not the queue."""
        workers = self.stack.workers().keys() - self.faults.stalled.keys()
        active = self._active(sights)
        for real, waiting in self.to_post.items():
            free = sum(name.startswith("real") is real for name in workers) - active[real]
            if waiting and free > 0:
                self.flush_times.append((time.time(), str(waiting[0].number)))
                self._post_one(waiting[0])
                return
