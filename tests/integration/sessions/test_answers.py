"""Answers to requests with a session cookie: downloads, caches and the log."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from fastapi.testclient import TestClient

from tests.integration.sessions.conftest import SignIn, origin_of, read_cookie

ROWS = b'{"text": "a"}\n' * 100


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    log = io.StringIO()
    before = structlog.get_config()["logger_factory"]
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=log))
    yield log
    structlog.configure(logger_factory=before)


def test_a_browser_downloads_with_its_cookie_and_resumes(server: TestClient, sign_in: SignIn) -> None:
    own = sign_in().header | origin_of(server)
    dataset = server.post("/datasets", files={"file": ("rows.jsonl", ROWS)}, headers=own).json()["id"]
    del own["Origin"]  # a download link sends none
    url = f"/datasets/{dataset}/content"
    whole = server.get(url, headers=own)
    assert (whole.status_code, whole.content) == (200, ROWS)
    rest = {"Range": "bytes=1000-", "If-Range": whole.headers["ETag"], "Sec-Fetch-Site": "same-origin"}
    part = server.get(url, headers=own | rest)
    assert (part.status_code, part.content) == (206, ROWS[1000:])
    known = server.get(url, headers=own | {"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    for answer in (whole, part, known):
        assert answer.headers["Cache-Control"] == "private, no-cache"


def test_no_answer_by_cookie_is_stored_in_shared_caches(server: TestClient, sign_in: SignIn, key: str) -> None:
    """`Authorization` keeps an answer out of shared caches by itself, so those answers stay as they are."""
    own, bearer = sign_in().header, {"Authorization": f"Bearer {key}"}
    for path in ("/jobs", "/datasets", "/session", "/jobs/ftjob-1", "/jobs?limit=0"):
        assert server.get(path, headers=own).headers["Cache-Control"] == "private, no-cache", path
    refused = server.get("/jobs", headers=own | {"Origin": "http://evil.example"})
    assert (refused.status_code, refused.headers["Cache-Control"]) == (403, "private, no-cache")
    assert "Cache-Control" not in server.get("/datasets", headers=bearer).headers
    assert "Cache-Control" not in server.get("/datasets", headers=own | bearer).headers


def test_the_log_names_the_key_and_contains_no_token(server: TestClient, key: str, log: io.StringIO) -> None:
    wrong = {"key": f"{key}x", "another": key}
    assert server.post("/session", json=wrong, headers=origin_of(server)).status_code == 422
    cookie = read_cookie(server.post("/session", json={"key": key}, headers=origin_of(server)))
    server.cookies.clear()
    for sent in (cookie, cookie._replace(token=cookie.token + "x")):
        for extra in ({}, {"Origin": "http://evil.example"}, origin_of(server)):
            server.get("/jobs", headers=sent.header | extra)
            server.post("/jobs", json={}, headers=sent.header | extra)
            server.get("/v1/models", headers=sent.header | extra)
    server.delete("/session", headers=cookie.header | origin_of(server))
    written = log.getvalue()
    for secret in (cookie.token[-43:], key[-43:], cookie.name):
        assert secret not in written
    lines = [line for line in map(json.loads, written.splitlines()) if line["event"] == "request"]
    key_id = f"key-{key[3:27]}"
    assert [line["key"] for line in lines if line["route"] == "/session"] == [None, key_id, None]
    refused = [line["key"] for line in lines if line.get("code") == "origin_mismatch"]
    assert set(refused) == {key_id}
    assert len(refused) == 3
