"""Checks every route below `/v1`. The routes come from the application itself, so that a new one is checked too."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import RegisteredModel
from app.main import create_app
from app.openai.app import create_face
from app.settings import Settings
from app.web.request_id import OPENAI_FACE
from tests.fixtures.openai_client import check_answered, check_error
from tests.integration.jobs.conftest import make_dataset
from tests.integration.test_routes import DIGITS, str_of, strangers_things

__all__ = ["make_dataset", "strangers_things"]


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route except HEAD of the OpenAPI document; a folder of files counts as GET."""
    for entry in app.routes:
        for route in entry.original_router.routes if hasattr(entry, "original_router") else [entry]:
            for method in getattr(route, "methods", None) or {"GET"}:
                if (method, route.path) != ("HEAD", "/openapi.json"):
                    yield method, route.path.replace(":path}", "}")


FACE = create_face(create_app(Settings()).state)
OPENAPI: dict[str, Any] = FACE.openapi()
PAGES = {("GET", page) for page in ("/openapi.json", "/docs", "/docs-assets")}
DESCRIBED = [
    (method.upper(), path, operation)
    for path, operations in OPENAPI["paths"].items()
    for method, operation in operations.items()
]
KEYED = sorted(set(routes_of(FACE)) - PAGES)
WITH_ID = [(method, path) for method, path in KEYED if "{" in path]
RESULT = "art-" + "0" * 24
MODEL = f"ft:tiny::{DIGITS[-8:]}"
IDS = {
    "file_id": (f"file-{DIGITS}", RESULT),
    "upload_id": (f"upload_{DIGITS}",),
    "model": (MODEL, "tiny", f"{MODEL}:ckpt-step-1"),
    "fine_tuning_job_id": (f"ftjob-{DIGITS}",),
}
"""Ids to try for each path parameter. Add a new parameter here."""
NOT_FOUND = {
    "file_id": "file_not_found",
    "upload_id": "upload_not_found",
    "model": "model_not_found",
    "fine_tuning_job_id": "job_not_found",
}
BODIES = {"/uploads/{upload_id}/complete": {"part_ids": ["none"]}}
OWNER_ERRORS = {
    "not_found",  # its bytes are not in storage
    "dataset_in_use",
    "file_belongs_to_job",
    "unsupported_media_type",  # the request has no body
    "invalid_upload_parts",
    "upload_not_pending",
    "job_finished",
    "not_deletable",
}
"""Error codes that only the owner of a resource gets."""
FORGED = f"tw_{DIGITS}_" + "A" * 43
Ask = Callable[[str, str, str | None], Any]


def parameter_of(path: str) -> str:
    (name,) = re.findall(r"{(\w+)}", path)
    return str(name)


def refusal(answer: Any) -> tuple[int, str, str | None]:
    """Return status, code and `param`; for HEAD, whose body is empty, only the status."""
    check_answered(answer)
    assert answer.is_error
    if answer.request.method == "HEAD":
        assert answer.content == b""
        return answer.status_code, "", None
    check_error(answer.status_code, answer.json())
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]


def expected(method: str, status: int, code: str, param: str | None = None) -> tuple[int, str, str | None]:
    return (status, "", None) if method == "HEAD" else (status, code, param)


@pytest.fixture
def ask(server: TestClient, project_id: str) -> Ask:
    def send(method: str, path: str, key: str | None, id: str | None = None, **options: Any) -> Any:
        if "{" in path:
            name = parameter_of(path)
            options = {"json": BODIES.get(path)} | options
            path = path.replace(f"{{{name}}}", id or IDS[name][0])
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return server.request(method, OPENAI_FACE + path, headers=headers, **options)

    return send


def test_the_openapi_document_lists_every_route() -> None:
    described = {(method, path) for method, path, _ in DESCRIBED}
    heads = {("HEAD", path) for method, path in described if method == "GET" and path.endswith("/content")}
    assert set(routes_of(FACE)) == described | heads | PAGES
    assert {parameter_of(path) for _, path in WITH_ID} == IDS.keys()


def test_every_route_requires_a_key(ask: Ask) -> None:
    for method, path in KEYED:
        for key in (None, FORGED):
            assert refusal(ask(method, path, key)) == expected(method, 401, "unauthorized"), (method, path)


def test_the_wrong_scope_is_refused(ask: Ask, make_key: Callable[..., str]) -> None:
    keys = {scope: make_key("default", scope) for scope in ("read", "write")}
    for method, path in KEYED:
        key = keys["write" if method in ("GET", "HEAD") else "read"]
        assert refusal(ask(method, path, key)) == expected(method, 403, "forbidden"), (method, path)


