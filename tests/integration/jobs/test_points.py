"""What happens to metric points while Postgres or Redis is down, or when their worker dies."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import Engine, make_url, select, update
from sqlalchemy.exc import OperationalError

from app import live_metrics
from app.db.session import Sessions, transaction
from app.db.tables import Checkpoint, Job, JobEvent, MetricValue
from app.domain.metric import MetricPoint
from app.errors import StaleAttempt
from app.jobs.attempts.service import AttemptService, proof_of
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.local.redis import embedded_redis
from app.settings import Settings
from app.storage import Storage
from tests.integration.jobs.conftest import MACHINE
from worker.attempt.cleanup import clear_leftovers
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.reporter import Reporter
from worker.attempt.metrics.spool import FILE_NAME, PROOF_NAME
from worker.attempt.runner import AttemptRunner
from worker.host import work_folders
from worker.host.work_folders import attempt_folder
from worker.training.runtime.messages import CheckpointWritten, MetricsMessage

ROOT = Path(__file__).parents[3]
Post = Callable[..., str]
Take = Callable[..., Claim]
WRITER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from app.domain.metric import MetricPoint
from worker.attempt.metrics.spool import Spool
spool = Spool.create(Path(sys.argv[1]), sys.argv[5])
for step in range(int(sys.argv[2]), int(sys.argv[3]) + 1):
    values = {"loss": float(step)}
    now = datetime.now(UTC)
    spool.append(MetricPoint(attempt=int(sys.argv[4]), number=step, step=step, measured_at=now, values=values))
print("written", flush=True)
time.sleep(600)
"""


def measure(reporter: Reporter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        reporter.record(MetricsMessage(step=step, values={"loss": 1 / step, "learning_rate": 0.1}))


def stored(sessions: Sessions, id: str, name: str = "loss") -> list[tuple[int, int]]:
    """Return the attempt and step of each stored value."""
    query = select(MetricValue.attempt, MetricValue.step).where(MetricValue.job_id == id, MetricValue.name == name)
    with transaction(sessions) as session:
        return sorted((row.attempt, row.step) for row in session.execute(query))


def lapse(sessions: Sessions, id: str) -> None:
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id == id).values(lease_until=Job.lease_until - timedelta(days=1)))
        QueueService(session).recover_lost_work()


@contextmanager
def without_postgres(engine: Engine) -> Iterator[None]:
    """The server closes every connection to the test's database, and refuses new ones."""
    url = make_url(engine.url)
    server = {"host": url.query["host"], "user": "postgres", "dbname": "postgres", "autocommit": True}
    with psycopg.connect(**server) as admin:
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")


@pytest.fixture
def reporter_of(sessions: Sessions, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Reporter]]:
    opened: list[Reporter] = []

    def open_reporter(claim: Claim, url: str = redis_url) -> Reporter:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        reporter = Reporter(FencedWriter(sessions, claim, 60, lambda: False), live_metrics.connect(url), claim)
        reporter.open(folder)
        reporter.total_steps = 10**6
        opened.append(reporter)
        return reporter

    yield open_reporter
    for reporter in opened:
        reporter.close()


def spool_file(tmp_path: Path) -> Path:
    [found] = tmp_path.glob(f"*/{FILE_NAME}")
    return found


def test_points_wait_on_disk_while_postgres_is_down_and_none_is_lost(
    engine: Engine,
    sessions: Sessions,
    post: Post,
    claim: Take,
    reporter_of: Callable[..., Reporter],
    tmp_path: Path,
) -> None:
    id, held = post(), claim()
    reporter = reporter_of(held)
    measure(reporter, 1, 10)
    reporter.flush()
    with without_postgres(engine):
        measure(reporter, 11, 1500)
        with pytest.raises(OperationalError):
            reporter.flush()
        reporter.flush_if_due()
        assert spool_file(tmp_path).read_bytes().count(b"\n") == 1490
    measure(reporter, 1501, 1600)
    reporter.flush()
    assert stored(sessions, id) == [(1, step) for step in range(1, 1601)]
    assert spool_file(tmp_path).stat().st_size == 0
    with transaction(sessions) as session:
        job = session.get(Job, id)
        assert job is not None
        assert (job.step, job.last_metrics) == (1600, {"loss": 1 / 1600, "learning_rate": 0.1})


