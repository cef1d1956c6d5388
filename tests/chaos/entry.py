"""Starts a Tunewright program with changes for the chaos tests: `python -m tests.chaos.entry MODULE ARGUMENT…`.

Waits that have no setting are divided by CHAOS_SCALE, as the settings here are. CHAOS_CHILD is `scripted` for workers
that use the scripted training process. CHAOS_OFF names a guard to disable, to prove that the consistency check finds
the damage. CHAOS_CLOCK_SECONDS moves the program's clock forward or back. CHAOS_VISIBILITY_SECONDS sets Redis'
visibility timeout, and makes a worker print each wake-up that it receives.
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
"""Lists the devices that the two kinds of worker register, so that each job reaches its kind."""


def shift_clock(seconds: float) -> None:
    """Shift this process's wall clock as Python code sees it; call this before other code imports the time. The
    monotonic clock is unchanged. This works without libfaketime, which few machines have."""
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


def print_wakeups(visibility_seconds: float) -> None:
    """Print each wake-up, and make Redis redeliver unacknowledged messages soon."""
    from celery.signals import task_prerun

    from worker.celery_app import app

    often = {"unacked_restore_interval": 0.25, "unacked_restore_throttle": 1}
    app.conf.broker_transport_options = {"visibility_timeout": visibility_seconds} | often
    task_prerun.connect(lambda **_: print(WAKEUP, flush=True), weak=False)


def shorten_waits() -> None:
    import worker.attempt.fenced_writer

    worker.attempt.fenced_writer.PATIENCE_SECONDS /= float(os.environ[SCALE])


def use_scripted_training() -> None:
    import worker.host.hardware  # Before modules that import its function by name.
    import worker.processes.training

    worker.processes.training.COMMAND = (sys.executable, "-P", "-m", "tests.chaos.scripted_child")
    find_machine = worker.host.hardware.find_machine
    worker.host.hardware.find_machine = lambda: find_machine()._replace(device=SCRIPTED_DEVICE)
    # The two kinds of worker differ in their threads; the facts of a real GPU's training have none.
    facts = worker.host.hardware.machine_facts
    worker.host.hardware.machine_facts = lambda device, threads, *of: facts(device, threads, *of) | {"threads": threads}


def lower_training_priority() -> None:
    """Run training at a low priority. In production it does not share cores with the processes that recover it. Linux
    weighs sessions before processes, and a training process has a separate session."""
    import worker.processes.training

    give_way = 'echo 10 >/proc/self/autogroup; exec nice -n 10 "$0" "$@"'
    worker.processes.training.COMMAND = ("sh", "-c", give_way, *worker.processes.training.COMMAND)


def leave_out_fence() -> None:
    """Let any attempt that once claimed a job write to it."""
    from sqlalchemy import select

    from app.db.tables import Job
    from app.jobs.attempts import repository as attempts
    from app.jobs.attempts.service import AttemptService
    from app.jobs.queue import repository as queue
    from app.jobs.repository import JobRepository

    def owned_by_any_attempt(claim: queue.Claim) -> tuple[Any, ...]:
        return Job.project_id == claim.project_id, Job.id == claim.job_id

    move, end = JobRepository.move, AttemptService._end

    def move_unfenced(self: JobRepository, project_id: str, id: str, *, fence: int, **how: Any) -> Job:
        return move(self, project_id, id, fence=Job.attempt, **how)  # type: ignore[arg-type]

    def end_with_any_token(self: AttemptService, *args: Any, **how: Any) -> Job:
        token = self.session.scalars(select(Job.claim_token).where(Job.id == self.claim.job_id)).one()
        self.claim = self.claim._replace(token=token or "")
        return end(self, *args, **how)

    attempts.owned = queue.owned = owned_by_any_attempt
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
        use_scripted_training()
    elif os.environ.get(CHILD) == "real":
        lower_training_priority()
    if seconds := os.environ.get(VISIBILITY):
        print_wakeups(float(seconds))
    shorten_waits()
    del sys.argv[0]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
