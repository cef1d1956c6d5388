"""`GET /queues` returns how much work waits."""

from collections.abc import Callable
from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app.db.session import Sessions, transaction
from app.db.tables import OutboxRow
from app.domain.hardware import WorkerHardware
from app.jobs.queue.service import QueueService
from tests.integration.jobs.conftest import queued_job

NOTHING = {
    "training": {"queued": 0, "running": 0},
    "light": {"uploads": 0, "datasets": 0, "dataset_checks": 0, "webhook_deliveries": 0},
    "wakeups": {"count": 0, "oldest_seconds": None},
}


def test_waiting_work_is_counted_over_all_projects(
    api: TestClient, sessions: Sessions, project_id: str, as_project: Callable[[str], dict[str, str]]
) -> None:
    assert api.get("/queues").json() == NOTHING
    with transaction(sessions) as session:
        session.add_all(queued_job(project_id) for _ in range(3))
        session.flush()
        assert QueueService(session).claim(WorkerHardware("here-1", "cpu", 16.0), 60)
    for text in (b'{"text": "a"}\n', b'{"text": "b"}\n'):
        assert api.put("/datasets", content=text).status_code == 201
    upload = api.post("/uploads", json={"filename": "rows.jsonl", "bytes": 14}).json()["id"]
    part = api.post(f"/uploads/{upload}/parts", content=b'{"text": "a"}\n').json()["id"]
    assert api.post(f"/uploads/{upload}/complete", json={"part_ids": [part]}).is_success

    lengths = api.get("/queues", headers=as_project("other")).json()
    assert lengths["training"] == {"queued": 2, "running": 1}
    assert lengths["light"] == {"uploads": 1, "datasets": 2, "dataset_checks": 0, "webhook_deliveries": 0}
    assert lengths["wakeups"]["count"] > 0
    assert 0 <= lengths["wakeups"]["oldest_seconds"] < 60
    with transaction(sessions) as session:
        session.execute(update(OutboxRow).values(created_at=func.clock_timestamp() - timedelta(minutes=5)))
    assert api.get("/queues").json()["wakeups"]["oldest_seconds"] > 299