def live(url: str, id: str) -> list[int]:
    """Numbers of the points in the job's stream."""
    with redis.Redis.from_url(url) as client:
        entries = client.xrange(live_metrics.metrics_key(id))
    assert isinstance(entries, list)
    return [MetricPoint.model_validate_json(fields[b"point"]).number for _, fields in entries]


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_points_measured_while_redis_is_down_are_shown_when_it_returns(
    server_folder: Path, post: Post, claim: Take, reporter_of: Callable[..., Reporter]
) -> None:
    id, held = post(), claim()
    folder = server_folder / secrets.token_hex(4)
    with embedded_redis(folder, durable=False) as url:
        reporter = reporter_of(held, url)
        measure(reporter, 1, 3)
        wait_for(lambda: live(url, id) == [1, 2, 3])
    started = time.monotonic()
    measure(reporter, 4, 700)
    assert time.monotonic() - started < 1, "training does not wait for Redis"
    with embedded_redis(folder, durable=False) as url:
        wait_for(lambda: live(url, id)[-1:] == [700])
        assert live(url, id) == list(range(4, 701)), "the first points went to the other server"


def test_a_stopped_redis_delays_no_point(
    redis_url: str, sessions: Sessions, post: Post, claim: Take, reporter_of: Callable[..., Reporter]
) -> None:
    id, held = post(), claim()
    reporter = reporter_of(held)
    with redis.Redis.from_url(redis_url) as client:
        client.client_pause(3000)
    started = time.monotonic()
    measure(reporter, 1, 500)
    reporter.flush()
    assert time.monotonic() - started < 2
    assert len(stored(sessions, id)) == 500
    wait_for(lambda: live(redis_url, id)[-1:] == [500])


def write_and_die(settings: Settings, held: Claim, first: int, last: int) -> Path:
    folder = attempt_folder(settings.work_dir, held)
    folder.mkdir(parents=True)
    steps = [*(str(number) for number in (first, last, held.attempt)), proof_of(held)]
    command = [sys.executable, "-c", WRITER, str(folder), *steps]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    return folder


def test_a_dead_workers_points_are_stored_under_its_attempt(
    settings: Settings, sessions: Sessions, post: Post, claim: Take
) -> None:
    id, first = post(), claim()
    folder = write_and_die(settings, first, 1, 600)
    lapse(sessions, id)
    second = claim()
    with transaction(sessions) as session:
        AttemptService(session, second).plan({}, total_steps=1000, start_step=200)
    clear_leftovers(sessions, settings.work_dir)
    assert stored(sessions, id) == [(1, step) for step in range(1, 601)]
    assert not folder.exists()
    assert list(settings.work_dir.glob("*/*")) == []
    with transaction(sessions) as session:
        job = session.get(Job, id)
        assert job is not None
        assert job.step == 200, "the job shows the step of its present attempt"
        assert job.state == "running"


