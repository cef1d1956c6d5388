"""Datasets are listed, downloaded and deleted over HTTP."""

import hashlib
import threading
from base64 import b64decode
from collections.abc import Callable

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetUse, DeletedObject, Job
from app.domain.ids import new_id
from app.errors import DatasetNotFound
from app.jobs.shown import find_shown

Upload = Callable[..., httpx2.Response]
UNKNOWN = "file-" + "0" * 24


@pytest.fixture
def add_job(sessions: Sessions, project_id: str) -> Callable[[str], str]:
    """Add a job that uses a dataset; return its id."""

    def add(dataset_id: str) -> str:
        id = new_id("ftjob")
        with transaction(sessions) as session:
            session.add(job_row(id, project_id))
            DatasetService(session).use(project_id, dataset_id, id, "training")
        return id

    return add


def job_row(id: str, project_id: str) -> Job:
    return Job(
        id=id,
        project_id=project_id,
        state="queued",
        priority=0,
        base_model="m",
        method="lora",
        spec={},
        metadata_={},
        min_memory_gb=0,
        device="auto",
    )


def test_datasets_are_listed_by_page_newest_first(api: TestClient, upload: Upload) -> None:
    ids = [upload(filename=f"{n}.jsonl").json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = api.get("/datasets", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == ids[::-1]


def test_lists_filter_by_state(api: TestClient, upload: Upload, sessions: Sessions) -> None:
    ready, waiting = upload().json()["id"], upload().json()["id"]
    with transaction(sessions) as session:
        session.get_one(Dataset, ready).state = "ready"
    for params, expected in (
        ({"state": "ready"}, [ready]),
        ({"status": "inspecting"}, [waiting]),
        ({"state": ["ready", "inspecting"]}, [waiting, ready]),
        ({"state": "invalid"}, []),
    ):
        assert [each["id"] for each in api.get("/datasets", params=params).json()["items"]] == expected
    assert api.get("/datasets", params={"state": "odd"}).json()["errors"][0]["pointer"] == "/query/state/0"


def test_an_unknown_id_is_not_found(api: TestClient) -> None:
    for id in (UNKNOWN, "file-1", "x", "%00", "ftjob-" + "0" * 24, UNKNOWN + "%0A"):
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = api.request(method, f"/datasets/{id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
            assert "GET /datasets" in answer.json()["detail"]


def test_another_project_sees_nothing(
    api: TestClient, upload: Upload, as_project: Callable[[str], dict[str, str]]
) -> None:
    id = upload().json()["id"]
    other = as_project("other")
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = api.request(method, f"/datasets/{id}{path}", headers=other)
        assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    assert api.get("/datasets", headers=other).json()["items"] == []
    assert api.get(f"/datasets/{id}").status_code == 200


def test_content_has_a_digest_an_etag_and_ranges(api: TestClient, upload: Upload) -> None:
    data = b'{"text": "0123456789"}\n'
    dataset = upload(data).json()
    url = f"/datasets/{dataset['id']}/content"
    whole = api.get(url)
    assert whole.content == data
    digest = whole.headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(digest) == hashlib.sha256(data).digest()
    assert whole.headers["ETag"] == f'"{dataset["sha256"]}"'
    part = api.get(url, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, data[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(data)}"
    assert api.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    beyond = api.get(url, headers={"Range": "bytes=1000-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")


def test_a_cancelled_download_leaves_the_server_healthy(live: httpx2.Client) -> None:
    big = b"x" * 30_000_000
    id = live.post("/datasets", files={"file": ("rows.jsonl", big)}).json()["id"]
    for _ in range(20):
        with live.stream("GET", f"/datasets/{id}/content") as answer:
            next(answer.iter_raw(1000))
    assert live.get("/healthz").json() == {"status": "ok"}
    head = live.head(f"/datasets/{id}/content")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(big)), b"")
    assert hashlib.sha256(live.get(f"/datasets/{id}/content").content).hexdigest() == hashlib.sha256(big).hexdigest()


def test_a_deleted_dataset_leaves_its_bytes_to_the_collector(
    api: TestClient, upload: Upload, sessions: Sessions, project_id: str
) -> None:
    id = upload().json()["id"]
    assert api.delete(f"/datasets/{id}").status_code == 204
    assert api.get(f"/datasets/{id}").json()["code"] == "dataset_not_found"
    assert api.delete(f"/datasets/{id}").json()["code"] == "dataset_not_found"
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == [f"{project_id}/datasets/{id}"]


def test_deleting_a_dataset_in_use_is_refused_with_its_jobs(
    api: TestClient, upload: Upload, add_job: Callable[[str], str], sessions: Sessions, project_id: str
) -> None:
    id = upload().json()["id"]
    jobs = [add_job(id), add_job(id)]
    refused = api.delete(f"/datasets/{id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert all(job in refused.json()["detail"] for job in jobs)
    with transaction(sessions) as session:
        DatasetService(session).release(project_id, jobs[0])
    assert jobs[0] not in api.delete(f"/datasets/{id}").json()["detail"]
    with transaction(sessions) as session:
        DatasetService(session).release(project_id, jobs[1])
    assert api.delete(f"/datasets/{id}").status_code == 204
    with transaction(sessions) as session:
        assert session.scalars(select(DatasetUse)).all() == []
        assert len(session.scalars(select(Job)).all()) == 2


def test_a_deletion_waits_for_a_job_that_is_being_posted(
    api: TestClient, upload: Upload, sessions: Sessions, project_id: str
) -> None:
    id = upload().json()["id"]
    answers: list[httpx2.Response] = []
    deleting = threading.Thread(target=lambda: answers.append(api.delete(f"/datasets/{id}")))
    with transaction(sessions) as session:
        job_id = new_id("ftjob")
        session.add(job_row(job_id, project_id))
        DatasetService(session).use(project_id, id, job_id, "training")
        deleting.start()
        deleting.join(0.5)
        assert answers == []
    deleting.join(10)
    assert answers[0].json()["code"] == "dataset_in_use"


def test_a_job_shows_whether_its_datasets_are_inspected(
    upload: Upload,
    add_job: Callable[[str], str],
    inspect_all: Callable[[], int],
    sessions: Sessions,
    project_id: str,
) -> None:
    job_id = add_job(upload().json()["id"])

    def is_inspected() -> bool:
        with transaction(sessions) as session:
            standing = find_shown(session.connection(), project_id, job_id).standing
            assert standing
            return standing.is_inspected

    assert not is_inspected()
    inspect_all()
    assert is_inspected()


def test_another_projects_dataset_cannot_be_used(upload: Upload, sessions: Sessions) -> None:
    id = upload().json()["id"]
    with pytest.raises(DatasetNotFound), transaction(sessions) as session:
        DatasetService(session).use("proj-other", id, "ftjob-any", "training")
