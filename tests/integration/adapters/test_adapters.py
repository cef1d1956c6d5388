"""Adapters are listed, read, downloaded as files or as one archive, and deleted over HTTP."""

import hashlib
import io
import tarfile
from base64 import b64decode
from collections.abc import Callable
from urllib.parse import quote

from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Artifact, DeletedObject, Job
from tests.integration.adapters.conftest import FILES, MANIFEST, Published

Publish = Callable[..., Published]
UNKNOWN = "adp-" + "0" * 24


def documented_content_types(api: TestClient, path: str, status: str) -> set[str]:
    """Return the content types that the OpenAPI document lists."""
    return set(api.get("/openapi.json").json()["paths"][path]["get"]["responses"][status]["content"])


def test_an_adapter_lists_its_files_for_download(api: TestClient, publish: Publish) -> None:
    published = publish()
    adapter = api.get(f"/adapters/{published.id}").json()
    assert (adapter["job_id"], adapter["base_model"]) == (published.job_id, "tiny")
    assert (adapter["base_model_revision"], adapter["manifest"]) == ("a" * 40, MANIFEST)
    assert adapter["size"] == sum(map(len, FILES.values()))
    assert [file["path"] for file in adapter["files"]] == sorted(FILES)
    for file in adapter["files"]:
        data = FILES[file["path"]]
        assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert api.get(file["url"]).content == data
        assert api.get(f"/artifacts/{file['artifact_id']}/content").content == data


def test_an_adapter_is_downloaded_as_one_archive(api: TestClient, publish: Publish) -> None:
    published = publish()
    described = api.get(f"/adapters/{published.id}").json()["archive"]
    answer = api.get(described["url"])
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert (
        documented_content_types(api, "/adapters/{id}/archive", "200")
        == documented_content_types(api, "/adapters/{id}/archive", "206")
        == {"application/x-tar"}
    )
    assert 'filename="ft-tiny-support-0a1b2c3d.tar"' in answer.headers["Content-Disposition"]
    assert hashlib.sha256(answer.content).hexdigest() == described["sha256"]
    digest = answer.headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(digest).hex() == described["sha256"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert {name: archive.extractfile(name).read() for name in archive.getnames()} == FILES  # type: ignore[union-attr]
    rest = api.get(described["url"], headers={"Range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, published.tar[1000:])


def test_adapters_are_listed_by_page_and_filtered(api: TestClient, publish: Publish) -> None:
    ids = [publish(base_model).id for base_model in ("tiny", "org/other", "tiny")]
    first = api.get("/adapters", params={"limit": 2}).json()
    second = api.get("/adapters", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None
    assert first["items"][0]["size"] == sum(map(len, FILES.values()))
    other = api.get("/adapters", params={"base_model": "org/other"}).json()
    assert [item["id"] for item in other["items"]] == [ids[1]]
    assert api.get("/adapters", params={"base_model": "a\0b"}).json()["code"] == "invalid_request"
    assert api.get("/adapters", params={"cursor": "?"}).json()["code"] == "invalid_cursor"


def test_deleting_an_adapter_keeps_its_job_and_leaves_its_bytes_to_the_collector(
    api: TestClient, publish: Publish, sessions: Sessions, project_id: str
) -> None:
    published, other = publish(), publish()
    assert api.delete(f"/adapters/{published.id}").status_code == 204
    for path in ("", "/archive", "/files/README.md"):
        answer = api.get(f"/adapters/{published.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "adapter_not_found")
    assert api.delete(f"/adapters/{published.id}").json()["code"] == "adapter_not_found"
    assert api.get(f"/adapters/{other.id}/archive").content == other.tar
    with transaction(sessions) as session:
        deleted_keys = set(session.scalars(select(DeletedObject.storage_key)))
        left = set(session.scalars(select(Artifact.job_id)))
        assert session.get(Job, published.job_id) is not None
    assert deleted_keys == {f"{project_id}/jobs/{published.job_id}/1/{name}" for name in (*FILES, "adapter.tar")}
    assert left == {other.job_id}


def test_a_name_can_be_used_instead_of_an_id(api: TestClient, publish: Publish) -> None:
    """A name may contain slashes, which a client may escape in the path."""
    published = publish("org/tiny")
    name = api.get(f"/adapters/{published.id}").json()["name"]
    assert "/" in name
    for written in (name, quote(name, safe="")):
        assert api.get(f"/adapters/{written}").json()["id"] == published.id
        assert api.get(f"/adapters/{written}/files/README.md").content == FILES["README.md"]
        assert api.head(f"/adapters/{written}/archive").headers["Content-Length"] == str(len(published.tar))
    second = publish("org/tiny")
    answer = api.get(f"/adapters/{name}")
    assert (answer.status_code, answer.json()["code"]) == (409, "ambiguous_name")
    assert api.delete(f"/adapters/{second.id}").status_code == 204
    assert api.delete(f"/adapters/{quote(name, safe='')}").status_code == 204
    assert api.get(f"/adapters/{published.id}").status_code == 404


def test_an_unknown_adapter_or_file_is_not_found(api: TestClient, publish: Publish) -> None:
    for id in (UNKNOWN, "adp-1", "%00", "x"):
        for path in ("", "/archive", "/files/README.md"):
            answer = api.get(f"/adapters/{id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "adapter_not_found")
    known = publish().id
    for path in ("nothing", "adapter.tar", "../README.md", "%00", "%2Fetc%2Fpasswd", "README.md/x"):
        answer = api.get(f"/adapters/{known}/files/{path}")
        assert (answer.status_code, answer.json()["code"]) in ((404, "artifact_not_found"), (404, "adapter_not_found"))


def test_another_project_sees_nothing(
    api: TestClient, publish: Publish, as_project: Callable[[str], dict[str, str]]
) -> None:
    id, other = publish().id, as_project("other")
    for method, path in (("GET", ""), ("GET", "/archive"), ("GET", "/files/README.md"), ("DELETE", "")):
        answer = api.request(method, f"/adapters/{id}{path}", headers=other)
        assert (answer.status_code, answer.json()["code"]) == (404, "adapter_not_found")
    assert api.get("/adapters", headers=other).json()["items"] == []
    assert api.get(f"/adapters/{id}").status_code == 200
