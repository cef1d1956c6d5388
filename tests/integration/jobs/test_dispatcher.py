from pathlib import Path

import redis
from sqlalchemy import func, select

from app import outbox
from app.db.session import Sessions, transaction
from app.db.tables import OutboxRow
from app.dispatcher import Dispatcher
from app.settings import Settings


def test_more_bells_than_a_batch_are_all_relayed(settings: Settings, sessions: Sessions, project_id: str) -> None:
    count = 2 * outbox.BATCH + 50
    with transaction(sessions) as session:
        for _ in range(count):
            outbox.ring(session, project_id, "training")
    Path(settings.data_dir).mkdir(exist_ok=True)
    Dispatcher(settings, sessions).relay()
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.llen("training") == count
