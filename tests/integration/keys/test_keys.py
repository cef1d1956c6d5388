import hashlib
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from app.db.tables import ApiKey, Project
from app.domain.caller import Caller
from app.keys.service import FORM, KeyService

ROOT = Path(__file__).parents[3]


@pytest.fixture
def keys(session: Session) -> KeyService:
    return KeyService(session)


def row(session: Session) -> ApiKey:
    session.flush()
    return session.scalars(select(ApiKey).execution_options(populate_existing=True)).one()


def test_a_key_names_its_project_and_scopes(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci", ["read"])
    stored = row(session)
    assert keys.find_caller(key) == Caller(stored.id, project_id, frozenset({"read"}))
    assert (stored.name, stored.scopes) == ("ci", ["read"])


def test_only_the_hash_is_kept(session: Session, keys: KeyService, project_id: str) -> None:
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


def test_a_wrong_secret_opens_nothing(keys: KeyService, project_id: str) -> None:
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
        assert keys.find_caller(wrong) is None, wrong


def test_a_revoked_key_opens_nothing(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    session.flush()
    session.execute(update(ApiKey).values(revoked_at=func.now()))
    assert keys.find_caller(key) is None


def test_a_key_ends_when_it_expires(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    session.flush()
    session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) + timedelta(hours=1)))
    assert keys.find_caller(key)
    session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(hours=1)))
    assert keys.find_caller(key) is None


def test_last_use_is_noted_once_a_minute(session: Session, keys: KeyService, project_id: str) -> None:
    key = keys.create(project_id, "ci")
    assert row(session).last_used_at is None
    keys.find_caller(key)
    assert row(session).last_used_at is not None
    recent, old = datetime.now(UTC) - timedelta(seconds=30), datetime.now(UTC) - timedelta(minutes=2)
    for noted, is_kept in ((recent, True), (old, False)):
        session.execute(update(ApiKey).values(last_used_at=noted))
        keys.find_caller(key)
        assert (row(session).last_used_at == noted) is is_kept


def test_a_reading_key_may_not_write(server: TestClient, make_key: Callable[..., str], project_id: str) -> None:
    headers = {"Authorization": f"Bearer {make_key('default', 'read')}"}
    assert server.get("/jobs", headers=headers).status_code == 200
    answer = server.post("/jobs", headers=headers, json={})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "write" in answer.json()["detail"]


def test_revoking_counts_at_once(server: TestClient, make_key: Callable[..., str], engine: Engine) -> None:
    headers = {"Authorization": f"Bearer {make_key()}"}
    assert server.get("/jobs", headers=headers).status_code == 200
    with engine.begin() as connection:
        connection.execute(update(ApiKey).values(revoked_at=func.now()))
    assert server.get("/jobs", headers=headers).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", "Basic dHc6eA==", "Token tw_x", "tw_x"])
def test_headers_that_hold_no_key(server: TestClient, project_id: str, header: str) -> None:
    answer = server.get("/jobs", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_command_prints_a_key_that_works(database_url: str, session: Session, keys: KeyService) -> None:
    """A new project is made on the way."""
    command = [sys.executable, "-m", "app.keys", "create", "--project", "research", "--name", "ci", "--read-only"]
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    caller = keys.find_caller(done.stdout.strip())
    assert caller
    assert caller.scopes == {"read"}
    assert session.get_one(Project, caller.project_id).name == "research"


def test_the_command_alone_makes_an_admins_key(database_url: str, keys: KeyService) -> None:
    create = [sys.executable, "-m", "app.keys", "create", "--scope", "admin"]
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(create, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    caller = keys.find_caller(done.stdout.strip())
    assert caller
    assert (caller.is_admin, caller.scopes) == (True, {"read", "write", "admin"})
    refused = subprocess.run([*create, "--read-only"], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, "not allowed with" in refused.stderr) == (2, True)
