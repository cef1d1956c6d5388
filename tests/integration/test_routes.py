"""Checks every route in the OpenAPI document of the app, so that a new route is checked too."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import (
    Adapter,
    ApiKey,
    Artifact,
    Checkpoint,
    Dataset,
    DatasetCheck,
    Job,
    ModelPermission,
    Project,
    RegisteredModel,
    Upload,
    Webhook,
    WebhookDelivery,
)
from app.domain.caller import ADMIN
from app.main import create_app
from app.settings import Settings

OPENAPI: dict[str, Any] = create_app(Settings()).openapi()
ROUTES = [
    (method.upper(), path, operation)
    for path, operations in OPENAPI["paths"].items()
    for method, operation in operations.items()
]
HEALTH = {"/", "/healthz", "/readyz"}
Ask = Callable[..., Any]
SIGNING = {("POST", "/session"), ("DELETE", "/session")}
"""Routes that take no key in a header: signing in takes one in the body, and signing out a cookie (decision 33)."""
KEYED = [route for route in ROUTES if route[1] not in HEALTH and route[:2] not in SIGNING]
ACROSS_PROJECTS = {"/workers", "/queues"}
"""Routes that every key may read, for all projects (decision 8)."""
ADMIN_ROUTES = (
    ("POST", "/models"),
    ("DELETE", "/models/{name}"),
    ("POST", "/keys"),
    ("GET", "/keys"),
    ("GET", "/keys/{id}"),
    ("POST", "/keys/{id}/rotate"),
    ("POST", "/keys/{id}/revoke"),
    ("POST", "/projects"),
    ("GET", "/projects"),
    ("GET", "/projects/{id}"),
    ("PATCH", "/projects/{id}"),
    ("DELETE", "/projects/{id}"),
    ("GET", "/projects/{id}/deletion"),
)
"""Routes that need the scope `admin` and act on all projects (decision 25). In this order each finds its resource."""
NOUNS = {
    **{"datasets": "file-", "uploads": "upload_", "jobs": "ftjob-", "artifacts": "art-", "adapters": "adp-"},
    **{"webhooks": "webhook-", "projects": "proj-", "keys": "key-"},
}
MANIFEST = {"base_model": {"name": "tiny", "revision": "1"}}
OWNER_ERRORS = (
    "not_found",
    "job_finished",
    "dataset_in_use",
    "dataset_not_inspected",
    "bad_request",
    "invalid_upload_parts",
    "upload_not_pending",
)
"""Error codes that only the owner of a resource gets: its bytes are not in storage, it has ended, a job uses it, it is
not inspected, or the request has no body."""
DIGITS = "5f0c1d2e3a4b5c6d7e8f9a0b"
BODIES = {
    "/uploads/{id}/complete": {"part_ids": ["none"]},
    "/models": {"name": "another", "hub": "org/name"},
    "/projects": {"name": "another"},
    "/keys": {"name": "another"},
    "/projects/{id}": {"max_running_jobs": 1},
    "/datasets/{id}/previews": {"base_model": "tiny"},
    "/webhooks/{id}": {"enabled": True},
    "/datasets/{id}/overlaps": {"validation_dataset_id": f"file-{DIGITS}"},
}
"""Bodies without which a route would refuse the request before it looks for the resource."""


def str_of(part: object) -> str:
    return part if isinstance(part, str) else ""


def fill_path(path: str) -> str:
    """Return the path with ids of the right form."""
    noun = path.split("/")[1]
    id = NOUNS.get(noun, "-") + DIGITS
    path = path.replace("{delivery_id}", f"delivery-{DIGITS}")
    path = path.replace("{preview_id}", f"preview-{DIGITS}").replace("{overlap_id}", f"overlap-{DIGITS}")
    path = path.replace("{checkpoint_id}", f"ftckpt_{DIGITS}")
    return path.replace("{id}", id).replace("{name}", "tiny").replace("{path}", "adapter_model.safetensors")


def problem(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:tunewright:error:{body['code']}"
    assert body["detail"]
    return answer.status_code, body["code"]


@pytest.fixture
def ask(server: TestClient, project_id: str) -> Ask:
    return lambda method, path, key, **params: server.request(
        method,
        fill_path(path),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        json=BODIES.get(path),
        params=params,
    )


def test_the_openapi_document_lists_every_route() -> None:
    """The exceptions are the pages for browsers, and `/v1`, which has its own OpenAPI document."""
    served = set()
    for entry in create_app(Settings()).routes:
        for route in entry.original_router.routes if hasattr(entry, "original_router") else [entry]:
            methods = getattr(route, "methods", {"GET"}) - {"HEAD"}  # a folder of files has none
            served |= {(method, route.path.replace(":path}", "}")) for method in methods}
    pages = {"/openapi.json", "/docs", "/docs-assets", "/v1", "/ui", "/ui/{path}"}
    assert served == {(method, path) for method, path, _ in ROUTES} | {("GET", page) for page in pages}
    assert {path.split("/")[1] for _, path, _ in KEYED} == {*NOUNS, "models", "workers", "queues", "session", "stream"}


def test_the_reference_page_loads_nothing_from_other_servers(server: TestClient) -> None:
    page = server.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert server.get(source).status_code == 200, source


def test_every_route_requires_a_key(ask: Ask) -> None:
    for method, path, _ in KEYED:
        for key in (None, f"tw_{DIGITS}_" + "A" * 43):
            assert problem(ask(method, path, key)) == (401, "unauthorized"), (method, path)


def test_the_wrong_scope_is_refused(ask: Ask, make_key: Callable[..., str]) -> None:
    keys = {scope: make_key("default", scope) for scope in ("read", "write")}
    for method, path, _ in KEYED:
        key = keys["write" if method == "GET" else "read"]
        assert problem(ask(method, path, key)) == (403, "forbidden"), (method, path)
    usual = make_key("default", "read", "write")
    for method, path in ADMIN_ROUTES:
        assert problem(ask(method, path, usual)) == (403, "forbidden"), (method, path)


@pytest.mark.parametrize("path", sorted(HEALTH))
def test_health_routes_require_no_key(server: TestClient, path: str) -> None:
    assert server.get(path).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE"])
def test_other_methods_are_refused(api: TestClient, method: str) -> None:
    assert problem(api.request(method, "/jobs")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/datasets", "GET, POST, PUT"),
        ("/webhooks/one", "GET, PATCH, DELETE"),
        ("/artifacts/one/content", "GET, HEAD"),
        ("/v1/files", "GET, POST"),
        ("/v1/models/org/one", "GET, DELETE"),
    ],
)
def test_a_refused_method_lists_the_allowed_ones(api: TestClient, path: str, allowed: str) -> None:
    """The list has the methods of all routes of the path, not only of the first."""
    answer = api.options(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_an_unknown_route_is_answered_with_a_problem(api: TestClient) -> None:
    assert problem(api.get("/nothing/here")) == (404, "not_found")


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/files/a%0Ab", "/v1/models/a%0Ab", "/v1/%0A", "/v1/fine_tuning/jobs/%0A%0D/pause"]
)
def test_every_error_under_v1_is_an_envelope(api: TestClient, path: str) -> None:
    """The framework ends a mounted path at a line break, so such a path could reach the native API's handler."""
    answer = api.get(path)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.fixture
