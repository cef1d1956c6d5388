"""A fixture that erases deleted projects, as the dispatcher does."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
import redis

from app.db.session import Sessions
from app.retention.project_eraser import ProjectEraser
from app.settings import Settings
from app.storage import Storage


@pytest.fixture
def dispatcher(sessions: Sessions, settings: Settings, redis_url: str) -> Iterator[None]:
    """Erase deleted projects in the background."""
    settings.data_dir.mkdir(exist_ok=True)
    eraser, ended = ProjectEraser(sessions, Storage(settings.storage), redis.Redis.from_url(redis_url)), Event()

    def work() -> None:
        while not ended.wait(0.05):
            eraser.erase()

    thread = Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()
