"""Users, workers, crashes and time in random order: bytes are removed if no row names them, and only then."""

import random
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import select

from app.adapters.service import AdapterService
from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Adapter, Dataset, Job
from app.domain.artifact import StoredFile
from app.domain.hardware import machine_fingerprint
from app.domain.jobs.state import FINAL, FailureReason, JobState
from app.errors import DatasetInUse, JobNotFound, StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.settings import Settings
from tests.integration.jobs.retention_world import DAY, HOUR, World

STEPS = 120
ENDING = {*FINAL, JobState.cancelling}


class History:
    """A random history. Each method is an event that may happen; where it is impossible, it does nothing."""

    def __init__(self, world: World, claim: Callable[..., Claim | None], base_model: str, seed: int) -> None:
        self.world, self.take, self.base_model = world, claim, base_model
        self.random = random.Random(seed)
        self.claims: list[Claim] = []
        self.unsaved: list[tuple[Claim, int, Sequence[StoredFile]]] = []
        """Checkpoints whose bytes are stored, and whose rows are not written yet."""
        self.step = 0

    def ids(self, *query: object) -> list[str]:
        with transaction(self.world.sessions) as session:
            return list(session.scalars(select(*query)))  # type: ignore[call-overload]

    def any_claim(self) -> Claim | None:
        """Draw a claim, more often a recent one: several events in one attempt are the difficult case."""
        some = self.claims[-3:] if self.random.random() < 0.8 else self.claims
        return self.random.choice(some) if some else None

    def upload(self) -> None:
        self.world.upload(self.random.choice([None, None, HOUR, 3 * DAY]))

    def upload_and_die(self) -> None:
        self.world.upload_and_die()
        self.world.die_uploading()

    def submit(self) -> None:
        if ids := self.ids(Dataset.id):
            keep = self.random.randint(1, 3)
            training = {"epochs": 1, "keep_checkpoints": keep}
            spec = {"base_model": self.base_model, "dataset_id": self.random.choice(ids), "training": training}
            with transaction(self.world.sessions) as session:
                JobService(session).submit(self.world.project_id, spec)

    def claim(self) -> None:
        if taken := self.take():
            self.claims.append(taken)

    def store(self) -> None:
        """Store a checkpoint's bytes, also for an attempt that its worker has lost."""
        if claim := self.any_claim():
            self.step += 1
            self.unsaved.append((claim, self.step, self.world.store_checkpoint(claim, self.step)))

    def save(self) -> None:
        """Write the row of a checkpoint whose bytes are stored, however long ago; the fence decides."""
        if self.unsaved:
            claim, step, files = self.unsaved.pop(self.random.randrange(len(self.unsaved)))
            self.fenced(claim, lambda attempt: attempt.save_checkpoint(step, files, "1" * 64, machine_fingerprint({})))

    def succeed(self) -> None:
        if claim := self.any_claim():
            self.abandon_if_stale(claim, lambda: self.world.succeed(claim))

    def fail(self) -> None:
        if claim := self.any_claim():
            self.fenced(claim, lambda attempt: attempt.fail(FailureReason.non_finite_loss, "NaN"))

    def release(self) -> None:
        if claim := self.any_claim():
            self.fenced(claim, AttemptService.release)

    def lose(self) -> None:
        if claim := self.any_claim():
            self.world.lose(claim)

    def come_back(self) -> None:
        if claim := self.any_claim():
            self.fenced(claim, lambda attempt: QueueService(attempt.session).renew(claim, 60))

    def be_cut_off(self) -> None:
        """Disconnect a worker between a checkpoint's bytes and its row, for hours or days; the fence decides."""
        if claim := self.any_claim():
            self.step += 1
            files = self.world.store_checkpoint(claim, self.step)
            self.world.lose(claim)
            self.world.pass_time(self.random.choice([2 * HOUR, 2 * DAY]))
            self.world.collect()
            self.fenced(claim, lambda attempt: QueueService(attempt.session).renew(claim, 60))
            self.fenced(
                claim, lambda attempt: attempt.save_checkpoint(self.step, files, "1" * 64, machine_fingerprint({}))
            )

    def cancel(self) -> None:
        if ids := self.ids(Job.id):
            id = self.random.choice(ids)
            with transaction(self.world.sessions) as session:
                if JobState(JobService(session).get(self.world.project_id, id).state) not in ENDING:
                    JobService(session).cancel(self.world.project_id, id)

    def delete_job(self) -> None:
        if ids := self.ids(Job.id):
            id = self.random.choice(ids)
            with transaction(self.world.sessions) as session:
                if JobState(JobService(session).get(self.world.project_id, id).state) in FINAL:
                    JobService(session).delete(self.world.project_id, id)

    def delete_adapter(self) -> None:
        if ids := self.ids(Adapter.id):
            with transaction(self.world.sessions) as session:
                AdapterService(session).delete(self.world.project_id, self.random.choice(ids))

    def delete_dataset(self) -> None:
        if ids := self.ids(Dataset.id):
            try:
                with transaction(self.world.sessions) as session:
                    DatasetService(session).delete(self.world.project_id, self.random.choice(ids))
            except DatasetInUse:
                return

    def pass_time(self) -> None:
        self.world.pass_time(self.random.choice([60, 2 * HOUR, 25 * HOUR, 9 * DAY]))

    def fenced(self, claim: Claim, change: Callable[[AttemptService], object]) -> None:
        self.abandon_if_stale(claim, lambda: self.world.write(claim, change))

    def abandon_if_stale(self, claim: Claim, write: Callable[[], None]) -> None:
        """Write; if the attempt is stale, leave its files to the collector, as a worker does."""
        try:
            write()
        except (StaleAttempt, JobNotFound):
            self.world.write(claim, AttemptService.request_orphan_collection)


EVENTS = {
    History.upload: 3,
    History.upload_and_die: 1,
    History.submit: 4,
    History.claim: 5,
    History.store: 6,
    History.save: 6,
    History.succeed: 2,
    History.fail: 1,
    History.release: 2,
    History.lose: 3,
    History.come_back: 3,
    History.be_cut_off: 2,
    History.cancel: 1,
    History.delete_job: 1,
    History.delete_adapter: 1,
    History.delete_dataset: 1,
    History.pass_time: 5,
}


@pytest.fixture
def world(settings: Settings, sessions: Sessions, project_id: str) -> World:
    return World(settings, sessions, project_id)


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_bytes_that_no_row_names_are_removed(
    world: World, claim: Callable[..., Claim | None], base_model: str, seed: int
) -> None:
    history = History(world, claim, base_model, seed)
    for step in range(STEPS):
        event = history.random.choices(list(EVENTS), list(EVENTS.values()))[0]
        event(history)
        if history.random.random() < 0.3:
            world.collect()
        assert world.named() <= world.stored(), f"seed {seed}, step {step}: {event.__name__}"
    assert world.num_removed > 10, "the history removed too little to prove anything"
    finish(history)
    for _ in range(3):
        world.pass_time(10 * DAY)
        world.collect()
    assert world.stored() == world.named()
    assert [path for path in world.root.rglob("*") if path.is_dir() and not any(path.iterdir())] == []


def finish(history: History) -> None:
    """End every job and with it every attempt, and let every worker notice it."""
    for claim in history.claims:
        history.world.lose(claim)
    for id in history.ids(Job.id):
        with transaction(history.world.sessions) as session:
            if JobState(JobService(session).get(history.world.project_id, id).state) not in FINAL:
                JobService(session).cancel(history.world.project_id, id)
    while history.unsaved:
        history.save()
