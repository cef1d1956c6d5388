"""The body of a PUT becomes a dataset, digest headers are checked, and uploads need little memory."""

import base64
import hashlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from benchmarks.metrics_range import serving
from benchmarks.processes import peak_memory
from tests.integration.datasets.conftest import ROWS, jsonl

MEBIBYTE = 2**20
DATA = jsonl(ROWS)
Files = Callable[[], list[Path]]


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_a_body_becomes_a_dataset(api: TestClient, inspect_all: Callable[[], int]) -> None:
    answer = api.put("/datasets", params={"filename": "greeting.jsonl", "expires_after_seconds": 60}, content=DATA)
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["Location"] == f"/datasets/{dataset['id']}"
    assert (dataset["filename"], dataset["state"]) == ("greeting.jsonl", "inspecting")
    assert (dataset["bytes"], dataset["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert dataset["expires_at"]
    assert inspect_all() == 1
    assert api.get(f"/datasets/{dataset['id']}").json()["state"] == "ready"
    assert api.get(f"/datasets/{dataset['id']}/content").content == DATA


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (None, "dataset"),
        ("../../etc/passwd", "passwd"),
        ("rows\u202egnp.jsonl", "rowsgnp.jsonl"),
        ("a\u2067b\u200f.csv", "ab.csv"),
        ("a\x00\nb.csv", "ab.csv"),
        ("%ED%A0%80.csv", "%ED%A0%80.csv"),
        ("n" * 300, "n" * 255),
        ("\u202e", "dataset"),
        ("مرحبا.jsonl", "مرحبا.jsonl"),
    ],
)
def test_a_filename_is_cleaned(api: TestClient, given: str | None, label: str) -> None:
    answer = api.put("/datasets", params={} if given is None else {"filename": given}, content=DATA)
    assert answer.json()["filename"] == label


def test_a_filename_with_a_lone_surrogate_is_made_printable(api: TestClient) -> None:
    answer = api.put("/datasets?filename=a%ED%A0%80b.csv", content=DATA)
    assert answer.status_code == 201
    assert answer.json()["filename"].isprintable()


def test_forms_are_refused(api: TestClient, stored_files: Files) -> None:
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        answer = api.put("/datasets", headers={"Content-Type": kind}, content=DATA)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "curl -T" in answer.json()["detail"]
    for kind in ("application/jsonl", "text/csv", "application/gzip", "application/vnd.apache.parquet", ""):
        assert api.put("/datasets", headers={"Content-Type": kind}, content=DATA).status_code == 201
    assert len(stored_files()) == 5


def test_a_body_that_is_too_large_is_refused(
    settings: Settings, make_key: Callable[..., str], stored_files: Files
) -> None:
    settings.data_dir.mkdir()
    app = create_app(settings.model_copy(update={"max_upload_bytes": 1000}))
    with TestClient(app, headers={"Authorization": f"Bearer {make_key()}"}) as api:
        assert api.put("/datasets", content=b"x" * 1000).status_code == 201
        refused = api.put("/datasets", content=b"x" * 1001)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert len(stored_files()) == 1


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_a_digest_header_is_checked(api: TestClient, stored_files: Files, header: str) -> None:
    def put(value: str) -> httpx2.Response:
        return api.put("/datasets", headers={header: value}, content=DATA)

    for good in (
        digest_of(DATA),
        f"sha-512=:AAAA:, {digest_of(DATA).replace('sha', 'SHA')}",
        "sha-512=:AAAA:",
        "md5=:x:",
    ):
        assert put(good).status_code == 201, good
    assert len(stored_files()) == 4
    other = put(digest_of(DATA + b"x"))
    assert (other.status_code, other.json()["code"]) == (400, "digest_mismatch")
    assert hashlib.sha256(DATA).hexdigest() in other.json()["detail"]
    for bad in ("sha-256=abc", "sha-256=:AAAA:", "sha-256", f"sha-256=:{'A' * 43}!:"):
        answer = put(bad)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_digest"), bad
    assert len(stored_files()) == 4


def test_the_digest_of_a_form_is_that_of_the_whole_form(api: TestClient, stored_files: Files) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + DATA + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    good = api.post("/datasets", headers=headers | {"Content-Digest": digest_of(form)}, content=form)
    assert (good.status_code, good.json()["bytes"]) == (201, len(DATA))
    bad = api.post("/datasets", headers=headers | {"Content-Digest": digest_of(DATA)}, content=form)
    assert (bad.status_code, bad.json()["code"]) == (400, "digest_mismatch")
    assert len(stored_files()) == 1


def test_a_client_that_disconnects_leaves_nothing(live: httpx2.Client, live_server: str, stored_files: Files) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * MEBIBYTE
        while not stored_files():
            yield b"x"
        raise InterruptedError

    with pytest.raises(InterruptedError):
        live.put("/datasets", content=endless())
    for _ in range(500):
        if not stored_files():
            break
        threading.Event().wait(0.02)
    assert stored_files() == []
    assert live.get("/datasets").json()["items"] == []


def test_large_uploads_need_little_memory(settings: Settings, make_key: Callable[..., str]) -> None:
    """A server process receives 192 MiB three times: as a body, as a form and as three concurrent parts."""
    block, size = os.urandom(MEBIBYTE), 192 * MEBIBYTE
    settings.data_dir.mkdir()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b"\r\n--b--\r\n"

    with serving(settings.database_url, settings.data_dir) as (url, pid):
        key, address = make_key(), (urlsplit(url).hostname or "", urlsplit(url).port)

        def send(method: str, path: str, body: Iterator[bytes], length: int, **headers: str) -> bytes:
            headers |= {"Authorization": f"Bearer {key}", "Content-Length": str(length)}
            with closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                assert answer.status == 201, answer.read()
                return answer.read()

        def blocks(number: int) -> Iterator[bytes]:
            return (block for _ in range(number))

        def form() -> Iterator[bytes]:
            yield head
            yield from blocks(192)
            yield tail

        send("PUT", "/datasets", blocks(1), MEBIBYTE)
        idle = peak_memory(pid)
        send("PUT", "/datasets", blocks(192), size)
        multipart = {"Content-Type": "multipart/form-data; boundary=b"}
        send("POST", "/datasets", form(), len(head) + size + len(tail), **multipart)
        with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
            id = client.post("/uploads", json={"bytes": size, "filename": "a"}).json()["id"]
        part = (f"/uploads/{id}/parts", 64 * MEBIBYTE)
        threads = [threading.Thread(target=send, args=("POST", part[0], blocks(64), part[1])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
            assert len(client.get(f"/uploads/{id}").json()["parts"]) == 3
        assert peak_memory(pid) - idle < 64 * MEBIBYTE


def test_a_missing_body_is_an_empty_file(api: TestClient) -> None:
    """HTTP does not distinguish the two, so the OpenAPI document does not require a body."""
    answer = api.put("/datasets")
    assert (answer.status_code, answer.json()["bytes"]) == (201, 0)
    operation = api.get("/openapi.json").json()["paths"]["/datasets"]["put"]
    assert operation["requestBody"]["required"] is False
