import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import ApiKey, Project
from app.domain.caller import Caller, RecognizedKey
from app.keys.service import FORM, KeyService
from app.projects.service import ProjectService
from app.web import key_cache
from app.web.key_cache import KEEP_SECONDS, KeyCache

ROOT = Path(__file__).parents[3]
MakeKey = Callable[..., str]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(session: Session) -> KeyService:
    return KeyService(session)


def row(session: Session) -> ApiKey:
    session.flush()
    return session.scalars(select(ApiKey).execution_options(populate_existing=True)).one()


def test_a_key_names_its_project_and_scopes(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci", ["read"])
    stored = row(session)
    assert keys.recognize(key) == RecognizedKey(Caller(stored.id, project_id, frozenset({"read"})), None, True)
    assert (stored.name, stored.scopes) == ("ci", ["read"])


def test_only_the_hash_of_a_key_is_stored(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    session.flush()
    secret = key.rsplit("_", 1)[1] if "_" not in key[-43:] else key[-43:]
    everything = session.execute(text("SELECT row_to_json(api_keys)::text FROM api_keys")).scalar_one()
    assert secret not in everything
    assert hashlib.sha256(key.encode()).hexdigest() in everything


def test_keys_are_long_and_different(keys: KeyService, project_id: str) -> None:
    made = {keys.create(project_id, "ci") for _ in range(5)}
    assert len(made) == 5
    assert all(FORM.fullmatch(key) for key in made)


def test_a_wrong_secret_is_not_recognized(keys: KeyService, project_id: str) -> None:
    key, other = keys.create(project_id, "one"), keys.create(project_id, "two")
    last = "A" if key[-1] != "A" else "B"
    for wrong in (
        key[:-1] + last,
        key[:-43] + other[-43:],
        key + "A",
        key[:-1],
        key.upper(),
        key + "\n",
        "",
        "tw_",
        "å",
    ):
        assert keys.recognize(wrong) is None, wrong


def test_a_revoked_key_is_not_recognized(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    session.flush()
    session.execute(update(ApiKey).values(revoked_at=func.now()))
    assert keys.recognize(key) is None


def test_an_expired_key_is_not_recognized(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    session.flush()
    session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) + timedelta(hours=1)))
    assert keys.recognize(key)
    session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(hours=1)))
    assert keys.recognize(key) is None


def test_a_use_is_recorded_once_a_minute(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    id = row(session).id
    recent, old = datetime.now(UTC) - timedelta(seconds=30), datetime.now(UTC) - timedelta(minutes=2)
    for last_use, is_kept in ((None, False), (recent, True), (old, False)):
        session.execute(update(ApiKey).values(last_used_at=last_use))
        assert (known := keys.recognize(key))
        assert known.is_use_due is not is_kept
        keys.note_use(id)
        assert (row(session).last_used_at == last_use) is is_kept


def test_a_request_records_the_use_of_its_key(server: TestClient, make_key: MakeKey, sessions: Sessions) -> None:
    assert server.get("/jobs", headers=bearer(make_key())).status_code == 200
    deadline = time.monotonic() + 10
    while True:
        with transaction(sessions) as session:
            if row(session).last_used_at is not None:
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_read_only_key_cannot_write(server: TestClient, make_key: Callable[..., str], project_id: str) -> None:
    headers = {"Authorization": f"Bearer {make_key('default', 'read')}"}
    assert server.get("/jobs", headers=headers).status_code == 200
    answer = server.post("/jobs", headers=headers, json={})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "write" in answer.json()["detail"]


def test_a_revoked_key_is_refused_within_a_second(server: TestClient, make_key: MakeKey, engine: Engine) -> None:
    """This holds for a process that has just accepted the key."""
    key, other = bearer(make_key()), bearer(make_key())
    assert server.get("/jobs", headers=key).status_code == 200
    with engine.begin() as connection:
        connection.execute(update(ApiKey).values(revoked_at=func.now()))
    time.sleep(1)
    assert server.get("/jobs", headers=key).status_code == 401
    assert server.get("/jobs", headers=other).status_code == 401


def test_a_cached_key_is_refused_as_soon_as_it_expires(server: TestClient, make_key: MakeKey, engine: Engine) -> None:
    key = bearer(make_key())
    with engine.begin() as connection:
        ending = func.clock_timestamp() + timedelta(seconds=0.4)
        connection.execute(update(ApiKey).values(expires_at=ending))
    assert server.get("/jobs", headers=key).status_code == 200
    time.sleep(0.4)
    assert server.get("/jobs", headers=key).status_code == 401


def test_a_refusal_is_not_cached(server: TestClient, make_key: MakeKey) -> None:
    """A key that is restored works with the next request."""
    key = make_key()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for sent, status in ((wrong, 401), (key, 200), (wrong, 401), (make_key(), 200)):
        assert server.get("/jobs", headers=bearer(sent)).status_code == status


def test_a_busy_key_is_looked_up_about_once_a_second(
    server: TestClient, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    recognize = KeyService.recognize
    monkeypatch.setattr(KeyService, "recognize", lambda self, text: (asked.append(text), recognize(self, text))[1])
    key = bearer(make_key())
    began = time.monotonic()
    for _ in range(20):
        assert server.get("/jobs", headers=key).status_code == 200
    assert len(asked) <= 1 + (time.monotonic() - began) / KEEP_SECONDS


def test_the_cache_of_keys_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "MOST_KEPT", 3)
    known = RecognizedKey(Caller("key-1", "proj-1", frozenset({"read"})), None, False)
    cache = KeyCache(lambda key: known, lambda id: None)

    async def ask() -> None:
        for number in range(10):
            assert await cache.find_caller(f"key {number}")

    asyncio.run(ask())
    assert len(cache._kept) == 3


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", "Basic dHc6eA==", "Token tw_x", "tw_x"])
def test_a_header_without_a_key_is_refused(server: TestClient, project_id: str, header: str) -> None:
    answer = server.get("/jobs", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_command_prints_a_key_that_works(
    database_url: str, sessions: Sessions, session: Session, keys: KeyService
) -> None:
    with transaction(sessions) as other:
        ProjectService(other).create("research")
    command = [sys.executable, "-m", "app.keys", "create", "--project", "research", "--name", "ci", "--read-only"]
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    known = keys.recognize(done.stdout.strip())
    assert known
    caller = known.caller
    assert caller.scopes == {"read"}
    assert session.get_one(Project, caller.project_id).name == "research"


def test_the_command_creates_an_admin_key(database_url: str, keys: KeyService, project_id: str) -> None:
    create = [sys.executable, "-m", "app.keys", "create", "--scope", "admin"]
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(create, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    known = keys.recognize(done.stdout.strip())
    assert known
    assert (known.caller.is_admin, known.caller.scopes) == (True, {"read", "write", "webhooks", "admin"})
    refused = subprocess.run([*create, "--read-only"], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, "not allowed with" in refused.stderr) == (2, True)