def strangers_things(sessions: Sessions) -> None:
    """Add a resource of each kind to another project, with the ids that `fill_path` uses."""
    with transaction(sessions) as session:
        session.add(Project(id=f"proj-{DIGITS}", name="stranger"))
        session.flush()
        kept = {"name": "strange", "sha256": "0" * 64, "scopes": ["read"]}
        session.add(ApiKey(id=f"key-{DIGITS}", project_id=f"proj-{DIGITS}", **kept))
        add_one_of_each(session, f"proj-{DIGITS}")


def add_one_of_each(session: Session, project_id: str) -> None:
    bytes_ = {"storage_key": "nowhere", "size": 3, "sha256": "0" * 64}
    model = {"source": "/models/tiny", "revision": "1", "architecture": "LlamaForCausalLM", "num_parameters": 1}
    training = {"max_steps": 1, "learning_rate": 1e-4}
    spec = {"base_model": "tiny", "dataset_id": f"file-{DIGITS}", "method": "lora", "training": training}
    spec |= {"suffix": None, "integrations": []}
    job = {"state": "succeeded", "priority": 0, "base_model": "tiny", "method": "lora", "spec": spec}
    job |= {"metadata_": {}, "min_memory_gb": 0, "device": "auto"}
    ours = {"project_id": project_id}
    model |= {"state": "ready", "for_all_projects": False, "max_seq_len": 8, "linear_modules": [], "config": {}}
    session.add(RegisteredModel(id=f"model-{DIGITS}", name="tiny", **model))
    session.flush()
    session.add(ModelPermission(model_id=f"model-{DIGITS}", **ours))
    session.add(Dataset(id=f"file-{DIGITS}", filename="a.jsonl", state="ready", **bytes_, **ours))
    session.flush()
    for kind, asked in (("preview", BODIES["/datasets/{id}/previews"]), ("overlap", {})):
        check = {"kind": kind, "state": "pending", "asked": asked, "dataset_id": f"file-{DIGITS}"}
        other = f"file-{DIGITS}" if kind == "overlap" else None
        session.add(DatasetCheck(id=f"{kind}-{DIGITS}", other_dataset_id=other, **check, **ours))
    session.add(Job(id=f"ftjob-{DIGITS}", **job, **ours))
    hook = {"url": "http://192.0.2.1", "events": [], "enabled": True, "secret": "whsec_AAAA"}
    session.add(Webhook(id=f"webhook-{DIGITS}", **hook, **ours))
    session.flush()
    values = {"event_id": f"evt-{DIGITS}", "type": "webhook.test", "body": "{}", "state": "failed"}
    values |= {"webhook_id": f"webhook-{DIGITS}", "give_up_at": datetime.now(UTC)}
    session.add(WebhookDelivery(id=f"delivery-{DIGITS}", **values, **ours))
    expires_at = datetime.now(UTC) + timedelta(days=1)
    session.add(Upload(id=f"upload_{DIGITS}", filename="a", size=3, state="pending", expires_at=expires_at, **ours))
    session.flush()
    where = {"job_id": f"ftjob-{DIGITS}"} | ours
    session.add(Adapter(id=f"adp-{DIGITS}", name="a", base_model="tiny", manifest=MANIFEST, **where))
    session.flush()
    archive = {"path": "adapter.tar", "key": "nowhere", "size": 3, "sha256": "0" * 64}
    origin = {"base_model_revision": "1", "machine_fingerprint": "0"}
    session.add(Checkpoint(id=f"ftckpt_{DIGITS}", attempt=1, step=1, files=[archive], **origin, **where))
    where |= {"adapter_id": f"adp-{DIGITS}", "attempt": 1} | bytes_
    session.add(Artifact(id=f"art-{DIGITS}", kind="adapter", path="adapter_model.safetensors", **where))
    session.add(Artifact(id="art-" + "0" * 24, kind="adapter_archive", path="adapter.tar", **where))


