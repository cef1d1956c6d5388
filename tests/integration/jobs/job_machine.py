"""Random histories of a few jobs, workers and users, compared with the model of `job_model`.

Hypothesis draws the steps, and the real services take them in a real database. After each step, every row of every
job must match the model, so a refused step must also have changed nothing.

The machine has one rule, which draws an act. With many rules, Hypothesis leaves a random part of them out of each
history. That helps to find interactions of two rules, but here most jobs would never be claimed.
"""

from collections.abc import Callable
from contextlib import nullcontext
from operator import methodcaller
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.datasets.service import DatasetService, InspectionResult
from app.db.session import transaction
from app.db.tables import Job
from app.domain.datasets.report import Report
from app.domain.hardware import WorkerHardware
from app.errors import DatasetInUse, DatasetNotFound, InvalidSpec, JobNotFinished, JobNotFound, StaleAttempt
from app.jobs.attempts.service import AttemptService, proof_of
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from tests.integration.jobs.job_model import FINAL, ModelDataset, ModelJob
from tests.integration.jobs.job_words import NOT_FINAL, WISHES, WORDS, points
from tests.integration.jobs.job_world import World

MACHINES = [WorkerHardware("large", "cuda", 80), WorkerHardware("small", "cuda", 16), WorkerHardware("cpu", "cpu", 16)]
MAX_JOBS, MAX_DATASETS = 6, 5

LIKELY_WISHES = ["pause", "resume", "resume", "resume", "cancel", "delete"]
LIKELY_WORDS = [*WORDS, "plan", "record", "record"]

ASKED = st.fixed_dictionaries(
    {
        "priority": st.integers(-1, 1),
        "device": st.sampled_from(["auto", "auto", "cpu", "cuda"]),
        "min_memory_gb": st.sampled_from([0, 0, 0, 40]),
        "max_retries": st.integers(0, 2),
        "keep_checkpoints": st.integers(1, 2),
        "life": st.sampled_from([(0, 0), (0, 0), (0, 0), (2, 2), (19, 0), (20, 0)]),
    }
)
"""`life` is the job's past: its lost attempts, and how many of the latest ones made no progress."""


class Act(NamedTuple):
    weight: int
    when: Callable[[Any], object]
    arguments: st.SearchStrategy[dict[str, Any]]


ACTS: dict[str, Act] = {}


def act(weight: int, when: Callable[[Any], object] = lambda _: True, **arguments: st.SearchStrategy[Any]) -> Any:
    """Make a method a possible step of a history."""

    def register(method: Callable[..., None]) -> Callable[..., None]:
        ACTS[method.__name__] = Act(weight, when, st.fixed_dictionaries(arguments))
        return method

    return register


def possible_act() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    names = st.runner().flatmap(
        lambda machine: st.sampled_from(
            [name for name, act in ACTS.items() if act.when(machine) for _ in range(act.weight)]
        )
    )
    return names.flatmap(lambda name: st.tuples(st.just(name), ACTS[name].arguments))


