"""The light worker fetches the models that are posted."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app.db.session import Sessions, transaction
from app.db.tables import RegisteredModel
from app.domain.caller import ADMIN
from app.domain.model import MAX_ATTEMPTS
from app.models.fetch_repository import FetchRepository
from app.models.fetching import FetchPlace, ModelFetch, fetch_next
from app.models.folder import digest_folder
from app.retention.collector import Collector
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.hub import COMMIT
from tests.fixtures.models import fetch_place

Headers = dict[str, str]
Fetch = Callable[[], bool]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"model_roots": str(tmp_path)})


@pytest.fixture
def admin(make_key: Callable[..., str], project_id: str) -> Headers:
    return {"Authorization": f"Bearer {make_key('default', *ADMIN)}"}


@pytest.fixture
def place(sessions: Sessions, settings: Settings, tmp_path: Path) -> FetchPlace:
    return fetch_place(sessions, Storage(settings.storage), settings.work_dir, tmp_path)


@pytest.fixture
def fetch(place: FetchPlace) -> Fetch:
    """Run the light worker once; return whether it found a model to fetch."""
    return lambda: fetch_next(place, threading.Event())


@pytest.fixture
def post(server: TestClient, admin: Headers, model_folder: Path) -> Callable[..., Any]:
    def post(name: str = "tiny", path: Path = model_folder, **fields: Any) -> Any:
        answer = server.post("/models", json={"name": name, "path": str(path)} | fields, headers=admin)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/models/{name}"
        return answer.json()

    return post


@pytest.fixture
def get_model(server: TestClient, admin: Headers) -> Callable[..., Any]:
    return lambda name="tiny": server.get(f"/models/{name}", headers=admin).json()


@pytest.fixture
def stored(settings: Settings) -> Callable[[], set[str]]:
    """Return the names of the model files in storage."""
    return lambda: {path.name for path in (settings.data_dir / "storage" / "models").glob("*")}


def test_a_posted_model_is_fetched_and_shown(
    api: TestClient, post: Any, get_model: Any, fetch: Fetch, model_folder: Path, settings: Settings
) -> None:
    (model_folder / "LICENSE").write_text("Do as you please.")
    (model_folder / "README.md").write_text("---\nlicense: other\nlicense_name: house-1\ntags: []\n---\n# Tiny\n")
    posted = post(projects=["default"])
    assert (posted["state"], posted["num_bytes"], posted["max_seq_len"]) == ("pending", None, None)
    assert api.get("/models/tiny").json()["state"] == "pending", "the project sees the pending model"
    assert api.get("/models/tiny").json()["path"] is None, "the project does not see the path"
    spec = {"base_model": "tiny", "dataset_id": "none", "training": {"max_steps": 1}}
    assert "model_not_ready" in {each["code"] for each in api.post("/jobs", json=spec).json()["errors"]}
    assert api.get("/v1/models").json()["data"] == []
    assert fetch()
    assert not fetch()
    model = get_model()
    size = sum(path.stat().st_size for path in model_folder.iterdir() if path.suffix in (".json", ".safetensors"))
    assert (model["state"], model["num_bytes_done"], model["num_bytes"]) == ("ready", size, size)
    assert (model["max_seq_len"], model["num_parameters"], model["path"]) == (128, 432, str(model_folder))
    assert (model["license"], model["license_text"]) == ("house-1", "Do as you please.")
    assert api.get("/models").json()["items"][0]["license"] == "house-1"
    assert "license_text" not in api.get("/models").json()["items"][0]
    assert [each["id"] for each in api.get("/v1/models").json()["data"]] == ["tiny"]
    assert not list((settings.work_dir / "models").glob("*"))


def test_models_share_files_that_are_deleted_with_the_last_model(
    server: TestClient,
    admin: Headers,
    post: Any,
    fetch: Fetch,
    sessions: Sessions,
    settings: Settings,
    stored: Callable[[], set[str]],
    model_folder: Path,
) -> None:
    other = shutil.copytree(model_folder, model_folder.with_name("other"))
    (other / "tokenizer.json").write_text('{"its": "own"}')
    for name, folder in (("one", model_folder), ("two", other)):
        post(name, folder)
        assert fetch()
    assert len(stored()) == 5, "the models share three files"
    collector = Collector(settings, sessions, Storage(settings.storage))
    for name, left in (("one", 4), ("two", 0)):
        assert server.delete(f"/models/{name}", headers=admin).status_code == 204
        assert server.get(f"/models/{name}", headers=admin).status_code == 404
        collector.retain()
        assert len(stored()) == left
    assert model_folder.is_dir(), "the operator's folder is not deleted"
    post("one")
    assert fetch(), "a removed name can be used again"


def test_a_folder_on_the_disk_of_the_storage_takes_no_more_space(
    post: Any, fetch: Fetch, settings: Settings, model_folder: Path
) -> None:
    post()
    assert fetch()
    weights = (model_folder / "model.safetensors").stat()
    inodes = {path.stat().st_ino for path in (settings.data_dir / "storage" / "models").iterdir()}
    assert weights.st_ino in inodes


@pytest.mark.parametrize("path", ["/etc", "/nowhere/model", "{root}/../etc"])
def test_only_allowed_folders_are_accepted_over_http(
    server: TestClient, admin: Headers, tmp_path: Path, path: str
) -> None:
    body = {"name": "tiny", "path": path.format(root=tmp_path)}
    refused = server.post("/models", json=body, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert "not below a folder from which models may be added" in refused.json()["detail"]
    assert server.get("/models", headers=admin).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a"},
        {"name": "a", "path": "/a", "hub": "a/b"},
        {"name": "a", "path": "relative"},
        {"name": "a", "path": "/a", "revision": "main"},
        {"name": "a", "hub": "a/b", "more": 1},
        {"name": "a", "hub": "a/b", "hub_name": "a/b"},
    ],
)
def test_an_invalid_body_is_refused(server: TestClient, admin: Headers, body: dict[str, Any]) -> None:
    refused = server.post("/models", json=body, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_a_folder_can_have_a_hub_name(
    server: TestClient, admin: Headers, post: Any, get_model: Any, fetch: Fetch, model_folder: Path
) -> None:
    """The revision is still the digest of the files; a later hub name replaces an earlier one."""
    posted = post(hub_name="org/name", revision=COMMIT)
    assert (posted["hub"], posted["hub_name"], posted["hub_revision"]) == (None, "org/name", COMMIT)
    assert fetch()
    ready = get_model()
    assert (ready["state"], ready["hub_name"], ready["hub_revision"]) == ("ready", "org/name", COMMIT)
    assert ready["revision"] == digest_folder(model_folder)
    assert post(projects=["default"])["hub_name"] == "org/name", "a post without a hub name keeps it"
    again = post(hub_name="org/other")
    assert (again["state"], again["hub_name"], again["hub_revision"]) == ("ready", "org/other", None)


@pytest.mark.parametrize(
    ("hub_name", "revision", "message"),
    [
        ("name", None, "is not a hub id; use ORG/NAME"),
        ("org/name/more", None, "is not a hub id"),
        ("org/a..b", None, "is not a hub id"),
        ("", None, "is not a hub id"),
        ("org/name", "main", "'main' is not a commit of org/name; pass its 40 hexadecimal digits"),
        ("org/name", COMMIT[:12], "not a commit"),
        ("org/name", COMMIT.upper(), "not a commit"),
    ],
)
def test_an_invalid_hub_name_is_refused(
    server: TestClient, admin: Headers, model_folder: Path, hub_name: str, revision: str | None, message: str
) -> None:
    body = {"name": "tiny", "path": str(model_folder), "hub_name": hub_name, "revision": revision}
    refused = server.post("/models", json=body, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_hub_name")
    assert message in refused.json()["detail"]
    assert server.get("/models", headers=admin).json()["items"] == []


def test_a_failed_fetch_reports_why_and_can_be_repeated(
    post: Any, get_model: Any, fetch: Fetch, tmp_path: Path, model_folder: Path, server: TestClient, admin: Headers
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    shutil.copytree(model_folder, outside)
    (tmp_path / "link").symlink_to(outside)
    for folder, code in (("missing", "invalid_model_folder"), ("link", "path_not_allowed")):
        post(path=tmp_path / folder)
        assert fetch()
        assert (get_model()["state"], get_model()["failure"]["code"]) == ("failed", code)
    again = post()
    assert (again["state"], again["failure"]) == ("pending", None)
    assert fetch()
    assert get_model()["state"] == "ready"
    same = post(projects=["default"])
    assert (same["state"], same["projects"]) == ("ready", ["default"]), "only its projects changed"
    other = {"name": "tiny", "hub": "org/name"}
    assert server.post("/models", json=other, headers=admin).json()["code"] == "model_already_exists"
    shutil.rmtree(outside)


def test_a_dead_worker_is_replaced_and_its_late_result_is_ignored(
    post: Any, get_model: Any, fetch: Fetch, place: FetchPlace, sessions: Sessions
) -> None:
    post()
    with transaction(sessions) as session:
        dead = FetchRepository(session).claim("dead-1", 60)
    assert dead is not None
    assert (get_model()["state"], fetch()) == ("fetching", False), "the fetch is still leased"
    let_lease_lapse(sessions)
    assert fetch()
    assert get_model()["state"] == "ready"
    before = get_model()
    ModelFetch(place, dead, threading.Event()).run()
    assert get_model() == before


def test_a_model_fails_after_too_many_attempts(post: Any, get_model: Any, fetch: Fetch, sessions: Sessions) -> None:
    post()
    for _ in range(MAX_ATTEMPTS):
        with transaction(sessions) as session:
            assert FetchRepository(session).claim("dead-1", 60)
        let_lease_lapse(sessions)
    assert not fetch()
    assert (get_model()["state"], get_model()["failure"]["code"]) == ("failed", "too_many_attempts")


def test_a_draining_worker_releases_its_fetch_at_once(
    post: Any, get_model: Any, fetch: Fetch, place: FetchPlace, sessions: Sessions
) -> None:
    post()
    draining = threading.Event()
    draining.set()
    assert fetch_next(place, draining)
    assert get_model()["state"] == "pending"
    assert fetch()
    assert get_model()["state"] == "ready"


def test_a_model_removed_while_it_is_fetched_leaves_nothing(
    server: TestClient,
    admin: Headers,
    post: Any,
    place: FetchPlace,
    sessions: Sessions,
    settings: Settings,
    stored: Callable[[], set[str]],
) -> None:
    post()
    with transaction(sessions) as session:
        claimed = FetchRepository(session).claim("here-1", 60)
    assert claimed is not None
    fetching = ModelFetch(place, claimed, threading.Event())
    store = fetching._store

    def remove_after_the_first(*arguments: Any) -> Any:
        kept = store(*arguments)
        if len(fetching.files) == 0:
            assert server.delete("/models/tiny", headers=admin).status_code == 204
        return kept

    fetching._store = remove_after_the_first  # type: ignore[method-assign]
    fetching.run()
    assert stored()
    Collector(settings, sessions, Storage(settings.storage)).retain()
    assert not stored()
    assert server.get("/models", headers=admin).json()["items"] == []


def test_files_that_no_model_uses_are_deleted(
    post: Any, fetch: Fetch, sessions: Sessions, settings: Settings, stored: Callable[[], set[str]]
) -> None:
    post()
    assert fetch()
    used = stored()
    (settings.data_dir / "storage" / "models" / ("0" * 64)).write_bytes(b"lost")
    Collector(settings.model_copy(update={"orphan_ttl_seconds": 3600}), sessions, Storage(settings.storage)).search()
    assert stored() > used, "its model may still be added"
    Collector(settings.model_copy(update={"orphan_ttl_seconds": 1e-9}), sessions, Storage(settings.storage)).search()
    assert stored() == used


def test_a_repeated_post_gets_the_same_answer(server: TestClient, admin: Headers, model_folder: Path) -> None:
    body, key = {"name": "tiny", "path": str(model_folder)}, {"Idempotency-Key": "once"}
    first, second = (server.post("/models", json=body, headers=admin | key) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == 202


def let_lease_lapse(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        session.execute(update(RegisteredModel).values(leased_until=func.to_timestamp(0)))
