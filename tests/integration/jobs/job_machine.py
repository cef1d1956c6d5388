"""Any history of a handful of jobs, workers and users, in any order, against what `job_model` says must hold.

Hypothesis draws the steps, the real services take them in a real database, and after each step every row of every
job is what the model expects: so whatever must be refused has also changed nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.session import transaction
from app.db.tables import Job
from app.domain.dataset import Report
from app.domain.event import Warned
from app.domain.job import FailureReason, JobPhase, JobState
from app.domain.machine import Machine
from app.domain.metric import MetricPoint
from app.errors import (
    AlreadyCancelling,
    AlreadyPaused,
    DatasetInUse,
    DatasetNotFound,
    InvalidSpec,
    JobFinal,
    JobNotFinal,
    JobNotFound,
    NotPaused,
    StaleAttempt,
)
from app.jobs.attempts import AttemptService
from app.jobs.queue import Claim, QueueRepository
from app.jobs.service import JobService
from tests.integration.jobs.job_model import FINAL, MAY_FAIL, MAY_SUCCEED, ModelDataset, ModelJob
from tests.integration.jobs.job_world import World, stored

MACHINES = [Machine("cpu", "cpu", 16), Machine("small", "cuda", 16), Machine("large", "cuda", 80)]
MAX_JOBS = 8
VERBS = (
    JobService.get,
    JobService.cancel,
    JobService.pause,
    JobService.resume,
    JobService.retry,
    JobService.delete,
    JobService.log_tail,
)
NOT_FINAL = [str(state) for state in JobState if state not in FINAL]


def one_of(names: str) -> st.SearchStrategy[int]:
    """A job, claim or dataset, by its number in the history; those in the middle of something come more often."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine, names)()))