def one_of(names: str) -> st.SearchStrategy[int]:
    """Draw the number of a job, claim or dataset; those in use are drawn more often."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine, names)()))


FORGED = "0" * 32


class JobMachine(RuleBasedStateMachine):
    steps = 0
    """The number of steps in all histories."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.jobs: list[ModelJob] = []
        self.datasets: list[ModelDataset] = []
        self.claims: list[tuple[Claim, WorkerHardware]] = []

    def teardown(self) -> None:
        self.world.clear()

    def some_job(self) -> list[int]:
        unfinished = [number for number, job in enumerate(self.jobs) if job.state not in FINAL]
        return 4 * self.held_job() + 2 * unfinished + list(range(len(self.jobs)))

    def held_job(self) -> list[int]:
        return [number for number, job in enumerate(self.jobs) if job.hold]

    def silent_job(self) -> list[int]:
        """List held jobs; those that a user asked to stop are listed twice."""
        asked_to_stop = [number for number in self.held_job() if self.jobs[number].state != "running"]
        return asked_to_stop + self.held_job()

    def some_claim(self) -> list[int]:
        current = [number for number, (claim, _) in enumerate(self.claims) if self.find_held(claim)]
        return 4 * current + list(range(len(self.claims)))

    def some_dataset(self) -> list[int]:
        return list(range(len(self.datasets)))

    def find_held(self, claim: Claim) -> ModelJob | None:
        return next((job for job in self.jobs if job.belongs_to(claim) and job.hold), None)

    def is_full(self, project_id: str) -> bool:
        held = sum(job.hold for job in self.jobs if job.project_id == project_id)
        return project_id == self.world.projects[1] and held >= 1

    def inspecting(self) -> bool:
        return any(dataset.state == "inspecting" for dataset in self.datasets)

    def doomed(self) -> list[ModelJob]:
        return [job for job in self.jobs if job.state == "queued" and job.dataset.state == "invalid"]

    @invariant()
    def the_database_matches_the_model(self) -> None:
        type(self).steps += 1
        for shown, job in zip(self.world.shown(), [job for job in self.jobs if not job.deleted], strict=True):
            expected = job.row()
            differing = {name: (shown[name], value) for name, value in expected.items() if shown[name] != value}
            assert not differing, f"job {self.jobs.index(job)}, (shown, expected): {differing}"

    @initialize(
        asked=st.lists(ASKED, min_size=1, max_size=3),
        machines=st.lists(st.sampled_from(MACHINES), min_size=1, max_size=3),
    )
    def begin(self, asked: list[dict[str, Any]], machines: list[WorkerHardware]) -> None:
        for project, state in ((0, "ready"), (1, "ready"), (0, "inspecting")):
            self.upload(project, state)
        for number, each in enumerate(asked):
            self.submit(number=number % 2, asked=each)
        for machine in machines:
            self.claim(machine)

    @rule(act=possible_act())
    def step(self, act: tuple[str, dict[str, Any]]) -> None:
        name, arguments = act
        getattr(self, name)(**arguments)

    # What users do

    @act(
        1,
        when=lambda self: len(self.datasets) < MAX_DATASETS,
        project=st.integers(0, 1),
        state=st.sampled_from(["ready", "inspecting"]),
    )
    def upload(self, project: int, state: str) -> None:
        project_id = self.world.projects[project]
        self.datasets.append(ModelDataset(self.world.add_dataset(project_id, state), project_id, state))

    @act(1, when=lambda self: len(self.jobs) < MAX_JOBS, number=one_of("some_dataset"), asked=ASKED)
    def submit(self, number: int, asked: dict[str, Any]) -> None:
        dataset, (lost_attempts, fruitless) = self.datasets[number], asked["life"]
        spec = {
            "base_model": "tiny",
            "dataset_id": dataset.id,
            "training": {"epochs": 1, "keep_checkpoints": asked["keep_checkpoints"]},
            "resources": {"device": asked["device"], "min_memory_gb": asked["min_memory_gb"]},
            "priority": asked["priority"],
            "max_retries": asked["max_retries"],
        }
        ids: list[str] = []

        def post(session: Session) -> None:
            ids.append(JobService(session).submit(dataset.project_id, spec).id)
            life = {"lost_attempts": lost_attempts, "lost_attempts_without_progress": fruitless}
            session.execute(update(Job).where(Job.id == ids[0]).values(life))

        if self.succeeds(post, None if dataset.usable else InvalidSpec):
            wanted = {name: value for name, value in asked.items() if name != "life"}
            job = ModelJob(
                ids[0], dataset.project_id, dataset, **wanted, lost_attempts=lost_attempts, fruitless=fruitless
            )
            self.jobs.append(job)

    @act(7, when=lambda self: self.jobs, number=one_of("some_job"), name=st.sampled_from(LIKELY_WISHES))
    def wish(self, number: int, name: str) -> None:
        job, (ask, apply, refusals) = self.jobs[number], WISHES[name]
        refusal = JobNotFound if job.deleted else refusals.get(job.state)
        if self.succeeds(lambda session: ask(JobService(session), job.project_id, job.id), refusal):
            apply(job)
            for other in self.jobs:
                other.retry_of = None if job.deleted and other.retry_of == job.id else other.retry_of

    @act(1, when=lambda self: self.jobs and len(self.jobs) < MAX_JOBS, number=one_of("some_job"))
    def retry(self, number: int) -> None:
        job = self.jobs[number]
        refusals = dict.fromkeys(NOT_FINAL, JobNotFinished)
        if not job.dataset.usable:
            refusals |= dict.fromkeys(FINAL, InvalidSpec)
        refusal = JobNotFound if job.deleted else refusals.get(job.state)
        ids: list[str] = []

        def make_retry(session: Session) -> None:
            ids.append(JobService(session).retry(job.project_id, job.id).id)

        if self.succeeds(make_retry, refusal):
            self.jobs.append(job.make_retry(ids[0]))

    @act(1, when=lambda self: self.jobs, number=one_of("some_job"), name=st.sampled_from([*WISHES, "retry"]))
    def wish_from_another_project(self, number: int, name: str) -> None:
        other = next(id for id in self.world.projects if id != self.jobs[number].project_id)
        for verb in ("get", "log_tail", name):
            ask = methodcaller(verb, other, self.jobs[number].id)
            self.succeeds(lambda session, ask=ask: ask(JobService(session)), JobNotFound)

    @act(
        1,
        when=lambda self: self.inspecting(),
        number=one_of("some_dataset"),
        valid=st.booleans(),
    )
    def conclude_inspection(self, number: int, valid: bool) -> None:
        dataset = self.datasets[number]
        counts = {} if valid else {"not_json": 1}
        with transaction(self.world.sessions) as session:
            if found := DatasetService(session).find(dataset.project_id, dataset.id):
                report = Report(format="text", num_examples=1, problems=[], problem_counts=counts)
                DatasetService(session).conclude(found, InspectionResult(report, [], [], rows=None, hashes=None))
        if dataset.state == "inspecting":
            dataset.state = "ready" if valid else "invalid"

    @act(1, when=lambda self: any(not dataset.deleted for dataset in self.datasets[1:]), number=one_of("some_dataset"))
    def delete_dataset(self, number: int) -> None:
        """Refused while a job may still read the dataset."""
        dataset = self.datasets[number]
        used = any(job.dataset is dataset and job.state not in FINAL for job in self.jobs)
        refusal = DatasetNotFound if dataset.deleted else DatasetInUse if used else None
        if self.succeeds(lambda session: DatasetService(session).delete(dataset.project_id, dataset.id), refusal):
            dataset.deleted = True

    # What workers do

    @act(6, when=lambda self: any(job.state == "queued" for job in self.jobs), machine=st.sampled_from(MACHINES))
    def claim(self, machine: WorkerHardware) -> None:
        """Takes the most urgent job that fits and that its project's limit allows; of equals, the oldest."""
        fitting = [job for job in self.jobs if job.fits(machine) and not self.is_full(job.project_id)]
        first = min(fitting, key=lambda job: (-job.priority, self.jobs.index(job)), default=None)
        with transaction(self.world.sessions) as session:
            taken = QueueService(session).claim(machine, 60)
            assert (taken and taken.id) == (first and first.id)
        if taken and first:
            claim = Claim(taken.project_id, taken.id, taken.attempt, taken.claim_token or "")
            first.take(claim, machine)
            self.claims.append((claim, machine))

    @act(
        14,
        when=lambda self: self.claims,
        number=one_of("some_claim"),
        name=st.sampled_from(LIKELY_WORDS),
        step=st.integers(0, 9),
    )
    def send_report(self, number: int, name: str, step: int) -> None:
        claim, word = self.claims[number][0], WORDS[name]
        job = self.find_held(claim)
        accepted = job is not None and (not word.states or job.state in word.states)
        refusal = None if accepted else StaleAttempt
        if self.succeeds(lambda session: word.send_report(AttemptService(session, claim), step), refusal) and job:
            word.apply(job, step)

    @act(3, when=lambda self: self.claims, number=one_of("some_claim"))
    def send_heartbeat(self, number: int) -> None:
        """Accepted if the attempt is held, or was lost and neither another attempt nor a full project prevents it."""
        claim, machine = self.claims[number]
        full = self.is_full(claim.project_id)
        lapsed = next((job for job in self.jobs if job.belongs_to(claim) and job.lease_expired and not full), None)
        job = lapsed or self.find_held(claim)
        states: list[str] = []

        def renew(session: Session) -> None:
            states.append(QueueService(session).renew(claim, 60))

        if self.succeeds(renew, None if job else StaleAttempt) and job:
            if lapsed:
                job.recover_attempt(machine)
            job.overdue = False
            assert states == [job.state]

    @act(1, when=lambda self: self.claims, number=one_of("some_claim"), step=st.integers(0, 9))
    def record_late(self, number: int, step: int) -> None:
        """Stores points of a dead worker under its attempt, even if another attempt runs the job now. Points with a
        forged token are ignored."""
        claim, _ = self.claims[number]
        self.succeeds(
            lambda session: AttemptService(session, claim).record_late(points(claim, step, 1), proof_of(claim)), None
        )
        for job in self.jobs:
            if job.id == claim.job_id and claim.token != FORGED:
                job.points.setdefault((claim.attempt, "loss", step), 1)

    @act(1, when=lambda self: self.claims, number=one_of("some_claim"))
    def forge(self, number: int) -> None:
        """Adds a claim with a valid job and attempt, but a wrong token."""
        claim, machine = self.claims[number]
        self.claims.append((claim._replace(token=FORGED), machine))

    # What time and the dispatcher do

    @act(8, when=lambda self: self.held_job(), number=one_of("silent_job"), recovered=st.booleans())
    def let_lease_run_out(self, number: int, recovered: bool) -> None:
        self.world.let_lease_run_out(self.jobs[number].id)
        self.jobs[number].overdue = True
        if recovered:
            self.recover_lost_work()

    @act(3, when=lambda self: self.doomed() or any(job.overdue for job in self.jobs))
    def recover_lost_work(self) -> None:
        lost, doomed = [job for job in self.jobs if job.overdue], self.doomed()
        with transaction(self.world.sessions) as session:
            moved = [job.id for job in QueueService(session).recover_lost_work()]
        assert sorted(moved) == sorted(job.id for job in lost + doomed)
        for job in lost:
            job.lose()
        for job in doomed:
            job.refuse()

    def succeeds(self, act: Callable[[Session], object], refusal: type[Exception] | None) -> bool:
        """Run `act` in a transaction; it must succeed, or raise `refusal`. Return whether it succeeded."""
        with pytest.raises(refusal) if refusal else nullcontext(), transaction(self.world.sessions) as session:
            act(session)
        return refusal is None
