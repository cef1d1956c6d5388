"""API keys with the scope `admin` manage API keys over HTTP."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update

from app.db.session import Sessions, transaction
from app.db.tables import ApiKey, KeptAnswer
from app.domain.caller import ADMIN
from app.keys.service import id_of
from app.projects.service import ProjectService

MakeKey = Callable[..., str]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def admin_key(make_key: MakeKey, project_id: str) -> str:
    return make_key("default", *ADMIN)


@pytest.fixture
def admin(server: TestClient, admin_key: str) -> TestClient:
    server.headers.update(bearer(admin_key))
    return server


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def seconds(key: dict[str, Any]) -> float:
    """Return the lifetime of a key in seconds."""
    return (datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])).total_seconds()


def test_a_key_is_created_works_and_is_shown_without_its_secret(admin: TestClient, sessions: Sessions) -> None:
    with transaction(sessions) as session:
        research = ProjectService(session).create("research").id
    made = admin.post("/keys", json={"name": "ci", "project": "research", "scopes": ["read"]})
    key = made.json()
    secret = key.pop("secret")
    assert (made.status_code, made.headers["Location"]) == (201, f"/keys/{id_of(secret)}")
    assert key == {
        "id": id_of(secret),
        "name": "ci",
        "project_id": research,
        "project": "research",
        "scopes": ["read"],
        "state": "active",
        "created_at": key["created_at"],
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "replaced_by": None,
    }
    assert admin.get(made.headers["Location"]).json() == key
    assert admin.get("/jobs", headers=bearer(secret)).status_code == 200
    assert refusal(admin.post("/jobs", headers=bearer(secret), json={})) == (403, "forbidden")
    until = time.monotonic() + 10
    while admin.get(made.headers["Location"]).json()["last_used_at"] is None:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_default_scopes_and_the_scopes_of_an_admin(admin: TestClient) -> None:
    default = admin.post("/keys", json={"name": "usual"}).json()
    assert (default["project"], default["scopes"]) == ("default", ["read", "webhooks", "write"])
    made = admin.post("/keys", json={"name": "operator", "scopes": ["admin"]}).json()
    assert made["scopes"] == ["admin", "read", "webhooks", "write"]
    assert admin.get("/keys", headers=bearer(made["secret"])).status_code == 200


def test_keys_are_listed_by_page_and_by_project(admin: TestClient, make_key: MakeKey) -> None:
    ids = [id_of(make_key("research")) for _ in range(3)]
    own = id_of(admin.headers["Authorization"].removeprefix("Bearer "))
    admin.post(f"/keys/{ids[1]}/revoke")
    first = admin.get("/keys?limit=2").json()
    rest = admin.get("/keys", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == [*reversed(ids), own]
    assert [each["state"] for each in first["items"]] == ["active", "revoked"]
    assert rest["next_cursor"] is None
    project = first["items"][0]["project_id"]
    for name in ("research", project):
        assert [each["id"] for each in admin.get(f"/keys?project={name}").json()["items"]] == [*reversed(ids)]
    assert admin.get("/keys?project=none").json()["items"] == []


def test_a_revoked_key_is_refused_within_a_second_by_every_process(
    admin: TestClient, other_process: httpx2.Client, make_key: MakeKey
) -> None:
    key = make_key()
    admin.post(f"/keys/{id_of(make_key())}/revoke")  # the first revocation takes longer than a key stays cached
    for process in (admin, other_process):
        assert process.get("/jobs", headers=bearer(key)).status_code == 200
    revoked = admin.post(f"/keys/{id_of(key)}/revoke").json()
    began = time.monotonic()
    assert (revoked["state"], revoked["revoked_at"] is None) == ("revoked", False)
    for process in (admin, other_process):
        asked = time.monotonic()
        while process.get("/jobs", headers=bearer(key)).status_code != 401:
            assert asked - began < 1
            time.sleep(0.01)
            asked = time.monotonic()
        print(f"refused {asked - began:.2f} s after the revocation")
    assert admin.post(f"/keys/{id_of(key)}/revoke").json() == revoked


@pytest.mark.usefixtures("no_key_cache")
def test_a_key_expires(admin: TestClient) -> None:
    key = admin.post("/keys", json={"name": "short", "expires_after_seconds": 1}).json()
    assert seconds(key) == pytest.approx(1, abs=0.5)
    assert admin.get("/jobs", headers=bearer(key["secret"])).status_code == 200
    time.sleep(1.1)
    assert refusal(admin.get("/jobs", headers=bearer(key["secret"]))) == (401, "unauthorized")
    assert admin.get(f"/keys/{key['id']}").json()["state"] == "expired"
    assert refusal(admin.post(f"/keys/{key['id']}/rotate")) == (409, "key_not_active")


@pytest.mark.usefixtures("no_key_cache")
def test_both_keys_work_while_they_overlap(admin: TestClient, sessions: Sessions) -> None:
    wanted = {"name": "ci", "scopes": ["read"], "expires_after_seconds": 90 * 86400}
    old = admin.post("/keys", json=wanted).json()
    with transaction(sessions) as session:
        aged = update(ApiKey).where(ApiKey.id == old["id"])
        month = timedelta(days=30)
        session.execute(aged.values(created_at=ApiKey.created_at - month, expires_at=ApiKey.expires_at - month))
    answer = admin.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 3600})
    new = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/keys/{new['id']}")
    assert [new[field] for field in ("name", "scopes", "project", "replaced_by")] == ["ci", ["read"], "default", None]
    assert seconds(new) == pytest.approx(90 * 86400, abs=1)
    left = admin.get(f"/keys/{old['id']}").json()
    assert (left["state"], left["replaced_by"]) == ("active", new["id"])
    in_an_hour = datetime.fromisoformat(new["created_at"]) + timedelta(hours=1)
    assert abs(datetime.fromisoformat(left["expires_at"]) - in_an_hour) < timedelta(seconds=1)
    for secret in (old["secret"], new["secret"]):
        assert admin.get("/jobs", headers=bearer(secret)).status_code == 200
    assert refusal(admin.post(f"/keys/{old['id']}/rotate")) == (409, "key_replaced")
    admin.post(f"/keys/{old['id']}/revoke")
    assert [admin.get("/jobs", headers=bearer(secret)).status_code for secret in (old["secret"], new["secret"])] == [
        401,
        200,
    ]


@pytest.mark.usefixtures("no_key_cache")
def test_an_overlap_does_not_extend_a_key(admin: TestClient) -> None:
    old = admin.post("/keys", json={"name": "short", "expires_after_seconds": 60}).json()
    admin.post(f"/keys/{old['id']}/rotate")
    assert admin.get(f"/keys/{old['id']}").json()["expires_at"] == old["expires_at"]
    other = admin.post("/keys", json={"name": "leaked"}).json()
    assert "expires_at" in admin.post(f"/keys/{other['id']}/rotate", json={"overlap_seconds": 0}).json()
    assert admin.get("/jobs", headers=bearer(other["secret"])).status_code == 401


def test_a_key_cannot_lock_itself_out(admin: TestClient, admin_key: str) -> None:
    own = id_of(admin_key)
    assert refusal(admin.post(f"/keys/{own}/revoke")) == (409, "own_key")
    for overlap in (0, 59):
        assert refusal(admin.post(f"/keys/{own}/rotate", json={"overlap_seconds": overlap})) == (409, "own_key")
    assert admin.get(f"/keys/{own}").json()["expires_at"] is None
    new = admin.post(f"/keys/{own}/rotate", json={"overlap_seconds": 60}).json()
    assert admin.get("/keys").status_code == 200
    assert admin.post(f"/keys/{own}/revoke", headers=bearer(new["secret"])).status_code == 200


def test_of_concurrent_rotations_one_makes_a_key(admin: TestClient, sessions: Sessions, make_key: MakeKey) -> None:
    id = id_of(make_key())
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: admin.post(f"/keys/{id}/rotate").status_code, range(6)))
    assert sorted(statuses) == [201] + [409] * 5
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 3  # the administrator's and two more


def test_a_repeated_post_returns_the_secret_that_nobody_else_can_read(
    admin: TestClient, make_key: MakeKey, sessions: Sessions
) -> None:
    """The stored answer can be decrypted only with the API key of the request, not with anything in the database."""
    id = id_of(make_key())
    for path, body in (("/keys", {"name": "ci"}), (f"/keys/{id}/rotate", {"overlap_seconds": 60})):
        once = {"Idempotency-Key": path}
        first, again = (admin.post(path, json=body, headers=once) for _ in range(2))
        assert (first.status_code, first.content) == (again.status_code, again.content) == (201, first.content)
        secret = first.json()["secret"]
        with transaction(sessions) as session:
            kept = session.scalars(select(KeptAnswer.body).where(KeptAnswer.key == path)).one()
            assert kept
            tables = session.scalars(
                text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            ).all()
            everything = [session.scalars(text(f"SELECT t::text FROM {table} t")).all() for table in tables]
        assert "api_keys" in tables
        assert secret[-43:] not in str(everything)
        other = bearer(make_key("default", *ADMIN))
        assert refusal(admin.post(path, json=body, headers=once | other)) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/name", "missing"),
        ({"name": "x", "scope": "admin"}, "/scope", "unknown_field"),
        ({"name": "x", "scopes": []}, "/scopes", "too_short"),
        ({"name": "x", "scopes": ["root"]}, "/scopes/0", "literal_error"),
        ({"name": "x", "expires_after_seconds": 0}, "/expires_after_seconds", "greater_than_equal"),
        ({"name": "x", "expires_after_seconds": 2**40}, "/expires_after_seconds", "less_than_equal"),
    ],
)
def test_a_bad_field_is_named(admin: TestClient, body: dict[str, Any], pointer: str, code: str) -> None:
    answer = admin.post("/keys", json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == [(pointer, code)]
    assert len(admin.get("/keys").json()["items"]) == 1


def test_an_unknown_key_or_project_is_not_found(admin: TestClient) -> None:
    assert refusal(admin.post("/keys", json={"name": "x", "project": "defualt"})) == (404, "project_not_found")
    for id in ("key-5f0c1d2e3a4b5c6d7e8f9a0b", "x"):
        for answer in (
            admin.get(f"/keys/{id}"),
            admin.post(f"/keys/{id}/revoke"),
            admin.post(f"/keys/{id}/rotate"),
        ):
            assert refusal(answer) == (404, "key_not_found")
            assert "No API key has the id" in answer.json()["detail"]
