"""No request, claim or dispatcher duty scans a large table, by EXPLAIN of every statement that it sends."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, Table, event, make_url, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.dataset_checks.repository import DatasetCheckRepository
from app.datasets.repository import DatasetRepository
from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import Base
from app.dispatcher import Dispatcher
from app.domain.hardware import WorkerHardware
from app.jobs.queue.service import QueueService
from app.keys.service import KeyService
from app.main import create_app
from app.models.fetch_repository import FetchRepository
from app.settings import Settings
from app.uploads.repository import UploadRepository
from app.webhooks.repository import WebhookRepository
from tests.fixtures.databases import own_database

pytestmark = pytest.mark.ops  # filling the tables takes half a minute

ROWS = int(os.environ.get("TUNEWRIGHT_PLAN_ROWS", "200000"))
MODELS_SECONDS = 0.2
LARGE = (
    *("jobs", "datasets", "adapters", "attempts", "checkpoints", "artifacts", "dataset_uses", "uploads"),
    *("dataset_checks", "webhook_deliveries", "job_events", "sessions"),
)
NUMBER = "lpad(to_hex(i), 24, '0')"
EARLIER = "now() - i * interval '1 second'"
ENDED = "CASE WHEN i <= 20 THEN NULL ELSE now() - i * interval '1 second' END"
HOOK = "webhook-" + "1".zfill(24)
MANIFEST = """'{"base_model": {"name": "tiny", "revision": "1"}}'"""
SPEC = (
    '{"base_model": "tiny", "dataset_id": "file-%s", "training": {"max_steps": 1}, "suffix": null, "integrations": []}'
    % ("0" * 24)
)
COLUMN_SQL: dict[str, dict[str, str]] = {
    "jobs": {
        "id": f"'ftjob-' || {NUMBER}",
        "state": "coalesce((ARRAY['queued', 'running', 'paused', 'failed', 'cancelled'])[i / 10 + 1], 'succeeded')",
        "lease_until": "CASE WHEN i BETWEEN 10 AND 19 THEN now() + interval '1 hour' END",
        "base_model": "CASE WHEN i % 100 = 0 THEN 'rare' ELSE 'tiny' END",
        "device": "'auto'",
        "spec": f"'{SPEC}'",
        "metadata": """jsonb_build_object('team', 'team-' || i % 1000)""",
        "finished_at": ENDED,
        "created_by_key_id": "'key-' || lpad(to_hex(i % 100), 24, '0')",
        "name": "'tuned-' || i",
    },
    "datasets": {"id": f"'file-' || {NUMBER}", "state": "CASE WHEN i <= 20 THEN 'inspecting' ELSE 'ready' END"},
    "adapters": {
        "id": f"'model-' || {NUMBER}",
        "job_id": f"'ftjob-' || {NUMBER}",
        "name": "'ft:tiny::' || i",
        "manifest": MANIFEST,
    },
    "attempts": {"job_id": f"'ftjob-' || {NUMBER}", "orphans_collected_at": ENDED, "ended_at": EARLIER},
    "checkpoints": {"job_id": f"'ftjob-' || {NUMBER}", "id": f"'ftckpt-' || {NUMBER}", "files": "'[]'"},
    "artifacts": {
        "id": f"'art-' || {NUMBER}",
        "job_id": f"'ftjob-' || {NUMBER}",
        "kind": "CASE WHEN i % 4 = 0 THEN 'step_metrics' ELSE 'adapter' END",
    },
    "dataset_uses": {
        "job_id": f"'ftjob-' || {NUMBER}",
        "dataset_id": f"'file-' || {NUMBER}",
        "role": "'training'",
        "active": "i <= 50",
    },
    "uploads": {"id": f"'upload-' || {NUMBER}", "state": "'completed'", "joined_at": ENDED, "ended_at": EARLIER},
    "dataset_checks": {
        "id": f"'preview-' || {NUMBER}",
        "dataset_id": f"'file-' || {NUMBER}",
        "state": "CASE WHEN i <= 20 THEN 'pending' ELSE 'ready' END",
    },
    "webhook_deliveries": {
        "id": f"'delivery-' || {NUMBER}",
        "webhook_id": f"'{HOOK}'",
        "state": "CASE WHEN i <= 20 THEN 'pending' ELSE 'delivered' END",
        "next_try_at": f"CASE WHEN i <= 20 THEN {EARLIER} END",
        "ended_at": ENDED,
    },
    "job_events": {"job_id": f"'ftjob-' || {NUMBER}", "number": "1", "level": "'info'"},
    "sessions": {
        "id": f"'session-' || {NUMBER}",
        "key_id": "'key-' || lpad(to_hex(i / 50), 24, '0')",
        "expires_at": "now() + i * interval '1 second'",
    },
}
WEBHOOK = """
INSERT INTO webhooks (id, project_id, url, events, enabled, secret)
VALUES (:id, 'proj-1', 'https://example.com', '{}', true, '')
"""
JOB, DATASET, KEY = "ftjob-" + "5".zfill(24), "file-" + "64".zfill(24), "key-" + "7".zfill(24)
LISTS = (
    "/jobs", "/jobs?state=failed", "/jobs?state=queued&state=running", "/jobs?model=rare",
    "/jobs?metadata[team]=team-7", f"/jobs?created_by={KEY}", "/jobs?name=rare", "/jobs?name=ftjob-00",
    "/jobs?created_after=2026-01-01T00:00:00Z", f"/jobs/{JOB}", f"/jobs/{JOB}/events",
    f"/jobs/{JOB}/checkpoints", f"/jobs/{JOB}/artifacts", f"/jobs/{JOB}/metrics", "/datasets",
    "/datasets?state=inspecting", f"/datasets/{DATASET}", "/adapters", "/adapters?base_model=tiny", "/uploads",
    "/webhooks", f"/webhooks/{HOOK}/deliveries", "/workers", f"/workers?job={JOB}", "/queues", "/models",
    f"/datasets/{DATASET}/previews", f"/datasets/{DATASET}/overlaps", "/v1/models", "/v1/files?limit=100",
    "/v1/files?purpose=fine-tune", "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs?metadata[team]=team-7",
    f"/v1/fine_tuning/jobs/{JOB}", f"/v1/fine_tuning/jobs/{JOB}/events", f"/v1/fine_tuning/jobs/{JOB}/checkpoints",
)  # fmt: skip


@pytest.fixture(scope="module")
def full_url(migrated_url: str) -> Iterator[str]:
    """A database with many rows in every table that grows."""
    with own_database(migrated_url) as url:
        engine = connect(make_url(url).set(username="postgres").render_as_string(hide_password=False))
        with transaction(open_sessions(engine)) as session:
            fill(session)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
        engine.dispose()
        yield url


def fill(session: Session) -> None:
    session.execute(text("SET LOCAL session_replication_role = replica"))  # foreign keys are not checked
    session.execute(text("INSERT INTO projects (id, name) VALUES ('proj-1', 'default')"))
    session.execute(text(WEBHOOK), {"id": HOOK})
    for name in LARGE:
        table = Base.metadata.tables[name]
        column_sql = COLUMN_SQL[name] | {"project_id": "'proj-1'"}
        columns = {
            column.name: column_sql.get(column.name) or default_sql(table, column.name) for column in table.columns
        }
        given = {column: value for column, value in columns.items() if value is not None}
        names, values = ", ".join(given), ", ".join(given.values())
        rows = f"SELECT {values} FROM generate_series(1, {ROWS}) AS i"
        session.execute(text(f"INSERT INTO {name} ({names}) {rows}".replace(":", r"\:")))


def default_sql(table: Table, name: str) -> str | None:
    """Return SQL for a value of the column's type, or None if the column needs no value."""
    column = table.columns[name]
    if name == "created_at":
        return EARLIER
    if column.nullable or column.server_default is not None:
        return None
    if isinstance(column.type, JSONB):
        return "'{}'"
    return {str: f"'{table.name}' || i", int: "1", float: "0", bool: "false"}.get(column.type.python_type, "now()")


