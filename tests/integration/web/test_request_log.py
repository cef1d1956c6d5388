"""Tests the log line of each request: errors are found by its id, and it contains no secret."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import ApiKey

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(api: TestClient) -> Iterator[Lines]:
    """Return a function that returns the lines written since its last call."""
    log = io.StringIO()
    before = structlog.get_config()["logger_factory"]
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=log))

    def read() -> list[dict[str, Any]]:
        text = log.getvalue()
        log.seek(0)
        log.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield read
    structlog.configure(logger_factory=before)


def test_a_request_is_logged_with_id_key_project_route_status_and_time(
    api: TestClient, lines: Lines, sessions: Sessions, project_id: str
) -> None:
    answer = api.get("/jobs/ftjob-5f0c1d2e3a4b5c6d7e8f9a0b")
    with transaction(sessions) as session:
        key = session.scalars(select(ApiKey.id).where(ApiKey.project_id == project_id)).one()
    [line] = lines()
    assert line.pop("ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        **{"event": "request", "level": "info", "request_id": answer.headers["x-request-id"], "method": "GET"},
        **{"route": "/jobs/{id}", "status": 404, "code": "job_not_found", "key": key, "project": project_id},
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "code"),
    [
        ("GET", "/healthz", "/healthz", 200, None),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PUT", "/jobs", "/jobs", 405, "method_not_allowed"),
        ("POST", "/jobs", "/jobs", 422, "invalid_spec"),
        ("GET", "/jobs?limit=0", "/jobs", 422, "invalid_request"),
        ("GET", "/v1/models/nowhere", "/v1/models/{model:path}", 404, "model_not_found"),
        ("GET", "/v1/nowhere", None, 404, "not_found"),
    ],
)
def test_every_answer_is_found_by_its_id(
    api: TestClient, lines: Lines, method: str, path: str, route: str | None, status: int, code: str | None
) -> None:
    answer = api.request(method, path, json={} if method == "POST" else None)
    [line] = [line for line in lines() if line["event"] == "request"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["method"], line["route"], line["status"], line.get("code")) == (method, route, status, code)
    assert answer.status_code == (400 if path.startswith("/v1") and status == 422 else status)


def test_a_server_error_is_logged_with_its_cause_under_one_id(
    api: TestClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.service.JobService.cancel", lambda *_: 1 / 0)
    answer = api.post("/jobs/ftjob-5f0c1d2e3a4b5c6d7e8f9a0b/cancel")
    failure, request = lines()
    assert (answer.status_code, request["status"], request["code"]) == (500, 500, "internal_error")
    assert "ZeroDivisionError" in failure["exception"]
    assert failure["request_id"] == request["request_id"] == answer.headers["x-request-id"]


def test_no_secret_reaches_the_log(server: TestClient, lines: Lines, make_key: Callable[..., str]) -> None:
    key = make_key()
    for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {key}x"}):
        server.get("/jobs?token=in-the-query&key=hunter2", headers=headers | {"X-Secret": "in-a-header"})
        server.get("/in-the-path/whsec_abc", headers=headers)
        made = server.post("/webhooks", json={"url": "https://user:in-the-url@example.org/"}, headers=headers)
    text = json.dumps(lines())
    assert "request_id" in text
    for secret in (key.rpartition("_")[2], "in-the-", "hunter2", "whsec_", "in-a-header", made.text):
        assert secret not in text


def test_a_wrong_key_is_not_logged_and_a_key_without_the_scope_is(
    server: TestClient, lines: Lines, make_key: Callable[..., str]
) -> None:
    reader = {"Authorization": f"Bearer {make_key('default', 'read')}"}
    server.headers.pop("Authorization", None)
    assert server.get("/jobs").status_code == 401
    assert server.delete("/jobs/ftjob-1", headers=reader).status_code == 403
    unknown, known = lines()
    assert (unknown["key"], unknown["project"], unknown["code"]) == (None, None, "unauthorized")
    assert known["key"].startswith("key-")
    assert (known["project"].startswith("proj-"), known["code"]) == (True, "forbidden")
