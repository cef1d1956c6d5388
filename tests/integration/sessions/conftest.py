"""Fixtures for a browser that has signed in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from app.domain.caller import ADMIN


class Cookie(NamedTuple):
    name: str
    token: str
    attributes: dict[str, str]

    @property
    def header(self) -> dict[str, str]:
        return {"Cookie": f"{self.name}={self.token}"}


SignIn = Callable[..., Cookie]


def read_cookie(answer: Any) -> Cookie:
    """Return the only cookie that the answer sets, with its attributes in small letters."""
    [text] = answer.headers.get_list("set-cookie")
    pair, *others = text.split("; ")
    name, _, token = pair.partition("=")
    attributes = {key.lower(): value for key, _, value in (each.partition("=") for each in others)}
    return Cookie(name, token, attributes)


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def origin_of(client: Any) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


@pytest.fixture
def key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key()


@pytest.fixture
def admin_key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key("default", *ADMIN)


@pytest.fixture
def sign_in(server: TestClient, key: str) -> SignIn:
    """Sign in with a key, by default that of the fixture `key`. The client itself keeps no cookie."""

    def sign_in(of: str = key) -> Cookie:
        answer = server.post("/session", json={"key": of}, headers=origin_of(server))
        assert answer.status_code == 201, answer.text
        server.cookies.clear()
        return read_cookie(answer)

    return sign_in
