"""Measures how much work waits, from the tables that hold it."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, ScalarSelect, func, select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, DatasetCheck, Job, OutboxRow, Upload, WebhookDelivery
from app.domain.dataset_checks.state import DatasetCheckState
from app.domain.datasets.report import DatasetState
from app.domain.jobs.state import JobState
from app.domain.upload import UploadState
from app.domain.webhook import DeliveryState


class QueueLengths(NamedTuple):
    queued_jobs: int
    running_jobs: int
    uploads: int
    datasets: int
    dataset_checks: int
    deliveries: int
    wakeups: int
    oldest_wakeup_seconds: float | None


class QueueLengthRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def measure(self) -> QueueLengths:
        """Count the work of all projects in one statement."""
        age = func.extract("epoch", func.clock_timestamp() - func.min(OutboxRow.created_at))
        query = select(
            count(Job.state == JobState.queued),
            count(Job.lease_until.is_not(None)),
            count(Upload.state == UploadState.completed, Upload.joined_at.is_(None)),
            count(Dataset.state == DatasetState.inspecting),
            count(DatasetCheck.state == DatasetCheckState.pending),
            count(WebhookDelivery.state == DeliveryState.pending),
            select(func.count()).select_from(OutboxRow).scalar_subquery(),
            select(age).scalar_subquery(),
        )
        *counts, oldest = self.session.execute(query).one()
        return QueueLengths._make([*counts, None if oldest is None else float(oldest)])


def count(*conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).where(*conditions).scalar_subquery()
