"""Computes which resumes of a job must be exact, from its events and its workers' numbers of threads. In a run, workers
differ in nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import JobEvent
from tests.chaos.history import RecordedEvent

FACT = "machine.threads"
TYPES = ("job_claimed", "attempt_released", "attempt_lost", "attempt_failed", "checkpoint_saved", "job_resumed")
REFUSED = "inexact_resume"


class Inexact(NamedTuple):
    step: int
    before: int
    now: int


class Saved(NamedTuple):
    """Describes a checkpoint: its worker's threads, and the inexact resumes before it."""

    threads: int
    inexact: tuple[Inexact, ...]


class Resumes:
    """Computes a job's resumes. `inexact` is what the job must report. `wanted` maps each attempt that had a checkpoint
    to the threads of the workers on which it would have resumed exactly."""

    def __init__(self, events: Iterable[RecordedEvent], threads: Mapping[int, int]) -> None:
        self.inexact: tuple[Inexact, ...] = ()
        self.wanted: dict[int, int] = {}
        self.threads = 0
        """Counts the threads of the latest attempt's worker."""
        self.num_exact = self.num_inexact = self.num_drained_across = 0
        self.faults: list[str] = []
        self._of_workers = threads
        self._saved: dict[int, Saved] = {}
        self._last_end = ""
        for event in events:
            if apply := getattr(self, f"_{event.type}", None):
                apply(event.data)
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
            self.faults.append(f"attempt {data['attempt']} resumed from step {step}, where no checkpoint was saved")
            return
        self.inexact = saved.inexact
        if saved.threads == self.threads:
            self.num_exact += 1
            return
        self.inexact += (Inexact(step, saved.threads, self.threads),)
        self.num_inexact += 1
        self.num_drained_across += self._last_end == "attempt_released"


def read_resumes(session: Session, threads: Mapping[int, int]) -> dict[str, Resumes]:
    """Compute the resumes of all jobs."""
    query = select(JobEvent.job_id, JobEvent.number, JobEvent.type, JobEvent.data).where(JobEvent.type.in_(TYPES))
    rows = session.execute(query.order_by(JobEvent.job_id, JobEvent.number)).all()
    return {
        job_id: Resumes([RecordedEvent(*row[1:]) for row in events], threads)
        for job_id, events in groupby(rows, lambda row: row[0])
    }


def check_resumes(
    events: Sequence[RecordedEvent], expected: Resumes, reported: Mapping[str, Any], where: str
) -> Iterator[str]:
    """Compare the fields `exact` and `inexact_resumes` of a job or its manifest with the expected resumes."""
    if reported["exact"] is not (not expected.inexact):
        yield f"{where} says exact: {reported['exact']}, but it resumed inexactly at {list(expected.inexact)}"
    found = [_parse_inexact(each) for each in reported["inexact_resumes"]]
    if found != list(expected.inexact):
        yield f"{where} names the inexact resumes {found}, but they were {list(expected.inexact)}"
    for event in events:
        if event.type in ("attempt_failed", "job_failed") and event.data["reason"] == REFUSED:
            yield f"event {event.number} {event.type}: an inexact resume must not fail here"


def _parse_inexact(fields: Mapping[str, Any]) -> Inexact:
    differs = fields["differs"][FACT]
    return Inexact(fields["step"], differs["before"], differs["now"])
