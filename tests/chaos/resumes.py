"""How exactly a job must have gone on each time, told again from its events and from the threads of its workers: all
that two workers of a run differ by.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import JobEvent
from tests.chaos.history import Told

FACT = "machine.threads"
TYPES = ("job_claimed", "attempt_released", "attempt_lost", "attempt_failed", "checkpoint_saved", "job_resumed")
REFUSED = "inexact_resume"


class Inexact(NamedTuple):
    step: int
    before: int
    now: int


class Saved(NamedTuple):
    """A checkpoint: on how many threads it was written, and how its training had come there."""

    threads: int
    inexact: tuple[Inexact, ...]


class Resumes:
    """`inexact` is what the job must say of itself. `wanted` has, by attempt, the threads of the worker on which its
    claim would have been exact; none where it had no checkpoint."""

    def __init__(self, events: Iterable[Told], threads: Mapping[int, int]) -> None:
        self.inexact: tuple[Inexact, ...] = ()
        self.wanted: dict[int, int] = {}
        self.threads = 0
        """Of the latest attempt's worker."""
        self.num_exact = self.num_inexact = self.num_drained_across = 0
        self.faults: list[str] = []
        self._of_workers = threads
        self._saved: dict[int, Saved] = {}
        self._last_end = ""
        for event in events:
            if tell := getattr(self, f"_{event.type}", None):
                tell(event.data)
            elif event.type.startswith("attempt_"):
                self._last_end = event.type

    def _job_claimed(self, data: dict[str, Any]) -> None:
        self.threads = self._of_workers[int(data["worker"].rpartition("-")[2])]
        if self._saved:
            self.wanted[data["attempt"]] = self._saved[max(self._saved)].threads

    def _checkpoint_saved(self, data: dict[str, Any]) -> None:
        self._saved[data["step"]] = Saved(self.threads, self.inexact)

    def _job_resumed(self, data: dict[str, Any]) -> None:
        step = data["step"]
        self.inexact = ()
        saved = self._saved.get(step)  # a worker that drains before the first step saves a checkpoint of step 0
        if saved is None and step == 0:
            return
        if saved is None:
            self.faults.append(f"attempt {data['attempt']} went on from step {step}, where no checkpoint was saved")
            return
        self.inexact = saved.inexact
        if saved.threads == self.threads:
            self.num_exact += 1
            return
        self.inexact += (Inexact(step, saved.threads, self.threads),)
        self.num_inexact += 1
        self.num_drained_across += self._last_end == "attempt_released"


def read_resumes(session: Session, threads: Mapping[int, int]) -> dict[str, Resumes]:
    """Of every job."""
    query = select(JobEvent.job_id, JobEvent.number, JobEvent.type, JobEvent.data).where(JobEvent.type.in_(TYPES))
    rows = session.execute(query.order_by(JobEvent.job_id, JobEvent.number)).all()
    return {
        job_id: Resumes([Told(*row[1:]) for row in events], threads)
        for job_id, events in groupby(rows, lambda row: row[0])
    }


def check_resumes(events: Sequence[Told], expected: Resumes, told: Mapping[str, Any], where: str) -> Iterator[str]:
    """`told` is what the job or its manifest says, in the fields `exact` and `inexact_resumes`."""
    if told["exact"] is not (not expected.inexact):
        yield f"{where} says exact: {told['exact']}, and it went on inexactly at {list(expected.inexact)}"
    found = [_read(each) for each in told["inexact_resumes"]]
    if found != list(expected.inexact):
        yield f"{where} names the inexact resumes {found}, and they were {list(expected.inexact)}"
    for event in events:
        if event.type in ("attempt_failed", "job_failed") and event.data["reason"] == REFUSED:
            yield f"event {event.number} {event.type}: it was not to fail where it resumes inexactly"


def _read(told: Mapping[str, Any]) -> Inexact:
    differs = told["differs"][FACT]
    return Inexact(told["step"], differs["before"], differs["now"])
