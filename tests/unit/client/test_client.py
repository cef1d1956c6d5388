import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tunewright import Client, ConnectionFailed, FieldError, TunewrightError

AT = "2026-01-05T10:12:13Z"
DATASET = {"id": "file-0", "filename": "rows.jsonl", "state": "inspecting", "bytes": 9, "sha256": "0", "format": None}
DATASET |= {"num_examples": None, "problems": [], "problem_counts": {}, "created_at": AT, "expires_at": None}
DATASET |= {"format_reason": None, "num_bad_rows": None, "statistics": None, "cleaned_from": None}
DATASET |= {"columns": None}


def test_a_problem_becomes_an_error_with_every_bad_field(server: Any, client: Client) -> None:
    fields = [{"pointer": "/adapter/rank", "code": "greater_than", "message": "Input should be greater than 0"}]
    problem = {"code": "invalid_spec", "detail": "1 field must be changed: /adapter/rank.", "errors": fields}
    server.answers["POST /jobs"] = lambda request: request.send(
        json.dumps(problem).encode(), 422, "application/problem+json"
    )
    with pytest.raises(TunewrightError, match="must be changed") as caught:
        client.create_job(base_model="m")
    assert (caught.value.status, caught.value.code) == (422, "invalid_spec")
    assert caught.value.errors == [FieldError("/adapter/rank", "greater_than", "Input should be greater than 0")]


@pytest.mark.parametrize(("status", "code"), [(502, "http_502"), (200, "http_200"), (307, "http_307")])
def test_what_is_no_tunewright_server_is_said_so(server: Any, client: Client, status: int, code: str) -> None:
    server.answers["GET /jobs/j"] = lambda request: request.send(b"<html>hello</html>", status, "text/html")
    with pytest.raises(TunewrightError, match="Check that this is the URL of a Tunewright server") as caught:
        client.get_job("j")
    assert caught.value.code == code


def test_an_id_cannot_lead_to_another_route(server: Any, client: Client) -> None:
    server.answers["DELETE /jobs/..%2Fdatasets%2Fd%3Fx%23y"] = lambda request: request.send(b"", 204)
    client.delete_job("../datasets/d?x#y")
    assert server.asked == ["DELETE /jobs/..%2Fdatasets%2Fd%3Fx%23y"]


def test_lists_go_on_over_pages_and_no_further_than_read(server: Any, client: Client) -> None:
    def page(request: Any) -> None:
        start = int(request.query.partition("cursor=")[2] or 0)
        items = [DATASET | {"id": f"file-{start + n}"} for n in range(2)]
        request.send_json({"items": items, "next_cursor": str(start + 2) if start < 4 else None})

    server.answers["GET /datasets"] = page
    assert [dataset.id for dataset in client.list_datasets()] == [f"file-{n}" for n in range(6)]
    server.asked.clear()
    assert next(client.list_datasets()).id == "file-0"
    assert len(server.asked) == 1


def test_an_upload_tells_its_progress_and_sends_the_file_as_it_is(server: Any, client: Client, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    path = tmp_path / 'a "quoted"\nüname.jsonl'
    path.write_bytes(content)
    bodies: list[bytes] = []

    def receive(request: Any) -> None:
        bodies.append(request.rfile.read(int(request.headers["Content-Length"])))
        request.send_json(DATASET, 201)

    server.answers["POST /datasets"] = receive
    told: list[tuple[int, int]] = []
    assert client.upload_dataset(path, lambda done, total: told.append((done, total))).state == "inspecting"
    head, _, rest = bodies[0].partition(b"\r\n\r\n")
    assert 'filename="a %22quoted%22%0Aüname.jsonl"'.encode() in head
    assert rest.startswith(content)
    assert told[-1] == (300_000, 300_000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 4
    assert client.upload_dataset(path, expires_after_seconds=3600).id == "file-0"
    assert server.asked == ["POST /datasets", "POST /datasets?expires_after_seconds=3600"]
    client.upload_dataset(path, columns={"prompt": "input"})
    assert parse_qs(server.asked[-1].partition("?")[2]) == {"columns": ['{"prompt": "input"}']}


@pytest.fixture
def local_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> Path:
    for name in ("TUNEWRIGHT_URL", "TUNEWRIGHT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEWRIGHT_DATA_DIR", str(tmp_path))
    (tmp_path / "server.json").write_text(json.dumps({"url": server.url, "pid": 1}))
    (tmp_path / "api_key").write_text("tw_local\n")
    return tmp_path


def key_sent(server: Any) -> str:
    keys: list[str] = []

    def note(request: Any) -> None:
        keys.append(request.headers["Authorization"])
        request.send(b"", 204)

    server.answers["DELETE /jobs/j"] = note
    with Client() as client:
        client.delete_job("j")
    return keys[0]


def test_the_local_stack_is_found_by_its_data_folder(server: Any, local_stack: Path) -> None:
    assert key_sent(server) == "Bearer tw_local"


def test_the_environment_goes_before_the_local_stack(
    server: Any, local_stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (local_stack / "server.json").unlink()
    monkeypatch.setenv("TUNEWRIGHT_URL", server.url)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", "tw_other")
    assert key_sent(server) == "Bearer tw_other"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: Any, local_stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert key_sent(server) == "Bearer tw_local"


@pytest.mark.parametrize(("missing", "code"), [("server.json", "no_server"), ("api_key", "no_api_key")])
def test_what_is_missing_is_said_with_what_to_do(local_stack: Path, missing: str, code: str) -> None:
    (local_stack / missing).unlink()
    with pytest.raises(TunewrightError, match="TUNEWRIGHT_") as caught:
        Client()
    assert caught.value.code == code


@pytest.mark.parametrize("url", ["localhost:8400", "http://", "ftp://host", "http://h:port"])
def test_a_malformed_url_is_said(url: str) -> None:
    with pytest.raises(TunewrightError, match="use the form http://localhost"):
        Client(url, "tw_test")


@pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
def test_a_malformed_key_is_said_without_showing_it(key: str) -> None:
    with pytest.raises(TunewrightError, match="API key is malformed") as caught:
        Client("http://localhost:1", key)
    assert key not in str(caught.value)


def test_no_answer_is_an_error_of_its_own() -> None:
    with (
        Client("http://127.0.0.1:1", "tw_test") as client,
        pytest.raises(ConnectionFailed, match="Check that the server is running"),
    ):
        client.get_job("j")
