"""Looks up names, some of which no name server answers for."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.webhooks.errors import TooManyLookups
from app.webhooks.lookups import Lookups
from app.webhooks.target import BadTarget

ADDRESS = "192.0.2.7"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Yield an event. Look-ups of names that begin with `stuck` wait for it; `none` has no address."""
    answer = threading.Event()

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        if host.startswith("stuck"):
            answer.wait(60)
        if host == "none":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESS, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answer
    answer.set()


def look_up_stuck_name(lookups: Lookups, project_id: str) -> None:
    with pytest.raises(BadTarget) as caught:
        lookups.look_up(project_id, "stuck.example.com", 0.01)
    assert caught.value.code == "host_timeout"
    assert str(caught.value).startswith("Resolving stuck.example.com timed out after 0.01 s")


def test_a_name_is_looked_up(answer: threading.Event) -> None:
    lookups = Lookups(1, 1)
    for _ in range(3):
        assert [str(each) for each in lookups.look_up("a", "good", 5)] == [ADDRESS]
        with pytest.raises(BadTarget) as caught:
            lookups.look_up("a", "none", 5)
        assert caught.value.code == "host_not_found"


def test_a_look_up_keeps_its_place_until_it_ends(answer: threading.Event) -> None:
    lookups = Lookups(8, 2)
    for _ in range(2):
        look_up_stuck_name(lookups, "a")
    began = time.monotonic()
    with pytest.raises(TooManyLookups):
        lookups.look_up("a", "good", 5)
    assert time.monotonic() - began < 1, "a look-up must not wait for a place"
    assert lookups.look_up("b", "good", 5)
    answer.set()
    until = time.monotonic() + 5
    while True:
        try:
            assert lookups.look_up("a", "good", 5)
            break
        except TooManyLookups:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_all_projects_share_the_places(answer: threading.Event) -> None:
    lookups = Lookups(4, 2)
    for project_id in ("a", "a", "b", "b"):
        look_up_stuck_name(lookups, project_id)
    with pytest.raises(TooManyLookups):
        lookups.look_up("c", "good", 5)
