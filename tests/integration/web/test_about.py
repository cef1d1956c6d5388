"""Tests `/`, which describes the server to programs and to browsers."""

import re
from importlib.metadata import version

from fastapi.testclient import TestClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_a_program_gets_the_links(server: TestClient) -> None:
    server.headers.pop("Authorization", None)
    answer = server.get("/")
    body = answer.json()
    assert (answer.status_code, body["name"], body["version"]) == (200, "Tunewright", version("tunewright"))
    assert {"docs", "openapi", "openai", "openai_docs", "healthz", "readyz"} <= body["links"].keys()
    for name, path in body["links"].items():
        assert name == "openai" or server.get(path).status_code == 200, path
    assert server.get("/v1/models").json()["error"]["code"] == "unauthorized"


def test_a_browser_is_shown_a_page_that_loads_nothing(server: TestClient) -> None:
    answer = server.get("/", headers={"Accept": BROWSER})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    links = re.findall(r'href="([^"]+)"', answer.text)
    assert len(links) >= 5
    assert all(server.get(link).status_code == 200 for link in links)
    assert not re.search(r"<script|<link|<img|style=", answer.text)
