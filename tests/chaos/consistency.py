"""Checks a run's data at its end: accepted jobs, their outcomes, and leftovers.

Each check returns descriptions of damage. A run without damage returns none.
"""

import hashlib
import io
import json
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

import psutil
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.db.session import transaction
from app.db.tables import Adapter, Artifact, Attempt, Job, JobEvent, MetricValue, OutboxRow
from app.domain.jobs.state import FINAL, JobState
from app.jobs.watching.cursors import StreamCursor
from app.jobs.watching.news import look
from tests.chaos.history import History, RecordedEvent
from tests.chaos.job_views import descendants
from tests.chaos.plan import JobPlan
from tests.chaos.resumes import Resumes, check_resumes, read_resumes
from tests.chaos.scripted_child import expected_loss, expected_weights
from tests.chaos.stack import Stack
from tests.chaos.users import NUMBER
from tunewright import Client, TunewrightError

LOST = "was accepted but is lost"
STUCK = "is stuck in"
TWICE = ("made more than one job", "adapters and", "has artifacts of attempts")
BY_KIND = {"lost": [LOST], "accepted_twice": TWICE, "stuck": [STUCK], "damage_of_any_kind": [""]}
"""Maps each kind of damage to parts of its descriptions."""
WEIGHTS = "adapter_model.safetensors"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
LOCKS = "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() OR locktype = 'advisory'"
ENDING_SECONDS = 15.0


class ConsistencyCheck:
    def __init__(self, stack: Stack, client: Client, plans: Mapping[int, JobPlan]) -> None:
        self.stack, self.client, self.plans = stack, client, plans

    def run(self, accepted: Collection[str]) -> list[str]:
        """Return the damage. `accepted` holds the ids of the jobs that the API accepted."""
        with transaction(self.stack.sessions) as session:
            jobs = session.scalars(select(Job).order_by(Job.created_at)).all()
            self.resumes = read_resumes(session, self.stack.threads)
            known = {job.id for job in jobs}
            found = [f"{id} {LOST}" for id in accepted if id not in known]
            for job in jobs:
                found += [f"{job.id}: {fault}" for fault in self._check_job(session, job)]
            twice = [number for number, count in Counter(job.metadata_[NUMBER] for job in jobs).items() if count > 1]
            found += [f"the request of plan {number} made more than one job" for number in twice]
            found += self._check_outbox(session)
            found += self._check_alike(session, jobs)
        return found

    def _plan(self, job: Job) -> JobPlan:
        return self.plans[int(job.metadata_[NUMBER])]

    def _resumes(self, job: Job) -> Resumes:
        return self.resumes.get(job.id) or Resumes([], {})

    def _check_job(self, session: Session, job: Job) -> Iterator[str]:
        try:
            yield from self._check_all(session, job)
        except (TunewrightError, KeyError) as error:
            yield f"cannot be read: {type(error).__name__}: {error}"

    def _check_all(self, session: Session, job: Job) -> Iterator[str]:
        if JobState(job.state) not in FINAL:
            yield f"{STUCK} {job.state}, attempt {job.attempt}"
        yield from self._check_history(session, job)
        yield from self._check_artifacts(session, job)
        yield from self._check_points(session, job)
        if job.state == JobState.succeeded:
            yield from self._check_curve(job)
            yield from self._check_replay(session, job)

    def _check_history(self, session: Session, job: Job) -> Iterator[str]:
        rows = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.number)).all()
        events = [RecordedEvent(row.number, row.type, row.data) for row in rows]
        history = History(events)
        yield from history.faults
        reported = self.client.get_job(job.id).raw
        yield from self._resumes(job).faults
        yield from check_resumes(events, self._resumes(job), reported, "it")
        if history.state != job.state:
            yield f"is {job.state}, but its history leads to {history.state}"
        if len(rows) != job.last_event_number:
            yield f"has {len(rows)} events but counts {job.last_event_number}"
        attempts = session.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)).all()
        if [attempt.number for attempt in attempts] != list(range(1, job.attempt + 1)):
            yield f"has attempts {[attempt.number for attempt in attempts]}, but its latest is {job.attempt}"
        for attempt in attempts:
            if attempt.ended_at is None or attempt.outcome is None:
                yield f"attempt {attempt.number} has not ended"
            if attempt.outcome != history.outcomes.get(attempt.number):
                expected = history.outcomes.get(attempt.number)
                yield f"attempt {attempt.number} is {attempt.outcome}, but its history says {expected}"

    def _check_artifacts(self, session: Session, job: Job) -> Iterator[str]:
        """Check that a succeeded job has one complete set of artifacts from its latest attempt, with the bytes that its
        rows and its manifest name. Other jobs have none."""
        rows = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
        adapters = session.scalars(select(Adapter).where(Adapter.job_id == job.id)).all()
        if job.state != JobState.succeeded:
            if rows or adapters:
                yield f"is {job.state} but has {len(rows)} artifacts"
            return
        if len(adapters) != 1 or not rows:
            yield f"succeeded with {len(adapters)} adapters and {len(rows)} artifacts"
            return
        if {row.attempt for row in rows} != {job.attempt}:
            yield f"has artifacts of attempts {sorted({row.attempt for row in rows})}, but its latest is {job.attempt}"
        read = {row.path: self._download(row.id) for row in rows}
        for row in rows:
            if (len(read[row.path]), sha256(read[row.path])) != (row.size, row.sha256):
                yield f"artifact {row.path} differs from what was stored"
        yield from check_set(read)
        yield from check_resumes([], self._resumes(job), json.loads(read["manifest.json"]), "its manifest")
        plan = self._plan(job)
        if not plan.real and read[WEIGHTS] != expected_weights(plan.seed, plan.steps):
            yield "has different weights than an undisturbed training"

    def _download(self, artifact_id: str) -> bytes:
        return self.client._transport.request("GET", "artifacts", artifact_id, "content").content

    def _check_points(self, session: Session, job: Job) -> Iterator[str]:
        """Check that an attempt's points are numbered without gaps."""
        query = (
            select(MetricValue.attempt, MetricValue.number)
            .where(MetricValue.job_id == job.id)
            .distinct()
            .order_by(MetricValue.attempt, MetricValue.number)
        )
        numbers: dict[int, list[int]] = defaultdict(list)
        for attempt, number in session.execute(query):
            numbers[attempt].append(number)
        for attempt, found in numbers.items():
            if found != list(range(1, len(found) + 1)):
                yield f"attempt {attempt} has points {found[:3]}…{found[-1]}, {len(found)} of them"

    def _check_curve(self, job: Job) -> Iterator[str]:
        """Check that the curve has every step once."""
        plan = self._plan(job)
        points = list(self.client.metrics(job.id, names=["loss"]))
        if [point.step for point in points] != list(range(1, plan.steps + 1)):
            yield f"the curve has {len(points)} points for {plan.steps} steps"
        elif not plan.real:
            wrong = [p.step for p in points if p.values["loss"] != expected_loss(plan.seed, p.step)]
            if wrong:
                yield f"the curve has the loss of another job or training at steps {wrong[:5]}"

    def _check_replay(self, session: Session, job: Job) -> Iterator[str]:
        """Check a replay of the stream: no point appears twice, and every step remains once after rewinds."""
        place, rewinds = StreamCursor(), dict[int, int]()
        points: list[tuple[int, int, int]] = []
        while not (found := look(session, job.project_id, job.id, place)).is_over:
            for event in found.events:
                place = place._replace(event=event.number)
                if event.type == "job_resumed":
                    rewinds[event.data["attempt"]] = event.data["step"]
            for point in found.points:
                place = place.past(point)
                points.append((point.attempt, point.number, point.step))
        if points != sorted(set(points)):
            yield "its stream repeats points or has them out of order"
        if (steps := fold(points, rewinds)) != list(range(1, self._plan(job).steps + 1)):
            yield f"its stream yields {len(steps)} of {self._plan(job).steps} steps"

    def _check_outbox(self, session: Session) -> Iterator[str]:
        if left := session.scalar(select(func.count()).select_from(OutboxRow)):
            yield f"{left} wake-ups were never relayed"

    def _check_alike(self, session: Session, jobs: Sequence[Job]) -> Iterator[str]:
        """Check that exact real jobs have identical weights on each kind of worker. They all have the same spec."""
        alike: dict[int, list[str]] = defaultdict(list)
        for job in jobs:
            if self._plan(job).real and job.state == JobState.succeeded and not self._resumes(job).inexact:
                alike[self._resumes(job).threads].append(job.id)
        for threads, ids in alike.items():
            query = select(Artifact.sha256, func.count()).where(Artifact.job_id.in_(ids), Artifact.path == WEIGHTS)
            digests = session.execute(query.group_by(Artifact.sha256)).all()
            if len(digests) > 1:
                counts = [count for _, count in digests]
                yield f"equal real jobs have different weights on {threads} threads: {counts} of each"


