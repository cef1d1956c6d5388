"""Starts a program of ours in the way this folder wants it: `python -m tests.chaos.entry MODULE ARGUMENT…`.

The product knows nothing of it. Waits that no setting shortens are divided by CHAOS_SCALE, as the settings here are;
CHAOS_CHILD says `scripted` for workers whose training process is the scripted one; CHAOS_OFF names the guard that is
left out, so that the books can show that they see what it prevents. CHAOS_CLOCK_SECONDS sets its clock so far ahead,
or behind; CHAOS_VISIBILITY_SECONDS is Redis' visibility timeout, and has a worker print each wake-up that it receives.
"""

import os
import runpy
import sys
from collections.abc import Callable
from typing import Any

CHILD, OFF, SCALE = "CHAOS_CHILD", "CHAOS_OFF", "CHAOS_SCALE"
CLOCK, VISIBILITY = "CHAOS_CLOCK_SECONDS", "CHAOS_VISIBILITY_SECONDS"
WAKEUP = "a wake-up arrived"
SCRIPTED_DEVICE, REAL_DEVICE = "cuda", "cpu"
"""What workers of either kind say they are, so that each job finds its kind."""


def shift_clock(seconds: float) -> None:
    """Of this process, for all that asks Python for the time, and before anything could have asked; the monotonic clock
    stays. Without libfaketime, which few machines have."""
    import datetime
    import time

    real, now, now_ns = datetime.datetime, time.time, time.time_ns
    ahead = datetime.timedelta(seconds=seconds)

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Shifted(real, metaclass=Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return real.now(tz) + ahead

        @classmethod
        def utcnow(cls) -> Any:
            return real.now(datetime.UTC).replace(tzinfo=None) + ahead

    datetime.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 10**9)


def hear_wakeups(visibility_seconds: float) -> None:
    """And have Redis offer again, soon, what was taken and not acknowledged."""
    from celery.signals import task_prerun

    from worker.celery_app import app

    often = {"unacked_restore_interval": 0.25, "unacked_restore_throttle": 1}
    app.conf.broker_transport_options = {"visibility_timeout": visibility_seconds} | often
    task_prerun.connect(lambda **_: print(WAKEUP, flush=True), weak=False)


def shorten_waits() -> None:
    import worker.attempt.fenced_writer

    worker.attempt.fenced_writer.PATIENCE_SECONDS /= float(os.environ[SCALE])


def train_by_script() -> None:
    import worker.host.hardware  # before those that take its function by name
    import worker.processes.training

    worker.processes.training.COMMAND = (sys.executable, "-P", "-m", "tests.chaos.scripted_child")
    find_machine = worker.host.hardware.find_machine
    worker.host.hardware.find_machine = lambda: find_machine()._replace(device=SCRIPTED_DEVICE)
    # By its threads the two kinds of worker differ; a real GPU's training has none in its facts.
    facts = worker.host.hardware.machine_facts
    worker.host.hardware.machine_facts = lambda device, threads, *of: facts(device, threads, *of) | {"threads": threads}


def train_behind_the_others() -> None:
    """On a machine of its own a training takes no core from those that must see to it when its worker dies. Here it
    shares theirs, and gives way. Linux weighs sessions before processes, and a training has its own."""
    import worker.processes.training

    give_way = 'echo 10 >/proc/self/autogroup; exec nice -n 10 "$0" "$@"'
    worker.processes.training.COMMAND = ("sh", "-c", give_way, *worker.processes.training.COMMAND)


def leave_out_fence() -> None:
    """Whoever has once claimed a job may write as if it were still its own."""
    from sqlalchemy import select

    from app.db.tables import Job
    from app.jobs.attempts import repository as attempts
    from app.jobs.attempts.service import AttemptService
    from app.jobs.queue import repository as queue
    from app.jobs.repository import JobRepository

    def anybodys(claim: queue.Claim) -> tuple[Any, ...]:
        return Job.project_id == claim.project_id, Job.id == claim.job_id

    move, end = JobRepository.move, AttemptService._end

    def move_unfenced(self: JobRepository, project_id: str, id: str, *, fence: int, **how: Any) -> Job:
        return move(self, project_id, id, fence=Job.attempt, **how)  # type: ignore[arg-type]

    def end_with_any_token(self: AttemptService, *words: Any, **how: Any) -> Job:
        token = self.session.scalars(select(Job.claim_token).where(Job.id == self.claim.job_id)).one()
        self.claim = self.claim._replace(token=token or "")
        return end(self, *words, **how)

    attempts.owned = queue.owned = anybodys
    JobRepository.move = move_unfenced  # type: ignore[assignment]
    AttemptService._end = end_with_any_token  # type: ignore[method-assign]


def leave_out_relay() -> None:
    from app.dispatcher import Dispatcher

    Dispatcher.relay = lambda self: None  # type: ignore[method-assign]


def leave_out_recovery() -> None:
    from app.dispatcher import Dispatcher

    Dispatcher.recover_lost_work = lambda self: None  # type: ignore[method-assign]


GUARDS: dict[str, Callable[[], None]] = {
    "fence": leave_out_fence,
    "relay": leave_out_relay,
    "recovery": leave_out_recovery,
}


def main() -> None:
    module = sys.argv[1]
    if seconds := os.environ.get(CLOCK):
        shift_clock(float(seconds))
    if guard := os.environ.get(OFF):
        GUARDS[guard]()
    if module == "app.dispatcher":
        from app.dispatcher import main as dispatch

        return dispatch()
    if os.environ.get(CHILD) == "scripted":
        train_by_script()
    elif os.environ.get(CHILD) == "real":
        train_behind_the_others()
    if seconds := os.environ.get(VISIBILITY):
        hear_wakeups(float(seconds))
    shorten_waits()
    del sys.argv[0]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
