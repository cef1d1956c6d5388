"""Several dispatchers, workers and users on one database: no work is lost or done twice, and nothing deadlocks."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from sqlalchemy import func, select, text

from app import outbox
from app.db.session import Sessions, transaction
from app.db.tables import Artifact, Attempt, Job, JobEvent, OutboxRow
from app.dispatcher import Dispatcher
from app.domain.artifact import StoredFile
from app.domain.hardware import WorkerHardware
from app.domain.jobs.state import FINAL, FailureReason, JobState
from app.errors import Conflict, StaleAttempt
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.settings import Settings

DISPATCHERS, WORKERS, USERS = 2, 4, 2
JOBS, WAKEUPS = 30, 1_000
LEASE_SECONDS = 0.4
PATIENCE_SECONDS = 120.0


@pytest.fixture
def dispatchers(settings: Settings, sessions: Sessions) -> list[Dispatcher]:
    settings.data_dir.mkdir(exist_ok=True)
    found = [Dispatcher(settings, sessions) for _ in range(DISPATCHERS)]
    for dispatcher in found:
        dispatcher.recovery_starts_at = 0
    return found


def test_each_wakeup_is_relayed_once(
    settings: Settings, sessions: Sessions, project_id: str, dispatchers: list[Dispatcher]
) -> None:
    """The dispatchers relay while the wake-ups are being sent."""
    all_sent = threading.Event()

    def send(count: int) -> None:
        for _ in range(count):
            with transaction(sessions) as session:
                outbox.enqueue_wakeup(session, project_id, "training")

    def relay(dispatcher: Dispatcher) -> None:
        while not all_sent.is_set():
            dispatcher.relay()
        dispatcher.relay()

    with ThreadPoolExecutor(DISPATCHERS + 4) as threads:
        relays = [threads.submit(relay, dispatcher) for dispatcher in dispatchers]
        for sending in [threads.submit(send, WAKEUPS // 4) for _ in range(4)]:
            sending.result()
        all_sent.set()
        for relaying in relays:
            relaying.result()
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.llen("training") == WAKEUPS


class Crowd:
    """Workers that finish, fail, release or lose their jobs, users who change their minds, and dispatchers."""

    def __init__(self, sessions: Sessions, project_id: str, ids: list[str]) -> None:
        self.sessions, self.project_id, self.ids = sessions, project_id, ids
        self.claims: list[Claim] = []
        self.published: list[tuple[str, int]] = []
        self.counts = Counter[str]()
        self.done = threading.Event()
        self.ends_at = time.monotonic() + PATIENCE_SECONDS

    def is_active(self) -> bool:
        assert time.monotonic() < self.ends_at, "jobs are stuck"
        return not self.done.is_set()

    def dispatch(self, dispatcher: Dispatcher) -> None:
        while self.is_active():
            dispatcher.relay()
            dispatcher.recover_lost_work()
            time.sleep(0.05)

    def work(self, number: int) -> None:
        chance = random.Random(number)
        machine = WorkerHardware(f"worker-{number}", "cpu", 16)
        while self.is_active():
            with transaction(self.sessions) as session:
                job = QueueService(session).claim(machine, LEASE_SECONDS)
                claim = Claim(job.project_id, job.id, job.attempt, job.claim_token or "") if job else None
            if claim:
                self.claims.append(claim)
                self.attempt(claim, chance)
            else:
                time.sleep(0.01)

    def attempt(self, claim: Claim, chance: random.Random) -> None:
        try:
            self.write(claim, lambda attempt: attempt.plan({}, total_steps=9, start_step=0))
            for _ in range(3):
                with transaction(self.sessions) as session:
                    QueueService(session).renew(claim, LEASE_SECONDS)
            self.end(claim, chance)
        except StaleAttempt:
            self.counts["let go"] += 1

    def end(self, claim: Claim, chance: random.Random) -> None:
        file = StoredFile(path="model.safetensors", key=f"{claim.job_id}/{claim.attempt}", size=1, sha256="0" * 64)
        ends: dict[str, Callable[[AttemptService], object]] = {
            "published": lambda attempt: attempt.publish({}, [file], None),
            "failed": lambda attempt: attempt.fail(FailureReason.non_finite_loss, "The loss is NaN."),
            "released": AttemptService.release,
        }
        match chance.choice([*ends, "died", "stalled"]):
            case "died":
                self.counts["died"] += 1
                return
            case "stalled":
                time.sleep(LEASE_SECONDS * 1.5)
                end = "published"
            case end:
                pass
        self.write(claim, ends[end])
        self.counts[end] += 1
        if end == "published":
            self.published.append((claim.job_id, claim.attempt))

    def use(self, number: int) -> None:
        """Send random requests, more often to resume than to pause."""
        chance = random.Random(-number)
        verbs = [JobService.pause, JobService.resume, JobService.resume, JobService.resume]
        while self.is_active():
            time.sleep(0.01)
            verb = JobService.cancel if chance.random() < 0.05 else chance.choice(verbs)
            try:
                with transaction(self.sessions) as session:
                    verb(JobService(session), self.project_id, chance.choice(self.ids))
                self.counts[verb.__name__] += 1
            except Conflict:
                self.counts["refused"] += 1

    def write(self, claim: Claim, change: Callable[[AttemptService], object]) -> None:
        with transaction(self.sessions) as session:
            change(AttemptService(session, claim))

    def watch(self) -> None:
        while self.is_active():
            with transaction(self.sessions) as session:
                states = session.scalars(select(Job.state)).all()
            if set(states) <= FINAL:
                self.done.set()
            time.sleep(0.05)


def test_a_crowd_ends_every_job_once(
    sessions: Sessions, project_id: str, post: Callable[..., str], dispatchers: list[Dispatcher]
) -> None:
    crowd = Crowd(sessions, project_id, [post(max_retries=10) for _ in range(JOBS)])
    with ThreadPoolExecutor(DISPATCHERS + WORKERS + USERS + 1) as threads:
        running = [
            *(threads.submit(crowd.dispatch, dispatcher) for dispatcher in dispatchers),
            *(threads.submit(crowd.work, number) for number in range(WORKERS)),
            *(threads.submit(crowd.use, number) for number in range(USERS)),
            threads.submit(crowd.watch),
        ]
        try:
            for thread in running:
                thread.result()
        finally:
            crowd.done.set()
    for dispatcher in dispatchers:
        dispatcher.relay()
    check_jobs(sessions, crowd)
    print(dict(crowd.counts))


def check_jobs(sessions: Sessions, crowd: Crowd) -> None:
    with transaction(sessions) as session:
        jobs = session.scalars(select(Job)).all()
        assert sorted(job.id for job in jobs) == sorted(crowd.ids)
        won = sorted(map(tuple, session.execute(select(Artifact.job_id, Artifact.attempt))))
        assert won == sorted(crowd.published)
        assert [id for id, _ in won] == sorted(job.id for job in jobs if job.state == JobState.succeeded)
        claimed = [(claim.job_id, claim.attempt) for claim in crowd.claims]
        assert len(set(claimed)) == len(claimed), "an attempt was given to two workers"
        attempts = session.execute(select(Attempt.job_id, Attempt.number))
        assert sorted(map(tuple, attempts)) == sorted(claimed)
        times = Counter(id for id, _ in claimed)
        assert {job.id: job.attempt for job in jobs} == {job.id: times[job.id] for job in jobs}
        numbers = session.execute(select(JobEvent.job_id, JobEvent.number)).all()
        for job in jobs:
            mine = sorted(number for id, number in numbers if id == job.id)
            assert mine == list(range(1, job.last_event_number + 1))
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
        deadlocks = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert session.scalar(deadlocks) == 0