def fold(points: Sequence[tuple[int, int, int]], rewinds: Mapping[int, int]) -> list[int]:
    """Return the steps that remain of points (attempt, number, step) after each attempt's rewind."""
    steps: list[int] = []
    latest = 0
    for attempt, _, step in points:
        if attempt != latest:
            steps = [kept for kept in steps if kept <= rewinds.get(attempt, 0)]
            latest = attempt
        steps.append(step)
    return steps


OTHER_FILES = ("adapter.tar", "row_losses.csv", "step_metrics.csv")
"""Lists a job's artifacts that are not files of its adapter."""


def check_set(read: Mapping[str, bytes]) -> Iterator[str]:
    """Compare a result's files with its manifest and its archive."""
    named = json.loads(read["manifest.json"])["files"]
    for name, digest in named.items():
        if name not in read or digest != {"size": len(read[name]), "sha256": sha256(read[name])}:
            yield f"{name} differs from the manifest"
    with tarfile.open(fileobj=io.BytesIO(read["adapter.tar"])) as archive:
        packed = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        if {name: file.read() for name, file in packed.items() if file} != {
            name: content for name, content in read.items() if name not in OTHER_FILES
        }:
            yield "the archive's files differ from the artifacts"


def check_leftovers(stack: Stack) -> Iterator[str]:
    """Check that stopped programs left no process, no session or lock in PostgreSQL, and no folder of an attempt."""
    servers = {child.process.pid for child in stack.servers.values() if child.process}
    for process in descendants(psutil.Process()):
        with suppress(psutil.NoSuchProcess):
            ours = {process.pid, *(parent.pid for parent in process.parents())}
            if not servers & ours and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid} is left: {' '.join(process.cmdline())[:120]}"
    for what, query in (("sessions", SESSIONS), ("locks", LOCKS)):
        if left := left_in_postgres(stack, query):
            yield f"{left} {what} are left in Postgres"
    work = stack.data / "work"
    for folder in sorted(work.glob("*/*")):  # Folders of projects remain.
        yield f"folder {folder.name} with {sum(path.is_file() for path in folder.rglob('*'))} files of attempts is left"


def left_in_postgres(stack: Stack, query: str) -> int:
    """Return the count after PostgreSQL has had time to notice and end what dead programs left."""
    until = time.monotonic() + ENDING_SECONDS
    while True:
        with transaction(stack.sessions) as session:
            left = session.scalar(text(query)) or 0
        if not left or time.monotonic() > until:
            return int(left)
        time.sleep(0.1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