def test_another_projects_resources_are_not_found(
    ask: Ask, make_key: Callable[..., str], strangers_things: None
) -> None:
    with_id = [(method, path) for method, path, _ in KEYED if "{" in path and (method, path) not in ADMIN_ROUTES]
    key, owner_key = make_key("default"), make_key("stranger")
    for method, path in with_id:
        noun = path.split("/")[1].removesuffix("s")
        assert problem(ask(method, path, key)) == (404, f"{noun}_not_found"), (method, path)
    # The owner finds them all, which shows that the ids exist. Deletions come last.
    for method, path in sorted(with_id, key=lambda route: (route[0] == "DELETE", route)):
        answer = ask(method, path, owner_key)
        known = 400 <= answer.status_code < 500 and answer.json()["code"] in OWNER_ERRORS
        assert answer.status_code < 300 or known, (method, path)


def test_an_admins_key_reaches_all_projects(ask: Ask, make_key: Callable[..., str], strangers_things: None) -> None:
    """Only the routes that serve all projects do this."""
    admin = make_key("default", *ADMIN)
    for method, path, _ in KEYED:
        if "{" in path and path.split("/")[1] not in ("models", "projects", "keys"):
            assert ask(method, path, admin).status_code == 404, (method, path)
    assert ask("GET", "/models/{name}", admin).status_code == 200
    for method, path in ADMIN_ROUTES:
        assert ask(method, path, admin).status_code < 300, (method, path)


