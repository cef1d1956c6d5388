"""A session cookie authenticates only requests of the server's own pages."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import State

from app.main import create_app
from app.openai.app import create_face
from app.settings import Settings
from tests.integration.sessions.conftest import Cookie, SignIn, origin_of, refusal
from tests.integration.test_routes import BODIES, HEALTH, fill_path

MISMATCH = (403, "origin_mismatch")


def operations(document: Any) -> Iterator[tuple[str, str]]:
    for path, found in document["paths"].items():
        yield from ((method.upper(), path) for method in found)


NATIVE = [route for route in operations(create_app(Settings()).openapi()) if route[1] not in HEALTH]
WRITES = [route for route in NATIVE if route[0] != "GET"]
READS = [route for route in NATIVE if route[0] == "GET"]
OPENAI = list(operations(create_face(State()).openapi()))
FOREIGN = (
    *("http://testserver:8400", "https://testserver", "http://evil.example", "http://testserver.evil.example", "null"),
    *("", "testserver", "http://testserver/", "http://user@testserver", "http://testserver, http://testserver"),
)
OWN = ("http://testserver", "HTTP://TestServer", "http://testserver:80")


@pytest.fixture
def cookie(sign_in: SignIn, admin_key: str) -> Cookie:
    return sign_in(admin_key)


def send(server: TestClient, method: str, path: str, headers: dict[str, str]) -> Any:
    return server.request(method, fill_path(path), headers=headers, json=BODIES.get(path))


def test_every_write_needs_the_servers_origin(server: TestClient, cookie: Cookie) -> None:
    assert {method for method, _ in WRITES} == {"POST", "PUT", "PATCH", "DELETE"}
    for method, path in WRITES:
        for foreign in ({}, {"Origin": "http://evil.example"}):
            assert refusal(send(server, method, path, cookie.header | foreign)) == MISMATCH, (method, path)
    # The same requests of the server's own page get further. Signing out comes last.
    for method, path in sorted(WRITES, key=lambda route: (route == ("DELETE", "/session"), route)):
        answer = send(server, method, path, cookie.header | origin_of(server))
        assert answer.status_code not in (401, 403), (method, path, answer.text)


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_is_refused(server: TestClient, cookie: Cookie, origin: str) -> None:
    for method, path in (("DELETE", "/jobs/ftjob-1"), ("GET", "/jobs"), ("DELETE", "/session")):
        answer = server.request(method, path, headers=cookie.header | {"Origin": origin})
        assert refusal(answer) == MISMATCH, method
    assert server.get("/jobs", headers=cookie.header).status_code == 200


@pytest.mark.parametrize("origin", OWN)
def test_the_servers_origin_is_accepted_in_every_spelling(server: TestClient, cookie: Cookie, origin: str) -> None:
    for method, path, status in (("GET", "/jobs", 200), ("DELETE", "/jobs/ftjob-1", 404)):
        answer = server.request(method, path, headers=cookie.header | {"Origin": origin})
        assert answer.status_code == status, method


@pytest.mark.parametrize(
    ("url", "host", "origin", "is_own"),
    [
        ("http://testserver", "name.lan:8080", "http://NAME.lan:8080", True),
        ("http://testserver", "name.lan:80", "http://name.lan", True),
        ("http://testserver", "name.lan:8080", "http://name.lan", False),
        ("http://testserver", "[::1]:8400", "http://[::1]:8400", True),
        ("https://testserver", "name.lan", "https://name.lan:443", True),
        ("https://testserver", "name.lan:443", "https://name.lan", True),
        ("https://testserver", "name.lan", "http://name.lan", False),
        ("http://testserver", "", "http://", False),
        ("http://testserver", "a b", "http://a b", False),
    ],
)
def test_scheme_host_and_port_are_compared(
    server: TestClient, cookie: Cookie, url: str, host: str, origin: str, is_own: bool
) -> None:
    headers = cookie.header | {"Host": host, "Origin": origin}
    assert (server.delete(f"{url}/jobs/ftjob-1", headers=headers).status_code == 404) is is_own


def test_the_refusal_says_what_was_expected(server: TestClient, cookie: Cookie) -> None:
    """Behind a proxy with TLS that passes on too little, it says what to set."""
    answer = server.delete("/jobs/ftjob-1", headers=cookie.header | {"Origin": "https://testserver"})
    for expected in ("'https://testserver'", "'http://testserver'", "X-Forwarded-Proto", "FORWARDED_ALLOW_IPS"):
        assert expected in answer.json()["detail"]
    assert "Origin is missing" in server.delete("/jobs/ftjob-1", headers=cookie.header).json()["detail"]


def test_every_read_refuses_other_sites(server: TestClient, cookie: Cookie) -> None:
    for method, path in READS:
        for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            assert refusal(send(server, method, path, cookie.header | foreign)) == MISMATCH, path


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("none", 403), ("same-origin", 200), (None, 200)]
)
def test_a_read_must_come_from_the_servers_page_if_the_browser_says_where_from(
    server: TestClient, cookie: Cookie, site: str | None, status: int
) -> None:
    headers = cookie.header | ({"Sec-Fetch-Site": site} if site else {})
    for method in ("GET", "HEAD"):
        path = "/jobs" if method == "GET" else "/datasets/file-1/content"
        expected = 404 if (method, status) == ("HEAD", 200) else status
        assert server.request(method, path, headers=headers).status_code == expected


def test_signing_in_needs_the_servers_origin(server: TestClient, key: str) -> None:
    """Otherwise another site could sign a browser in with a key of its own."""
    for headers in ({}, {"Origin": "http://evil.example"}, {"Authorization": f"Bearer {key}"}):
        answer = server.post("/session", json={"key": key}, headers=headers)
        assert refusal(answer) == MISMATCH
        assert "set-cookie" not in answer.headers


def test_a_request_with_a_key_needs_no_origin(server: TestClient, key: str, cookie: Cookie) -> None:
    sent = cookie.header | {"Authorization": f"Bearer {key}"}
    for foreign in ({}, {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}):
        assert server.get("/jobs", headers=sent | foreign).status_code == 200
        assert server.delete("/jobs/ftjob-1", headers=sent | foreign).status_code == 404


def test_v1_accepts_no_cookie(server: TestClient, cookie: Cookie) -> None:
    assert len(OPENAI) > 20
    for method, path in OPENAI:
        filled = "/v1" + path.replace("{", "").replace("}", "").replace(":path", "")
        answer = server.request(method, filled, headers=cookie.header | origin_of(server))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized"), (method, path)


def test_no_other_origin_is_allowed_to_read(server: TestClient, cookie: Cookie) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        for headers in (asked, asked | cookie.header):
            answer = server.request(method, "/jobs", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_unknown_parameters_are_refused(server: TestClient, key: str, cookie: Cookie) -> None:
    for method, headers in (("POST", {}), ("GET", cookie.header), ("DELETE", cookie.header)):
        body = {"key": key} if method == "POST" else None
        answer = server.request(method, "/session?colour=1", json=body, headers=headers | origin_of(server))
        assert refusal(answer) == (422, "invalid_request")
        assert answer.json()["errors"][0]["code"] == "unknown_parameter"
