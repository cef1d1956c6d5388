"""Provides a receiver on this machine, which the settings allow, and the deliveries of the light worker."""

from collections.abc import Callable, Iterator

import pytest

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.settings import Settings
from app.webhooks.repository import WebhookRepository
from tests.fixtures.receiver import Receiver
from tests.integration.jobs.conftest import queued_job
from worker.light.webhook_sender import deliver, open_lookups


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allowlist": "127.0.0.1"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


@pytest.fixture
def deliver_all(settings: Settings, sessions: Sessions) -> Callable[[], int]:
    """Return a function that tries each due delivery once and returns their number."""

    lookups = open_lookups()

    def run() -> int:
        count = 0
        while True:
            with transaction(sessions, "claim_delivery") as session:
                taken = WebhookRepository(session).claim(10)
            if taken is None:
                return count
            deliver(settings, sessions, lookups, taken)
            count += 1

    return run


@pytest.fixture
def add_job(sessions: Sessions, project_id: str) -> Callable[[], Job]:
    def add() -> Job:
        job = queued_job(project_id)
        with transaction(sessions) as session:
            session.add(job)
        return job

    return add
