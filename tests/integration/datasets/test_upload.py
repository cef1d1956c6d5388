"""Uploads are streamed to storage as they arrive; a form that is not exactly one file is refused with a stable code."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.db.session import Sessions, transaction
from app.db.tables import OutboxRow
from app.main import create_app
from app.settings import Settings

Upload = Callable[..., httpx2.Response]
Files = Callable[[], list[Path]]

BOUNDARY = "a-boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
MEBIBYTE = 2**20


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_an_upload_is_answered_with_its_digest(api: TestClient, upload: Upload, sessions: Sessions) -> None:
    data = b'{"text": "hello"}\n'
    answer = upload(data, "greeting.jsonl")
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["Location"] == f"/datasets/{dataset['id']}"
    assert dataset["state"] == "inspecting"
    assert dataset["filename"] == "greeting.jsonl"
    assert (dataset["bytes"], dataset["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert api.get(answer.headers["Location"]).json() == dataset
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow.queue)).all() == ["light"]


def test_stored_bytes_grow_before_the_upload_ends(live: httpx2.Client, stored_files: Files) -> None:
    """The server receives 96 MiB, holds them neither in memory nor in a temporary file, and grows by far less."""
    line = b'{"text": "' + b"x" * (MEBIBYTE - 13) + b'"}\n'
    assert len(line) == MEBIBYTE
    process = psutil.Process()
    sizes: list[int] = []
    grown: list[int] = []
    temporary: list[str] = []

    def body() -> Iterator[bytes]:
        before, files_before = process.memory_info().rss, open_temporary_files()
        yield HEAD
        for sent in range(1, 97):
            yield line
            if sent % 32 == 0:
                wait_for(lambda: sum(path.stat().st_size for path in stored_files()) >= (sent - 3) * MEBIBYTE)  # noqa: B023
                sizes.append(sum(path.stat().st_size for path in stored_files()))
                grown.append(process.memory_info().rss - before)
                temporary.extend(open_temporary_files() - files_before)
        yield TAIL

    answer = live.post("/datasets", headers=MULTIPART, content=body())
    assert answer.status_code == 201, answer.text
    assert answer.json()["bytes"] == 96 * MEBIBYTE
    assert sizes == sorted(set(sizes))
    assert max(grown) < 48 * MEBIBYTE
    assert not temporary
    (stored,) = stored_files()
    assert stored.stat().st_size == 96 * MEBIBYTE


def open_temporary_files() -> set[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return {link for link in links if link.endswith("(deleted)")}


def test_a_client_that_disconnects_leaves_nothing(live: httpx2.Client, live_server: str, stored_files: Files) -> None:
    address = urlsplit(live_server)
    head = f"POST /datasets HTTP/1.1\r\nHost: x\r\nAuthorization: {live.headers['Authorization']}\r\n"
    head += f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {50 * MEBIBYTE}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + HEAD + b"x" * (5 * MEBIBYTE))
        wait_for(stored_files)
    wait_for(lambda: not stored_files())
    assert live.get("/datasets").json()["items"] == []
    assert live.get("/healthz").json() == {"status": "ok"}


def test_content_returns_the_uploaded_bytes(api: TestClient, upload: Upload) -> None:
    for size in (0, 1, 100_001):
        data = os.urandom(size)
        id = upload(data).json()["id"]
        assert api.get(f"/datasets/{id}/content").content == data


def test_a_file_that_is_too_large_is_refused(
    settings: Settings, make_key: Callable[..., str], stored_files: Files
) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    settings.data_dir.mkdir()
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {make_key()}"}) as api:
        assert api.post("/datasets", files={"file": ("rows.jsonl", b"x" * 1000)}).status_code == 201
        refused = api.post("/datasets", files={"file": ("rows.jsonl", b"x" * 1001)})
        endless = api.post("/datasets", headers=MULTIPART, content=b"\r\n" * 50_000)
    for answer in (refused, endless):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "1,000 bytes" in answer.json()["detail"]
    assert len(stored_files()) == 1


def test_an_unknown_form_field_is_refused(api: TestClient, stored_files: Files) -> None:
    answer = api.post("/datasets", files={"file": ("rows.jsonl", b"{}")}, data={"purpose": "fine-tune"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_multipart")
    assert "'purpose'" in answer.json()["detail"]
    assert stored_files() == []


def test_a_truncated_form_is_refused(api: TestClient, stored_files: Files) -> None:
    answer = api.post("/datasets", headers=MULTIPART, content=HEAD + b'{"text": "x"}')
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_multipart")
    assert stored_files() == []


def test_other_content_types_are_refused(api: TestClient) -> None:
    for content_type in ("application/json", "text/plain; boundary=x", "multipart/mixed; boundary=x", ""):
        answer = api.post("/datasets", headers={"Content-Type": content_type}, content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "multipart/form-data" in answer.json()["detail"]


def test_an_invalid_boundary_is_refused(api: TestClient) -> None:
    for content_type in ("multipart/form-data", f"multipart/form-data; boundary={'b' * 1000}"):
        answer = api.post("/datasets", headers={"Content-Type": content_type}, content=b"--x\r\n")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_multipart")


def test_a_filename_is_not_used_as_a_path(api: TestClient, upload: Upload, stored_files: Files) -> None:
    dataset = upload(filename="../../etc/a\r\nX-Evil: 1/b\nc.jsonl").json()
    assert dataset["filename"] == "bc.jsonl"
    assert [path.name for path in stored_files()] == [dataset["id"]]
    content = api.get(f"/datasets/{dataset['id']}/content")
    assert "x-evil" not in content.headers
    assert content.headers["Content-Disposition"] == "attachment; filename=\"bc.jsonl\"; filename*=UTF-8''bc.jsonl"


def test_a_failed_transaction_deletes_the_bytes(upload: Upload, sessions: Sessions, stored_files: Files) -> None:
    """The commit itself fails: no 201, no row, no bytes."""
    with transaction(sessions) as session:
        session.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
            )
        )
        session.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON datasets DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    answer = upload()
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert stored_files() == []


def test_a_read_only_key_cannot_upload(server: TestClient, make_key: Callable[..., str], project_id: str) -> None:
    headers = {"Authorization": f"Bearer {make_key('default', 'read')}"}
    answer = server.post("/datasets", headers=headers, files={"file": ("rows.jsonl", b"x")})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
