"""API keys with the scope `admin` manage projects over HTTP."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.db.session import Sessions, transaction
from app.db.tables import Project
from app.domain.caller import ADMIN
from app.web import key_cache

MakeKey = Callable[..., str]


@pytest.fixture
def admin(server: TestClient, make_key: MakeKey, project_id: str) -> TestClient:
    server.headers["Authorization"] = f"Bearer {make_key('default', *ADMIN)}"
    return server


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_project_is_created_read_and_listed(admin: TestClient) -> None:
    made = admin.post("/projects", json={"name": "research", "allowed_labels": {"pool": ["b", "a", "b"]}})
    project = made.json()
    assert (made.status_code, made.headers["Location"]) == (201, f"/projects/{project['id']}")
    datetime.fromisoformat(project["created_at"])
    assert project == {
        "id": project["id"],
        "name": "research",
        "max_running_jobs": None,
        "allowed_labels": {"pool": ["a", "b"]},
        "being_deleted": False,
        "created_at": project["created_at"],
    }
    assert admin.get("/projects/research").json() == admin.get(made.headers["Location"]).json() == project
    limited = admin.post("/projects", json={"name": "limited", "max_running_jobs": 0}).json()
    assert limited["max_running_jobs"] == 0
    first = admin.get("/projects?limit=2").json()
    rest = admin.get("/projects", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["name"] for each in first["items"]] == ["limited", "research"]
    assert ([each["name"] for each in rest["items"]], rest["next_cursor"]) == (["default"], None)


def test_a_repeated_post_makes_one_project(admin: TestClient) -> None:
    first, again = (
        admin.post("/projects", json={"name": "research"}, headers={"Idempotency-Key": "mine"}) for _ in range(2)
    )
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, first.content)


def test_limit_and_labels_are_changed_separately(admin: TestClient) -> None:
    id = admin.post("/projects", json={"name": "research"}).json()["id"]
    limited = admin.patch("/projects/research", json={"max_running_jobs": 2}).json()
    assert (limited["max_running_jobs"], limited["allowed_labels"]) == (2, {})
    labelled = admin.patch(f"/projects/{id}", json={"allowed_labels": {"pool": ["a"]}}).json()
    assert (labelled["max_running_jobs"], labelled["allowed_labels"]) == (2, {"pool": ["a"]})
    assert admin.patch("/projects/research", json={}).json() == labelled == admin.get(f"/projects/{id}").json()
    lifted = admin.patch(f"/projects/{id}", json={"max_running_jobs": None, "allowed_labels": {}}).json()
    assert (lifted["max_running_jobs"], lifted["allowed_labels"]) == (None, {})


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"name": "x", "limit": 2}, "/limit", "unknown_field"),
        ({}, "/name", "missing"),
        ({"name": "x", "max_running_jobs": -1}, "/max_running_jobs", "greater_than_equal"),
        ({"name": "x", "max_running_jobs": 2**31}, "/max_running_jobs", "less_than_equal"),
        ({"name": "x", "max_running_jobs": True}, "/max_running_jobs", "int_type"),
        ({"name": "x", "allowed_labels": {"pool": ["-a"]}}, "/allowed_labels/pool/0", "string_pattern_mismatch"),
        ({"name": "x", "allowed_labels": {"-": ["a"]}}, "/allowed_labels/-/[key]", "string_pattern_mismatch"),
        ({"name": "x", "allowed_labels": {"pool": []}}, "/allowed_labels/pool", "too_short"),
        ({"name": "x", "allowed_labels": {"pool": "a"}}, "/allowed_labels/pool", "list_type"),
    ],
)
def test_a_bad_field_is_named(admin: TestClient, body: dict[str, Any], pointer: str, code: str) -> None:
    answer = admin.post("/projects", json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == [(pointer, code)]
    assert [each["name"] for each in admin.get("/projects").json()["items"]] == ["default"]


@pytest.mark.parametrize("name", ["-x", "a b", "ö", "a/b", "proj-5f0c1d2e3a4b5c6d7e8f9a0b"])
def test_an_invalid_name_is_refused(admin: TestClient, name: str) -> None:
    """A name that has the form of an id is refused too, since a path accepts both."""
    assert refusal(admin.post("/projects", json={"name": name})) == (400, "bad_request")


def test_concurrent_posts_create_one_project_with_a_name(admin: TestClient, sessions: Sessions) -> None:
    assert refusal(admin.post("/projects", json={"name": "default"})) == (409, "project_already_exists")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: admin.post("/projects", json={"name": "x"}).status_code, range(8)))
    assert sorted(statuses) == [201] + [409] * 7
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).where(Project.name == "x")) == 1


def test_an_unknown_project_is_refused_with_the_closest_name(admin: TestClient) -> None:
    for answer in (
        admin.get("/projects/defualt"),
        admin.patch("/projects/defualt", json={}),
        admin.delete("/projects/defualt"),
        admin.get("/projects/defualt/deletion"),
    ):
        assert refusal(answer) == (404, "project_not_found")
        assert "Did you mean 'default'?" in answer.json()["detail"]
    assert refusal(admin.get("/projects/default/deletion")) == (404, "project_deletion_not_found")


@pytest.mark.usefixtures("dispatcher")
def test_a_deletion_is_polled_until_it_is_finished(admin: TestClient, make_key: MakeKey) -> None:
    id = admin.post("/projects", json={"name": "doomed"}).json()["id"]
    rows = {"file": ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n')}
    project_headers = {"Authorization": f"Bearer {make_key('doomed')}"}
    assert admin.post("/datasets", files=rows, headers=project_headers).status_code == 201
    deleted = admin.delete("/projects/doomed")
    location = deleted.headers["Location"]
    assert (deleted.status_code, location) == (202, f"/projects/{id}/deletion")
    assert (deleted.json()["name"], deleted.json()["state"]) == ("doomed", "stopping")
    until = time.monotonic() + 20
    while (deletion := admin.get(location).json())["state"] != "finished":
        assert time.monotonic() < until, deletion
        time.sleep(0.05)
    assert deletion["finished_at"] is not None
    assert deletion["num_rows"] == {"api_keys": 1, "datasets": 1, "outbox": 1}
    assert (deletion["num_objects"], deletion["num_bytes"]) == (1, 35)
    assert deletion["num_live_streams"] == 0
    assert deletion["work_folders"] == {}
    for answer in (admin.get(f"/projects/{id}"), admin.delete("/projects/doomed")):
        assert refusal(answer) == (404, "project_not_found")
    again = admin.post("/projects", json={"name": "doomed"}).json()
    assert again["id"] != id
    assert refusal(admin.get("/projects/doomed/deletion")) == (404, "project_deletion_not_found")
    assert admin.get(location).json() == deletion


def test_a_project_that_is_being_deleted_refuses_changes_and_its_keys(
    admin: TestClient, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "KEEP_SECONDS", 0)
    admin.post("/projects", json={"name": "doomed"})
    key = make_key("doomed")
    project_headers = {"Authorization": f"Bearer {key}"}
    assert admin.get("/jobs", headers=project_headers).status_code == 200
    first, again = admin.delete("/projects/doomed"), admin.delete("/projects/doomed")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json() == admin.get("/projects/doomed/deletion").json()
    assert admin.get("/projects/doomed").json()["being_deleted"]
    assert [each["being_deleted"] for each in admin.get("/projects").json()["items"]] == [True, False]
    for answer in (
        admin.patch("/projects/doomed", json={"max_running_jobs": 1}),
        admin.post("/projects", json={"name": "doomed"}),
    ):
        assert refusal(answer) == (409, "project_being_deleted")
    for path in ("/jobs", "/projects"):
        answer = admin.get(path, headers=project_headers)
        assert refusal(answer) == (401, "unauthorized")
        assert answer.json()["detail"] == "The project of this API key is being deleted; its keys no longer work."
    wrong = {"Authorization": f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}"}
    assert "being deleted" not in admin.get("/jobs", headers=wrong).json()["detail"]


def test_a_key_cannot_delete_its_own_project(admin: TestClient) -> None:
    assert refusal(admin.delete("/projects/default")) == (409, "last_project")
    admin.post("/projects", json={"name": "other"})
    answer = admin.delete("/projects/default")
    assert refusal(answer) == (409, "own_project")
    assert "belongs to project 'default'" in answer.json()["detail"]
    assert not admin.get("/projects/default").json()["being_deleted"]
