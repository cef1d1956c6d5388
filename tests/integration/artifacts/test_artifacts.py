"""The artifacts of a job are listed and downloaded over HTTP."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.adapters.service import AdapterService
from app.db.session import Sessions, transaction
from app.domain.artifact import ArtifactKind
from app.settings import Settings
from app.storage import Storage
from tests.integration.adapters.conftest import FILES, Published, add_job

Publish = Callable[..., Published]
HEADERS_THAT_VARY = {"x-request-id", "openai-processing-ms"}


def test_the_artifacts_of_a_job_are_listed_and_downloaded(api: TestClient, publish: Publish) -> None:
    published = publish()
    artifacts = api.get(f"/jobs/{published.job_id}/artifacts").json()["items"]
    assert [artifact["path"] for artifact in artifacts] == sorted([*FILES, "adapter.tar"])
    assert {artifact["kind"] for artifact in artifacts if artifact["path"] != "adapter.tar"} == {"adapter"}
    for artifact in artifacts:
        assert (artifact["job_id"], artifact["attempt"]) == (published.job_id, 1)
        assert artifact["adapter_id"] == published.id
        answer = api.get(artifact["url"])
        assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
        assert answer.headers["ETag"] == f'"{artifact["sha256"]}"'
    api.delete(f"/adapters/{published.id}")
    assert api.get(f"/jobs/{published.job_id}/artifacts").json() == {"items": []}
    assert api.get(artifacts[0]["url"]).json()["code"] == "artifact_not_found"


def test_an_artifact_is_downloaded_by_range(api: TestClient, publish: Publish) -> None:
    artifacts = api.get(f"/jobs/{publish().job_id}/artifacts").json()["items"]
    weights = next(artifact for artifact in artifacts if artifact["path"] == "adapter_model.safetensors")
    data = FILES["adapter_model.safetensors"]
    for wanted, part in (("0-0", data[:1]), ("5-", data[5:]), ("-7", data[-7:]), ("10-99999999", data[10:])):
        answer = api.get(weights["url"], headers={"Range": f"bytes={wanted}"})
        assert (answer.status_code, answer.content) == (206, part)
    beyond = api.get(weights["url"], headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    stale = api.get(weights["url"], headers={"Range": "bytes=0-0", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, data)
    assert api.get(weights["url"], headers={"If-None-Match": f'"{weights["sha256"]}"'}).status_code == 304


def read_headers(answer: Any) -> dict[str, str]:
    """Return the headers of an answer, except those that vary by answer."""
    return {name: value for name, value in answer.headers.items() if name not in HEADERS_THAT_VARY}


def test_head_has_the_headers_of_get_and_no_body(
    api: TestClient, publish: Publish, settings: Settings, project_id: str
) -> None:
    published = publish()
    dataset = api.post("/datasets", files={"file": ("rows.jsonl", b'{"text": "a"}\n')}).json()["id"]
    artifacts = api.get(f"/jobs/{published.job_id}/artifacts").json()["items"]
    adapter = f"/adapters/{published.id}"
    for url in (
        artifacts[0]["url"],
        f"{adapter}/archive",
        f"{adapter}/files/README.md",
        f"/datasets/{dataset}/content",
    ):
        whole, head, part = api.get(url), api.head(url), api.head(url, headers={"Range": "bytes=0-0"})
        assert (head.status_code, head.content) == (200, b""), url
        assert read_headers(head) == read_headers(whole) == read_headers(part)
        assert api.head(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert api.head("/artifacts/art-1/content").status_code == 404
    assert api.head(artifacts[0]["url"], headers={"Authorization": "Bearer none"}).status_code == 401
    Storage(settings.storage).delete(f"{project_id}/jobs/{published.job_id}/1/{artifacts[0]['path']}")
    assert api.head(artifacts[0]["url"]).status_code == api.get(artifacts[0]["url"]).status_code == 404


def test_a_fully_fine_tuned_model_has_no_adapter(
    api: TestClient, sessions: Sessions, settings: Settings, project_id: str, tmp_path: Path
) -> None:
    job_id = add_job(sessions, project_id)
    assert api.get(f"/jobs/{job_id}/artifacts").json() == {"items": []}
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    storage = Storage(settings.storage)
    file = storage.put_file(f"{project_id}/jobs/{job_id}/1/m", tmp_path / "model.safetensors", "model.safetensors")
    with transaction(sessions) as session:
        AdapterService(session).publish_files(project_id, job_id, 1, kind=ArtifactKind.model, files=[file])
    (artifact,) = api.get(f"/jobs/{job_id}/artifacts").json()["items"]
    assert (artifact["kind"], artifact["adapter_id"]) == ("model", None)
    assert api.get(artifact["url"]).content == b"weights"


def test_an_unknown_artifact_or_job_is_not_found(
    api: TestClient, publish: Publish, as_project: Callable[[str], dict[str, str]]
) -> None:
    published = publish()
    (url, *_) = [each["url"] for each in api.get(f"/jobs/{published.job_id}/artifacts").json()["items"]]
    other = as_project("other")
    assert api.get(url, headers=other).json()["code"] == "artifact_not_found"
    assert api.get(f"/jobs/{published.job_id}/artifacts", headers=other).json()["code"] == "job_not_found"
    for id in ("art-" + "0" * 24, "art-1", "%00", "x"):
        answer = api.get(f"/artifacts/{id}/content")
        assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")
    for id in ("ftjob-" + "0" * 24, "x", "%00"):
        answer = api.get(f"/jobs/{id}/artifacts")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