def test_a_live_workers_folder_is_kept(
    settings: Settings, sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    with work_folders.hold_folder(attempt.folder):
        attempt.reporter.open(attempt.folder)
        measure(attempt.reporter, 1, 5)
        clear_leftovers(sessions, settings.work_dir)
        assert stored(sessions, id) == []
        assert attempt.folder.exists()
        assert not attempt.reporter.close(), "its points are not stored yet"
    clear_leftovers(sessions, settings.work_dir)
    assert len(stored(sessions, id)) == 5
    assert not attempt.folder.exists()


@pytest.mark.parametrize("forgery", ["token", "job", "attempt", "points", "number", "none", "link"])
def test_points_in_a_forged_work_folder_are_not_stored(
    forgery: str, settings: Settings, sessions: Sessions, post: Post, claim: Take, tmp_path: Path
) -> None:
    """A process of the same system user writes points for another job, or, with the proof of a claim, for another
    attempt of its job."""
    id, held = post(), claim()
    other, other_claim = post(), claim()
    forged = {
        "token": held._replace(token="0" * 32),
        "job": held._replace(job_id=other),
        "attempt": held._replace(attempt=2),
    }.get(forgery, held)
    folder = attempt_folder(settings.work_dir, held._replace(attempt=10**30) if forgery == "number" else held)
    folder.mkdir(parents=True)
    number = 2 if forgery == "points" else 1
    target = tmp_path / "outside" if forgery == "link" else folder / FILE_NAME
    point = MetricPoint(attempt=number, number=1, step=1, measured_at=datetime.now(UTC), values={"loss": 0.0001})
    target.write_text(point.model_dump_json() + "\n")
    if forgery == "link":
        (folder / FILE_NAME).symlink_to(target)
    if forgery != "none":
        (folder / PROOF_NAME).write_text(proof_of(forged))
    honest = write_and_die(settings, other_claim, 1, 3)
    before = target.read_bytes()
    clear_leftovers(sessions, settings.work_dir)
    assert stored(sessions, id) == []
    assert stored(sessions, other) == [(1, 1), (1, 2), (1, 3)], "honest points are stored all the same"
    assert not folder.exists()
    assert not honest.exists()
    assert forgery != "link" or target.read_bytes() == before


def test_the_work_folder_of_a_deleted_job_is_removed(
    settings: Settings, sessions: Sessions, post: Post, claim: Take
) -> None:
    id, held = post(), claim()
    folder = write_and_die(settings, held, 1, 3)
    with transaction(sessions) as session:
        job = session.get(Job, id)
        session.delete(job)
    clear_leftovers(sessions, settings.work_dir)
    assert not folder.exists()


def test_a_worker_that_wakes_recovers_its_attempt_with_its_first_write(
    sessions: Sessions, post: Post, claim: Take, reporter_of: Callable[..., Reporter]
) -> None:
    id, held = post(), claim()
    reporter = reporter_of(held)
    measure(reporter, 1, 5)
    lapse(sessions, id)
    reporter.flush()
    assert len(stored(sessions, id)) == 5
    with transaction(sessions) as session:
        job = session.get(Job, id)
        assert job is not None
        assert (job.state, job.attempt, job.lost_attempts) == ("running", 1, 0)


def test_a_worker_that_was_replaced_writes_nothing(
    sessions: Sessions, post: Post, claim: Take, reporter_of: Callable[..., Reporter]
) -> None:
    id, held = post(), claim()
    reporter = reporter_of(held)
    measure(reporter, 1, 5)
    lapse(sessions, id)
    claim()
    with pytest.raises(StaleAttempt):
        reporter.flush()
    assert stored(sessions, id) == []


def write_checkpoint(attempt: AttemptRunner, step: int) -> CheckpointWritten:
    path = attempt.output_uploader.make_folder() / f"checkpoints/step-{step:08d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text("{}")
    return CheckpointWritten(step=step, path=path, machine=MACHINE.fingerprint)


def test_the_points_before_a_checkpoint_are_stored_before_it(
    sessions: Sessions, post: Post, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    attempt.folder.mkdir(parents=True)
    attempt.reporter.open(attempt.folder)
    measure(attempt.reporter, 1, 5)
    attempt.checkpoint_uploader.store_checkpoint(write_checkpoint(attempt, 5))
    assert len(stored(sessions, id)) == 5
    attempt.reporter.close()
    with transaction(sessions) as session:
        assert session.scalars(select(Checkpoint.step)).all() == [5]


def test_a_checkpoint_that_cannot_be_stored_causes_a_warning(
    sessions: Sessions, storage: Storage, post: Post, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]
) -> None:
    id, held = post(), claim()
    attempt = attempt_of(held)
    attempt.folder.mkdir(parents=True)
    attempt.checkpoint_uploader.store_checkpoint(write_checkpoint(attempt, 5))
    assert storage.root is not None
    blocked = storage.root / held.project_id / "jobs" / id / str(held.attempt) / "checkpoints/10"
    blocked.write_text("a file stands where the folder must be")
    checkpoint = write_checkpoint(attempt, 10)
    attempt.checkpoint_uploader.store_checkpoint(checkpoint)
    assert not checkpoint.path.exists(), "the unusable checkpoint is removed from the disk"
    with transaction(sessions) as session:
        assert session.scalars(select(Checkpoint.step)).all() == [5]
        [warned] = session.scalars(select(JobEvent).where(JobEvent.type == "warning_issued")).all()
        assert warned.data["code"] == "checkpoint_failed"
        assert "step 10" in warned.message


def test_only_the_newest_of_the_checkpoints_that_wait_for_postgres_is_kept(
    engine: Engine,
    sessions: Sessions,
    post: Post,
    claim: Take,
    attempt_of: Callable[[Claim], AttemptRunner],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.attempt.fenced_writer.PATIENCE_SECONDS", 0.2)
    post()
    attempt = attempt_of(claim())
    attempt.folder.mkdir(parents=True)
    with without_postgres(engine):
        written = [write_checkpoint(attempt, step) for step in (5, 10, 15, 20)]
        attempt.checkpoint_uploader.queue_checkpoint(written[0])
        wait_for(lambda: attempt.checkpoint_uploader.uploads[0][0].running())
        for checkpoint in written[1:]:
            attempt.checkpoint_uploader.queue_checkpoint(checkpoint)
        assert [checkpoint.path.exists() for checkpoint in written] == [True, False, False, True]
    for upload, _ in attempt.checkpoint_uploader.uploads:
        upload.result(timeout=30)
    with transaction(sessions) as session:
        assert session.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all() == [5, 20]
    assert not any(checkpoint.path.exists() for checkpoint in written)