def test_another_projects_resources_are_not_found(
    ask: Ask, make_key: Callable[..., str], strangers_things: None
) -> None:
    key, owner_key = make_key("default"), make_key("stranger")
    each = [(method, path, id) for method, path in WITH_ID for id in IDS[parameter_of(path)]]
    for method, path, id in each:
        name = parameter_of(path)
        assert refusal(ask(method, path, key, id)) == expected(method, 404, NOT_FOUND[name], name), (method, path, id)
    # The owner finds them all, which shows that the ids exist. Deletions come last.
    for method, path, id in sorted(each, key=lambda one: (one[0] == "DELETE", one)):
        answer = ask(method, path, owner_key, id)
        check_answered(answer)
        if answer.is_error and method != "HEAD":
            assert refusal(answer)[1] in OWNER_ERRORS, (method, path, id, answer.text)


def test_lists_contain_only_the_callers_resources(
    ask: Ask, make_key: Callable[..., str], strangers_things: None
) -> None:
    key, owner_key = make_key("default"), make_key("stranger")
    lists = [path for method, path in KEYED if method == "GET" and "{" not in path]
    assert lists == ["/files", "/fine_tuning/jobs", "/models"]
    for path in lists:
        assert ask("GET", path, key).json()["data"] == [], path
        found = [item["id"] for item in ask("GET", path, owner_key).json()["data"]]
        assert found, path
        for last in found:  # another project's id is not a valid cursor either
            if path != "/models":
                answer = ask("GET", path, key, params={"after": last})
                assert refusal(answer)[::2] == (400, "after"), path


def test_an_unknown_query_parameter_is_refused(ask: Ask, make_key: Callable[..., str]) -> None:
    """The error code is the one that OpenAI uses."""
    key = make_key("default")
    for method, path in KEYED:
        answer = ask(method, path, key, params={"colour": "1"})
        assert refusal(answer) == expected(method, 400, "unknown_parameter", "colour"), (method, path)
    answer = ask("GET", "/fine_tuning/jobs", key, params={"metdata[team]": "a"})
    assert "did you mean 'metadata[key]'?" in answer.json()["error"]["message"]
    good = {"metadata[team]": "a", "metadata[a.b]": "c", "limit": "1"}
    assert ask("GET", "/fine_tuning/jobs", key, params=good).status_code == 200
    for metadata, status in (("null", 200), ("none", 400)):
        assert ask("GET", "/fine_tuning/jobs", key, params={"metadata": metadata}).status_code == status


def test_a_job_cannot_use_another_projects_resources(
    ask: Ask,
    make_key: Callable[..., str],
    strangers_things: None,
    make_dataset: Callable[..., str],
    sessions: Sessions,
) -> None:
    key, good = make_key("default"), {"model": "tiny", "training_file": make_dataset()}

    def refused(**fields: str) -> tuple[str, str | None]:
        status, *error = refusal(ask("POST", "/fine_tuning/jobs", key, json=good | fields))
        assert status == 400
        return error[0], error[1]

    assert refused() == ("model_not_found", "model")
    with transaction(sessions) as session:
        session.execute(update(RegisteredModel).values(for_all_projects=True))
    for field in ("training_file", "validation_file"):
        assert refused(**{field: f"file-{DIGITS}"}) == ("dataset_not_found", field)
    for model in (MODEL, f"{MODEL}:ckpt-step-1"):
        assert refused(model=model) == ("init_from_not_found", "model")
    assert ask("GET", "/fine_tuning/jobs", key).json()["data"] == []
    assert ask("POST", "/fine_tuning/jobs", key, json=good).status_code == 200


@pytest.mark.parametrize(("method", "path", "operation"), DESCRIBED, ids=str_of)
def test_every_route_is_described(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert operation["security"] == [{"HTTPBearer": []}]
    responses = operation["responses"]
    expected = {"400", "401", "403"} | ({"404"} if "{" in path else set())
    expected |= {"413", "415"} if "requestBody" in operation else set()
    assert expected <= responses.keys()
    assert "422" not in responses
    for status, response in responses.items():
        if status >= "400":
            assert response["description"]
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}


def test_the_reference_page_loads_nothing_from_other_servers(server: TestClient) -> None:
    page = server.get("/v1/docs")
    check_answered(page)
    sources = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"']+)["']""", page.text)
    assert "/v1/openapi.json" in sources
    for source in sources:
        assert source.startswith("/v1/"), source
        assert server.get(source).status_code == 200, source


@pytest.mark.parametrize("path", ["", "files/", "nothing/here", "docs-assets/nothing", "jobs", "\n"])
def test_an_unknown_route_is_answered_with_an_error_envelope(server: TestClient, path: str) -> None:
    answer = server.get(f"/v1/{quote(path)}")
    assert refusal(answer) == (404, "not_found", None)
    assert f"GET /v1/{path.strip()};" in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(server: TestClient, method: str) -> None:
    answer = server.request(method, "/v1/files")
    assert refusal(answer) == expected(method, 405, "method_not_allowed")
    if method != "HEAD":
        assert f"{method} /v1/files;" in answer.json()["error"]["message"]