@pytest.fixture
def database_url(full_url: str) -> str:
    """Make this file's `settings`, `engine` and `sessions` use the filled database."""
    return full_url


@pytest.fixture
def find_scans(engine: Engine, database_url: str) -> Iterator[Callable[[Callable[[], object]], list[str]]]:
    """Run a call; return the large tables that its statements would scan."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _cur: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    url = engine.url
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:

        def explain(call: Callable[[], object]) -> list[str]:
            sent.clear()
            call()
            statements = [each for each in sent if each[0].lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH"))]
            assert statements, "the call sent no statement"
            found: list[str] = []
            for statement, parameters in statements:
                [[plan]] = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchall()
                connection.rollback()
                found += [f"{table}: {statement} {json.dumps(parameters, default=str)}" for table in scanned(plan[0])]
            return found

        yield explain
    event.remove(Engine, "before_cursor_execute", note)


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    node = plan.get("Plan", plan)
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
        yield node["Relation Name"]
    for each in node.get("Plans", ()):
        yield from scanned(each)


@pytest.mark.parametrize("path", LISTS)
def test_requests_scan_no_large_table(
    settings: Settings, sessions: Sessions, find_scans: Callable[[Callable[[], object]], list[str]], path: str
) -> None:
    with transaction(sessions) as session:
        key = KeyService(session).create("proj-1", "test", ("read", "write"))
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as client:
        found = find_scans(lambda: client.get(path).raise_for_status())
    assert found == []


def test_a_session_scans_no_large_table(
    settings: Settings, sessions: Sessions, find_scans: Callable[[Callable[[], object]], list[str]]
) -> None:
    with transaction(sessions) as session:
        key = KeyService(session).create("proj-1", "test", ("read", "write"))
    with TestClient(create_app(settings), headers={"Origin": "http://testserver"}) as client:

        def use_session() -> None:
            client.post("/session", json={"key": key}).raise_for_status()
            client.get("/session").raise_for_status()
            client.delete("/session").raise_for_status()

        assert find_scans(use_session) == []


def test_v1_models_is_fast_among_many_adapters(settings: Settings, sessions: Sessions) -> None:
    with transaction(sessions) as session:
        key = KeyService(session).create("proj-1", "test", ("read",))
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as client:
        seconds = []
        for _ in range(7):
            began = time.perf_counter()
            answer = client.get("/v1/models").raise_for_status()
            seconds.append(time.perf_counter() - began)
    assert len(answer.json()["data"]) == 1000
    print(f"/v1/models among {ROWS} adapters: {statistics.median(seconds):.3f} s in the middle")
    assert statistics.median(seconds) <= MODELS_SECONDS


CLAIMS: dict[str, Callable[[Session], object]] = {
    "job": lambda session: QueueService(session).claim(WorkerHardware("here-1", "cpu", 16.0), 60),
    "dataset": lambda session: DatasetRepository(session).claim_for_inspection("here-1", 60),
    "dataset check": lambda session: DatasetCheckRepository(session).claim("here-1", 60),
    "upload": lambda session: UploadRepository(session).claim("here-1", 60),
    "model": lambda session: FetchRepository(session).claim("here-1", 60),
    "delivery": lambda session: WebhookRepository(session).claim(60),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_scan_no_large_table(
    sessions: Sessions, find_scans: Callable[[Callable[[], object]], list[str]], kind: str
) -> None:
    def claim() -> None:
        with sessions() as session:
            CLAIMS[kind](session)
            session.rollback()

    assert find_scans(claim) == []


@pytest.mark.parametrize("duty", ["relay", "remind", "recover_lost_work", "collect", "retain", "erase"])
def test_dispatcher_duties_scan_no_large_table(
    settings: Settings, sessions: Sessions, find_scans: Callable[[Callable[[], object]], list[str]], duty: str
) -> None:
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.recovery_starts_at = 0.0  # as if a lease had passed since its start
    assert find_scans(getattr(dispatcher, duty)) == []
