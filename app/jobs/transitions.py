"""Moves jobs from state to state, with the consequences of each move."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.service import DatasetService
from app.db.tables import Job
from app.domain.events.job_events import EventBody
from app.domain.jobs.state import FINAL, JobState
from app.jobs.repository import JobRepository
from app.webhooks.service import WebhookService


class JobTransitions:
    """Is the only caller of `JobRepository.move`: users, attempts and the queue move jobs through it."""

    def __init__(self, session: Session) -> None:
        self.jobs = JobRepository(session)
        self.datasets = DatasetService(session)
        self.webhooks = WebhookService(session)

    def move_job(
        self,
        project_id: str,
        id: str,
        *,
        fence: int,
        sources: Iterable[JobState],
        target: JobState,
        events: Sequence[EventBody],
        **values: Any,
    ) -> Job:
        """Move a job as `JobRepository.move` does. In the same transaction, release the datasets of a job that ends,
        and enter the deliveries to webhooks that subscribe to the new state."""
        job = self.jobs.move(project_id, id, fence=fence, sources=sources, target=target, events=events, **values)
        if target in FINAL:
            self.datasets.release(project_id, id)
        self.webhooks.enter_event(project_id, id, target)
        return job
