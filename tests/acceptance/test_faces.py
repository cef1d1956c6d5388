"""Tests both faces of the API against their OpenAPI documents for a few seconds; `make fuzz` does it at length."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT, Stack
from tests.fixtures.receiver import Receiver
from tests.fuzz.faces import FACES, Effort, Face, Server, check_face
from tests.fuzz.supply import Supply, cancel_all, make_supply


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[Server]:
    """Return the stack's address and the key of a separate project, whose jobs are cancelled after the tests."""
    outputs = [
        subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=stack.environment(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for command in (["app.projects", "create", "faces"], ["app.keys", "create", "--project", "faces"])
    ]
    server = Server(stack.server["url"], outputs[-1].strip())
    yield server
    with server.connect() as http:
        cancel_all(http)


@pytest.fixture(scope="module")
def supply(server: Server) -> Iterator[Supply]:
    with Receiver().serving() as receiver, server.connect() as http:
        yield make_supply(http, receiver.url, num=1, num_disposable=0)


@pytest.mark.parametrize("face", FACES, ids=[face.name for face in FACES])
def test_a_face_answers_as_its_document_describes(face: Face, server: Server, supply: Supply, tmp_path: Path) -> None:
    found = check_face(server, face, supply, tmp_path, Effort(examples=1, seconds=6, phases=("fuzzing",)), seed=1)
    assert found["exit"] == 0, "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert found["cases"] > found["operations"]
    assert found["statuses"]["200"] > 10
    assert found["transitions"] > 0
