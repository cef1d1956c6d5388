"""Tests `/`, which describes the server to programs; browsers get the page."""

from importlib.metadata import version

from fastapi.testclient import TestClient


def test_a_program_gets_the_links(server: TestClient) -> None:
    server.headers.pop("Authorization", None)
    answer = server.get("/")
    body = answer.json()
    assert answer.headers["vary"] == "Accept"
    assert (answer.status_code, body["name"], body["version"]) == (200, "Tunewright", version("tunewright"))
    assert {"docs", "openapi", "openai", "openai_docs", "healthz", "readyz"} <= body["links"].keys()
    for name, path in body["links"].items():
        assert name == "openai" or server.get(path).status_code == 200, path
    assert server.get("/v1/models").json()["error"]["code"] == "unauthorized"