def test_every_download_answers_head(ask: Ask, make_key: Callable[..., str], strangers_things: None) -> None:
    """The status is that of GET, whose bytes are not in storage here. Event streams have no end and are left out."""
    key = make_key("stranger")
    content_types = {"application/json", "text/event-stream"}
    downloads = [
        path
        for method, path, operation in KEYED
        if method == "GET" and not content_types & operation["responses"]["200"]["content"].keys()
    ]
    assert {"/datasets/{id}/content", "/jobs/{id}/metrics.csv", "/jobs/{id}/logs"} <= set(downloads)
    for path in downloads:
        answer = ask("HEAD", path, key)
        assert answer.status_code == ask("GET", path, key).status_code, path
        assert not answer.content
    assert ask("HEAD", f"/v1/files/file-{DIGITS}/content", key).status_code == 404


def test_an_unknown_query_parameter_is_refused(ask: Ask, make_key: Callable[..., str]) -> None:
    """Every route refuses it before it does anything, and suggests the closest parameter that it has."""
    key = make_key("default", *ADMIN)
    for method, path, operation in KEYED:
        parameters = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        for name in ("colour", *(each[:-1] for each in parameters)):
            answer = ask(method, path, key, **{name: "1"})
            assert problem(answer) == (422, "invalid_request"), (method, path, name)
            (error,) = answer.json()["errors"]
            assert (error["pointer"], error["code"]) == (f"/query/{name}", "unknown_parameter")
            meant = f"did you mean {find_name(name, parameters)!r}?" if name != "colour" else "remove it."
            assert error["message"] == f"Unknown query parameter {name!r}; {meant}"
    for page in (*HEALTH, "/docs", "/openapi.json", "/ui/jobs"):
        assert ask("GET", page, None, colour="1").status_code == 200, page


def find_name(cut: str, parameters: list[str]) -> str:
    return next(name for name in parameters if name[:-1] == cut)


def test_lists_contain_only_the_callers_resources(
    ask: Ask, make_key: Callable[..., str], strangers_things: None
) -> None:
    key, owner_key = make_key("default"), make_key("stranger")
    lists = {path for method, path, _ in KEYED if method == "GET" and "{" not in path}
    lists -= {"/projects", "/keys", "/session", "/stream"}
    for path in lists - ACROSS_PROJECTS:
        assert ask("GET", path, key).json()["items"] == [], path
        assert len(ask("GET", path, owner_key).json()["items"]) == 1, path


@pytest.mark.parametrize(("method", "path", "operation"), ROUTES, ids=str_of)
def test_every_route_is_described(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]


@pytest.mark.parametrize(("method", "path", "operation"), KEYED, ids=str_of)
def test_every_route_documents_its_errors(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    expected = {"401", "403", "422"}
    expected |= {"404"} if "{" in path else set()
    expected |= {"400"} if names & {"cursor", "last-event-id"} else set()
    expected |= {"413", "415"} if "requestBody" in operation else set()
    assert expected <= responses.keys()
    for status, response in responses.items():
        if status >= "400":
            assert response["description"]
            assert response["content"]["application/problem+json"]["schema"] == {
                "$ref": "#/components/schemas/ProblemDetails"
            }


def test_every_reference_leads_to_a_schema() -> None:
    names = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(OPENAPI)))
    assert names == {f"components/schemas/{name}" for name in OPENAPI["components"]["schemas"]} & names
    assert "components/schemas/DatasetOut" in names


def test_every_route_documents_that_it_requires_a_key() -> None:
    keyed = [route[:2] for route in KEYED]
    for method, path, operation in ROUTES:
        expected = [{"HTTPBearer": []}] if (method, path) in keyed else None
        assert operation.get("security") == expected, (method, path)
