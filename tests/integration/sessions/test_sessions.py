"""A browser exchanges an API key for a session cookie, which never outlives the key."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text, update

from app.db.session import Sessions, transaction
from app.db.tables import ApiKey, BrowserSession, KeptAnswer
from app.dispatcher import Dispatcher
from app.keys.service import KeyService, id_of
from app.projects.repository import tables_of_projects
from app.projects.service import ProjectService
from app.sessions.service import FORM, MAX_SESSIONS
from app.settings import Settings
from app.web.idempotency import unseal
from tests.conftest import run_with
from tests.integration.sessions.conftest import Cookie, SignIn, origin_of, read_cookie, refusal

MakeKey = Callable[..., str]
TWELVE_HOURS = 12 * 3600


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def count_sessions(sessions: Sessions) -> int:
    with transaction(sessions) as session:
        return session.scalars(select(func.count()).select_from(BrowserSession)).one()


def status_of(server: TestClient | httpx2.Client, cookie: Cookie, path: str = "/jobs") -> int:
    return server.get(path, headers=cookie.header).status_code


def test_signing_in_describes_the_session_and_sets_a_cookie(
    server: TestClient, key: str, project_id: str, sessions: Sessions
) -> None:
    answer = server.post("/session", json={"key": key}, headers=origin_of(server))
    assert (answer.status_code, answer.headers["Location"]) == (201, "/session")
    described = answer.json()
    expires_at = described.pop("expires_at")
    assert described == {
        **{"project_id": project_id, "project": "default", "key_id": id_of(key), "key_name": "test"},
        **{"scopes": ["read", "webhooks", "write"]},
    }
    left = datetime.fromisoformat(expires_at) - datetime.now(UTC)
    assert timedelta(hours=11, minutes=59) < left <= timedelta(hours=12)
    cookie = read_cookie(answer)
    assert re.fullmatch(r"tunewright_session_[0-9a-f]{12}", cookie.name)
    assert FORM.fullmatch(cookie.token)
    assert cookie.attributes == {"httponly": "", "samesite": "strict", "path": "/", "max-age": str(TWELVE_HOURS)}
    assert answer.headers["Cache-Control"] == "no-store"
    assert status_of(server, cookie) == 200


def test_the_cookie_is_secure_over_https(server: TestClient, key: str) -> None:
    secure = {"Origin": "https://testserver"}
    made = server.post("https://testserver/session", json={"key": key}, headers=secure)
    cookie = read_cookie(made)
    assert cookie.attributes.pop("secure") == ""
    assert cookie.attributes.keys() == {"httponly", "samesite", "path", "max-age"}
    server.cookies.clear()
    gone = read_cookie(server.delete("https://testserver/session", headers=secure | cookie.header))
    assert "secure" in gone.attributes


def test_it_works_over_plain_http_by_the_name_of_a_host(server: TestClient, key: str) -> None:
    """Browsers send no `Sec-Fetch-Site` there, and no `Origin` with a read."""
    at = {"Host": "name.lan:8080"}
    assert refusal(server.post("/session", json={"key": key}, headers=at)) == (403, "origin_mismatch")
    made = server.post("/session", json={"key": key}, headers=at | {"Origin": "http://name.lan:8080"})
    assert made.status_code == 201
    server.cookies.clear()
    own = at | read_cookie(made).header
    assert server.get("/jobs", headers=own).status_code == 200
    assert refusal(server.post("/jobs", json={}, headers=own)) == (403, "origin_mismatch")
    posted = server.post("/jobs", json={}, headers=own | {"Origin": "http://name.lan:8080"})
    assert refusal(posted) == (422, "invalid_spec")


def test_only_a_digest_is_stored(sign_in: SignIn, sessions: Sessions) -> None:
    cookie = sign_in()
    with transaction(sessions) as session:
        tables = session.scalars(text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"))
        everything = str([session.scalars(text(f"SELECT t::text FROM {table} t")).all() for table in tables.all()])
    assert f"session-{cookie.token[4:28]}" in everything
    assert cookie.token[-43:] not in everything


@pytest.mark.parametrize("body", [{}, {"key": ""}, {"key": 1}, {"key": "tw_x", "scopes": []}, {"key": "x" * 201}, []])
def test_a_bad_body_is_refused(server: TestClient, project_id: str, body: object) -> None:
    assert refusal(server.post("/session", json=body, headers=origin_of(server))) == (422, "invalid_request")


def test_an_invalid_key_is_refused_as_in_a_header(
    server: TestClient, make_key: MakeKey, sessions: Sessions, key: str
) -> None:
    revoked, expired = make_key(), make_key()
    with transaction(sessions) as session:
        KeyService(session).revoke(id_of(revoked))
        past = func.clock_timestamp() - timedelta(seconds=1)
        session.execute(update(ApiKey).where(ApiKey.id == id_of(expired)).values(expires_at=past))
    expected = server.get("/jobs", headers=bearer("x")).json()["detail"]
    for wrong in (revoked, expired, key[:-1] + ("A" if key[-1] != "A" else "B"), "x", f"tw_{'0' * 24}_{'A' * 43}"):
        answer = server.post("/session", json={"key": wrong}, headers=origin_of(server))
        assert (refusal(answer), answer.json()["detail"]) == ((401, "unauthorized"), expected)
        assert "set-cookie" not in answer.headers
    assert count_sessions(sessions) == 0


def test_a_key_revoked_a_moment_ago_makes_no_session(server: TestClient, key: str, sessions: Sessions) -> None:
    """This process still accepts the key in a header, because it is cached."""
    assert server.get("/jobs", headers=bearer(key)).status_code == 200
    with transaction(sessions) as session:
        KeyService(session).revoke(id_of(key))
    assert refusal(server.post("/session", json={"key": key}, headers=origin_of(server))) == (401, "unauthorized")
    assert count_sessions(sessions) == 0


def test_the_session_is_described_to_every_caller(server: TestClient, key: str, sign_in: SignIn) -> None:
    cookie = sign_in()
    by_cookie = server.get("/session", headers=cookie.header).json()
    by_key = server.get("/session", headers=bearer(key)).json()
    both = server.get("/session", headers=bearer(key) | cookie.header).json()
    assert by_key == both == by_cookie | {"expires_at": None}
    assert by_cookie["expires_at"] is not None
    assert refusal(server.get("/session")) == (401, "unauthorized")


def test_a_header_wins_over_a_cookie(server: TestClient, sign_in: SignIn, make_key: MakeKey) -> None:
    cookie, other = sign_in(), make_key("other")
    assert server.get("/session", headers=cookie.header | bearer(other)).json()["project"] == "other"
    for header in ("", "Bearer", "Bearer x", "Basic dHc6eA==", f"Bearer {cookie.token}"):
        answer = server.get("/jobs", headers=cookie.header | {"Authorization": header})
        assert refusal(answer) == (401, "unauthorized"), header


def test_a_token_is_no_key_and_a_key_is_no_token(server: TestClient, sign_in: SignIn, key: str) -> None:
    cookie = sign_in()
    assert status_of(server, cookie) == 200
    assert server.get("/jobs", headers=bearer(cookie.token)).status_code == 401
    assert status_of(server, cookie._replace(token=key)) == 401
    wrong = cookie.token[:-1] + ("A" if cookie.token[-1] != "A" else "B")
    for token in (wrong, "", "x", cookie.token + "A"):
        assert status_of(server, cookie._replace(token=token)) == 401, token
    assert status_of(server, cookie._replace(name="tunewright_session_")) == 401


def test_a_session_has_the_scopes_of_its_key(server: TestClient, sign_in: SignIn, make_key: MakeKey) -> None:
    reader = sign_in(make_key("default", "read")).header | origin_of(server)
    assert server.get("/jobs", headers=reader).status_code == 200
    assert refusal(server.post("/jobs", json={}, headers=reader)) == (403, "forbidden")
    assert refusal(server.get("/keys", headers=reader)) == (403, "forbidden")
    assert server.delete("/session", headers=reader).status_code == 204


def test_signing_out_deletes_the_session_and_the_cookie(
    server: TestClient, sign_in: SignIn, sessions: Sessions, key: str
) -> None:
    cookie, other = sign_in(), sign_in()
    assert status_of(server, cookie) == 200
    answer = server.delete("/session", headers=cookie.header | origin_of(server))
    assert (answer.status_code, answer.content) == (204, b"")
    gone = read_cookie(answer)
    assert (gone.name, gone.token.strip('"'), gone.attributes["max-age"]) == (cookie.name, "", "0")
    assert {"httponly", "samesite", "path"} <= gone.attributes.keys()
    assert count_sessions(sessions) == 1
    time.sleep(1)
    assert status_of(server, cookie) == 401
    assert status_of(server, other) == server.get("/jobs", headers=bearer(key)).status_code == 200
    for again in (cookie.header | origin_of(server), {}, bearer(key), {"Cookie": "other=1"}):
        assert server.delete("/session", headers=again).status_code == 204
    assert count_sessions(sessions) == 1


def test_signing_out_needs_the_whole_token(server: TestClient, sign_in: SignIn, sessions: Sessions) -> None:
    cookie = sign_in()
    forged = cookie._replace(token=cookie.token[:28] + "_" + "A" * 43)
    assert server.delete("/session", headers=forged.header | origin_of(server)).status_code == 204
    assert count_sessions(sessions) == 1


def test_a_key_has_at_most_fifty_sessions(
    server: TestClient, sign_in: SignIn, make_key: MakeKey, sessions: Sessions
) -> None:
    other = sign_in(make_key())
    cookies = [sign_in() for _ in range(MAX_SESSIONS + 1)]
    assert MAX_SESSIONS == 50
    assert [status_of(server, cookie) for cookie in cookies] == [401] + [200] * 50
    assert status_of(server, other) == 200
    assert count_sessions(sessions) == 51


def test_concurrent_sign_ins_keep_to_the_limit(
    sign_in: SignIn, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.service.MAX_SESSIONS", 2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: sign_in(), range(16)))
    assert count_sessions(sessions) == 2


def test_a_session_ends_with_its_key(server: TestClient, sign_in: SignIn, admin_key: str) -> None:
    made = server.post("/keys", json={"name": "x", "expires_after_seconds": 60}, headers=bearer(admin_key)).json()
    cookie = sign_in(made["secret"])
    assert 55 <= int(cookie.attributes["max-age"]) <= 60
    assert server.get("/session", headers=cookie.header).json()["expires_at"] == made["expires_at"]


@pytest.mark.usefixtures("no_key_cache")
def test_a_session_expires(server: TestClient, sign_in: SignIn, sessions: Sessions, settings: Settings) -> None:
    cookie = sign_in()
    assert status_of(server, cookie) == 200
    Dispatcher(settings, sessions).collect()
    assert count_sessions(sessions) == 1
    with transaction(sessions) as session:
        session.execute(update(BrowserSession).values(expires_at=func.clock_timestamp()))
    assert status_of(server, cookie) == 401
    Dispatcher(settings, sessions).collect()
    assert count_sessions(sessions) == 0


@pytest.mark.parametrize("ends_with", ["session", "key"])
def test_a_cached_session_is_refused_as_soon_as_it_expires(
    server: TestClient, sign_in: SignIn, engine: Engine, ends_with: str
) -> None:
    cookie = sign_in()
    ending = func.clock_timestamp() + timedelta(seconds=0.4)
    with engine.begin() as connection:
        connection.execute(update(BrowserSession if ends_with == "session" else ApiKey).values(expires_at=ending))
    assert status_of(server, cookie) == 200
    time.sleep(0.4)
    assert status_of(server, cookie) == 401


def test_a_session_is_refused_within_a_second_of_the_revocation_by_every_process(
    server: TestClient, other_process: httpx2.Client, sign_in: SignIn, make_key: MakeKey, admin_key: str
) -> None:
    key = make_key()
    cookie = sign_in(key)
    server.post(f"/keys/{id_of(make_key())}/revoke", headers=bearer(admin_key))  # the first takes longer
    for process in (server, other_process):
        assert status_of(process, cookie) == 200, "all processes of an installation know the same cookie"
    assert server.post(f"/keys/{id_of(key)}/revoke", headers=bearer(admin_key)).status_code == 200
    began = time.monotonic()
    for process in (server, other_process):
        asked = time.monotonic()
        while status_of(process, cookie) != 401:
            assert asked - began < 1
            time.sleep(0.01)
            asked = time.monotonic()


@pytest.mark.usefixtures("no_key_cache")
def test_a_session_ends_with_the_overlap_of_a_rotation(
    server: TestClient, sign_in: SignIn, make_key: MakeKey, admin_key: str
) -> None:
    key = make_key()
    cookie = sign_in(key)
    rotate = f"/keys/{id_of(key)}/rotate"
    answer = server.post(rotate, json={"overlap_seconds": 1}, headers=bearer(admin_key))
    assert answer.status_code == 201
    assert server.get("/session", headers=cookie.header).json()["key_id"] == id_of(key)
    time.sleep(1.1)
    assert status_of(server, cookie) == 401


@pytest.mark.usefixtures("no_key_cache")
def test_a_session_ends_with_its_project(
    server: TestClient, sign_in: SignIn, make_key: MakeKey, sessions: Sessions
) -> None:
    cookie = sign_in(make_key("research"))
    assert status_of(server, cookie) == 200
    with transaction(sessions) as session:
        ProjectService(session).request_deletion("research")
    answer = server.get("/jobs", headers=cookie.header)
    assert refusal(answer) == (401, "unauthorized")
    assert "is being deleted" in answer.json()["detail"]
    assert BrowserSession.__table__ in tables_of_projects()


def test_the_deletion_of_a_key_deletes_its_sessions(sign_in: SignIn, sessions: Sessions) -> None:
    sign_in()
    with transaction(sessions) as session:
        session.execute(text("DELETE FROM api_keys"))
    assert count_sessions(sessions) == 0


def test_a_request_by_cookie_records_the_use_of_its_key(
    server: TestClient, sign_in: SignIn, sessions: Sessions
) -> None:
    cookie = sign_in()
    wait_for_use(sessions)  # of signing in itself
    with transaction(sessions) as session:
        session.execute(update(ApiKey).values(last_used_at=None))
    assert status_of(server, cookie) == 200
    wait_for_use(sessions)


def wait_for_use(sessions: Sessions) -> None:
    until = time.monotonic() + 10
    while True:
        with transaction(sessions) as session:
            if session.scalars(select(ApiKey.last_used_at)).one() is not None:
                return
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_cookies_of_two_servers_on_one_host_do_not_clash(
    server: TestClient, live_application: FastAPI, sign_in: SignIn, engine: Engine, settings: Settings, key: str
) -> None:
    """Both are sent to both servers, because cookies know no port."""
    first = sign_in()
    installation = first.name.removeprefix("tunewright_session_")
    change = text("UPDATE installation SET id = :id")
    with engine.begin() as connection:
        connection.execute(change, {"id": "0" * 12})
    try:
        with TestClient(run_with(live_application, settings), headers=origin_of(server)) as second_server:
            second = read_cookie(second_server.post("/session", json={"key": key}))
            assert second.name == "tunewright_session_" + "0" * 12
            second_server.cookies.clear()
            assert status_of(second_server, first) == 401, "the other server's cookie alone signs nobody in"
            both = {"Cookie": f"{first.name}=x; {second.name}={second.token}"}
            assert second_server.get("/jobs", headers=both).status_code == 200
    finally:
        with engine.begin() as connection:
            connection.execute(change, {"id": installation})


def test_a_secret_is_stored_encrypted_with_the_token(
    server: TestClient, sign_in: SignIn, admin_key: str, sessions: Sessions
) -> None:
    """Of an idempotent creation by cookie, the same session gets the answer again, and no other does."""
    once = {"Idempotency-Key": "one"} | origin_of(server)
    cookie, other = sign_in(admin_key), sign_in(admin_key)
    first, again = (
        server.post("/keys", json={"name": "ci"}, headers=once | cookie.header).json()["secret"] for _ in range(2)
    )
    assert first == again
    with transaction(sessions) as session:
        [kept] = session.scalars(select(KeptAnswer.body)).all()
    assert first in unseal(kept, cookie.token)
    with pytest.raises(UnicodeDecodeError):
        unseal(kept, "")
    answer = server.post("/keys", json={"name": "ci"}, headers=once | other.header)
    assert refusal(answer) == (422, "idempotency_key_reused")