class JobMachine(RuleBasedStateMachine):
    steps = 0

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.jobs: list[ModelJob] = []
        self.datasets: list[ModelDataset] = []
        self.claims: list[tuple[Claim, Machine]] = []

    def some_job(self) -> list[int]:
        open = [number for number, job in enumerate(self.jobs) if job.state not in FINAL]
        return 3 * open + list(range(len(self.jobs)))

    def held_job(self) -> list[int]:
        return [number for number, job in enumerate(self.jobs) if job.hold]

    def some_claim(self) -> list[int]:
        current = [number for number, (claim, _) in enumerate(self.claims) if self.find_job(claim)]
        return 3 * current + list(range(len(self.claims)))

    def some_dataset(self) -> list[int]:
        return list(range(len(self.datasets)))

    def find_job(self, claim: Claim, *states: str) -> ModelJob | None:
        """The job that the claim holds, in one of `states` or in any."""
        return next(
            (job for job in self.jobs if job.belongs_to(claim) and job.hold and (not states or job.state in states)),
            None,
        )

    @initialize()
    def begin(self) -> None:
        for project in (0, 1):
            self.upload(project, "ready")

    def teardown(self) -> None:
        self.world.clear()

    @invariant()
    def the_database_shows_what_must_hold(self) -> None:
        type(self).steps += 1
        for shown, job in zip(self.world.shown(), [job for job in self.jobs if not job.deleted], strict=True):
            assert shown == job.row()

    # What users do

    @precondition(lambda self: len(self.datasets) < 5)
    @rule(project=st.integers(0, 1), state=st.sampled_from(["inspecting", "ready"]))
    def upload(self, project: int, state: str) -> None:
        project_id = self.world.projects[project]
        self.datasets.append(ModelDataset(self.world.add_dataset(project_id, state), project_id, state))

    @precondition(lambda self: len(self.jobs) < MAX_JOBS)
    @rule(
        number=one_of("some_dataset"),
        priority=st.integers(-1, 1),
        device=st.sampled_from(["auto", "auto", "cpu", "cuda"]),
        min_memory_gb=st.sampled_from([0, 0, 40]),
        max_retries=st.integers(0, 2),
        keep_checkpoints=st.integers(1, 2),
        losses=st.sampled_from([0, 0, 0, 19]),
    )
    def submit(self, number: int, losses: int, **asked: Any) -> None:
        """Some with a long life of lost workers behind them."""
        dataset = self.datasets[number]
        fields = dict(asked)
        spec = {
            "base_model": "tiny",
            "dataset_id": dataset.id,
            "training": {"epochs": 1, "keep_checkpoints": fields.pop("keep_checkpoints")},
            "resources": {"device": fields.pop("device"), "min_memory_gb": fields.pop("min_memory_gb")},
        }
        unusable = dataset.deleted or dataset.state == "invalid"
        ids: list[str] = []

        def post(session: Session) -> None:
            ids.append(JobService(session).submit(dataset.project_id, spec | fields).id)
            session.execute(update(Job).where(Job.id == ids[0]).values(losses=losses))

        if self.granted(post, InvalidSpec if unusable else None):
            self.jobs.append(ModelJob(ids[0], dataset.project_id, dataset, losses=losses, **asked))

    @precondition(lambda self: self.jobs)
    @rule(number=one_of("some_job"))
    def cancel(self, number: int) -> None:
        job = self.jobs[number]
        refusals = dict.fromkeys(FINAL, JobFinal) | {"cancelling": AlreadyCancelling}
        if self.asked(job, JobService.cancel, refusals):
            job.cancel()

    @precondition(lambda self: self.jobs)
    @rule(number=one_of("some_job"))
    def pause(self, number: int) -> None:
        job = self.jobs[number]
        refusals = dict.fromkeys(FINAL, JobFinal) | {"cancelling": AlreadyCancelling}
        if self.asked(job, JobService.pause, refusals | dict.fromkeys(("pausing", "paused"), AlreadyPaused)):
            job.pause()

    @precondition(lambda self: self.jobs)
    @rule(number=one_of("some_job"))
    def resume(self, number: int) -> None:
        job = self.jobs[number]
        refusals = dict.fromkeys(FINAL, JobFinal) | {"cancelling": AlreadyCancelling}
        if self.asked(job, JobService.resume, refusals | dict.fromkeys(("queued", "running"), NotPaused)):
            job.resume()

    @precondition(lambda self: self.jobs and len(self.jobs) < MAX_JOBS)
    @rule(number=one_of("some_job"))
    def retry(self, number: int) -> None:
        job = self.jobs[number]
        refusals = dict.fromkeys(NOT_FINAL, JobNotFinal)
        if job.dataset.deleted or job.dataset.state == "invalid":
            refusals |= dict.fromkeys(FINAL, InvalidSpec)
        ids: list[str] = []

        def again(jobs: JobService, project_id: str, id: str) -> None:
            ids.append(jobs.retry(project_id, id).id)

        if self.asked(job, again, refusals):
            self.jobs.append(job.again(ids[0]))

    @precondition(lambda self: self.jobs)
    @rule(number=one_of("some_job"))
    def delete(self, number: int) -> None:
        job = self.jobs[number]
        if self.asked(job, JobService.delete, dict.fromkeys(NOT_FINAL, JobNotFinal)):
            job.deleted = True
            for other in self.jobs:
                other.retry_of = None if other.retry_of == job.id else other.retry_of

    @precondition(lambda self: self.jobs)
    @rule(number=one_of("some_job"))
    def ask_from_another_project(self, number: int) -> None:
        for verb in VERBS:
            other = next(id for id in self.world.projects if id != self.jobs[number].project_id)
            with pytest.raises(JobNotFound), transaction(self.world.sessions) as session:
                verb(JobService(session), other, self.jobs[number].id)

    @precondition(lambda self: any(dataset.state == "inspecting" for dataset in self.datasets))
    @rule(number=one_of("some_dataset"), valid=st.booleans())
    def conclude_inspection(self, number: int, valid: bool) -> None:
        dataset = self.datasets[number]
        report = Report(format="chat", num_examples=1, problems=[], problem_counts={} if valid else {"not_json": 1})
        with transaction(self.world.sessions) as session:
            if found := DatasetService(session).find(dataset.project_id, dataset.id):
                DatasetService(session).conclude(found, report)
        if dataset.state == "inspecting":
            dataset.state = "ready" if valid else "invalid"

    @rule(number=one_of("some_dataset"))
    def delete_dataset(self, number: int) -> None:
        """Refused while a job may still read it."""
        dataset = self.datasets[number]
        used = any(job.dataset is dataset and job.state not in FINAL for job in self.jobs)
        refusal = DatasetNotFound if dataset.deleted else DatasetInUse if used else None
        if self.granted(lambda session: DatasetService(session).delete(dataset.project_id, dataset.id), refusal):
            dataset.deleted = True

    # What workers do

    @rule(machine=st.sampled_from(MACHINES))
    def claim(self, machine: Machine) -> None:
        fitting = [job for job in self.jobs if not job.deleted and job.fits(machine)]
        first = min(fitting, key=lambda job: (-job.priority, self.jobs.index(job)), default=None)
        with transaction(self.world.sessions) as session:
            taken = QueueRepository(session).claim(machine, 60)
            assert (taken and taken.id) == (first and first.id)
        if taken and first:
            claim = Claim(taken.project_id, taken.id, taken.attempt, taken.claim_token or "")
            first.take(claim, machine)
            self.claims.append((claim, machine))

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"))
    def forge(self, number: int) -> None:
        """Somebody who knows the job and the attempt, and not the secret."""
        claim, machine = self.claims[number]
        self.claims.append((claim._replace(token="0" * 32), machine))

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"))
    def heartbeat(self, number: int) -> None:
        claim, machine = self.claims[number]
        job = self.find_job(claim) or next((job for job in self.jobs if job.belongs_to(claim) and job.lapsed), None)
        states: list[str] = []

        def beat(session: Session) -> None:
            states.append(QueueRepository(session).renew(claim, 60))

        if self.granted(beat, None if job else StaleAttempt) and job:
            if job.lapsed:
                job.take_up_again(machine)
            job.overdue = False
            assert states == [job.state]

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), what=st.sampled_from(["enter", "tell", "training_started"]))
    def note(self, number: int, what: str) -> None:
        words: dict[str, tuple[str, Callable[[AttemptService], object]]] = {
            "enter": ("phase_changed", lambda attempt: attempt.enter(JobPhase.training)),
            "tell": ("warned", lambda attempt: attempt.tell(Warned(code="test", text="Something is odd."))),
            "training_started": ("training_started", lambda attempt: attempt.training_started(0.1, 0.1, warm=False)),
        }
        event, word = words[what]
        if job := self.said(number, word):
            job.history.append(event)

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), start_step=st.integers(0, 4))
    def plan(self, number: int, start_step: int) -> None:
        if job := self.said(number, lambda attempt: attempt.plan({}, total_steps=9, start_step=start_step)):
            job.plan(start_step)

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), step=st.integers(1, 9), value=st.integers(0, 9))
    def record(self, number: int, step: int, value: int) -> None:
        attempt = self.claims[number][0].attempt
        point = MetricPoint(attempt=attempt, number=step, step=step, at=datetime.now(UTC), values={"loss": value})
        if job := self.said(number, lambda attempt: attempt.record([point], None)):
            job.record(step, value)

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), step=st.integers(1, 9))
    def save_checkpoint(self, number: int, step: int) -> None:
        file = stored(self.claims[number][0], f"checkpoints/{step}")
        if job := self.said(number, lambda attempt: attempt.save_checkpoint(step, [file])):
            job.save_checkpoint(step)

    @precondition(lambda self: any(job.checkpoints for job in self.jobs))
    @rule(number=one_of("some_claim"), step=st.integers(1, 9), attempt=st.integers(1, 3))
    def give_up_checkpoint(self, number: int, step: int, attempt: int) -> None:
        if job := self.said(number, lambda held: held.give_up_checkpoint(attempt, step)):
            job.give_up_checkpoint(step, attempt)

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), adapter=st.booleans())
    def publish(self, number: int, adapter: bool) -> None:
        files = [stored(self.claims[number][0], path) for path in ("a.safetensors", "b.json")]
        archive = stored(self.claims[number][0], "all.tar") if adapter else None
        if job := self.said(number, lambda attempt: attempt.publish({}, files, archive), *MAY_SUCCEED):
            job.publish([file.path for file in [*files, *([archive] if archive else [])]])

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"), reason=st.sampled_from(["nan_loss", "child_died"]))
    def fail(self, number: int, reason: str) -> None:
        if job := self.said(number, lambda attempt: attempt.fail(FailureReason(reason), "It went wrong."), *MAY_FAIL):
            job.fail(reason)

    @precondition(lambda self: self.claims)
    @rule(number=one_of("some_claim"))
    def release(self, number: int) -> None:
        if job := self.said(number, AttemptService.release):
            job.release()

    # What time and the dispatcher do

    @precondition(lambda self: self.held_job())
    @rule(number=one_of("held_job"))
    def let_lease_run_out(self, number: int) -> None:
        self.world.let_lease_run_out(self.jobs[number].id)
        self.jobs[number].overdue = True

    @rule()
    def sweep(self) -> None:
        lost = [job for job in self.jobs if job.overdue]
        refused = [job for job in self.jobs if job.state == "queued" and job.dataset.state == "invalid"]
        with transaction(self.world.sessions) as session:
            moved = [job.id for job in QueueRepository(session).sweep()]
        assert sorted(moved) == sorted(job.id for job in lost + refused)
        for job in lost:
            job.lose()
        for job in refused:
            job.refuse()

    def asked(self, job: ModelJob, verb: Callable[..., object], refusals: dict[Any, type[Exception]]) -> bool:
        """Whether a user's wish was granted."""
        refusal = JobNotFound if job.deleted else refusals.get(job.state)
        return self.granted(lambda session: verb(JobService(session), job.project_id, job.id), refusal)

    def said(self, number: int, word: Callable[[AttemptService], object], *states: str) -> ModelJob | None:
        """The job, if the claim holds it in one of `states` (any that is held); else the word is refused."""
        claim, _ = self.claims[number]
        job = self.find_job(claim, *states)
        self.granted(lambda session: word(AttemptService(session, claim)), None if job else StaleAttempt)
        return job

    def granted(self, act: Callable[[Session], object], refusal: type[Exception] | None) -> bool:
        """Act in a transaction of its own; it goes through, or ends with the one refusal that is due."""
        with pytest.raises(refusal) if refusal else nullcontext(), transaction(self.world.sessions) as session:
            act(session)
        return refusal is None
