"""Checks the OpenAPI documents of both faces."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.datastructures import State

from app.main import create_app
from app.openai.app import create_face
from app.settings import Settings


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


@pytest.mark.parametrize("face", ["native", "openai"])
def test_every_reference_resolves(face: str) -> None:
    """The body of a fine-tuning job once referred to schemas that the document lacked, and to an answer's schema."""
    app = create_app(Settings()) if face == "native" else create_face(State())
    document: Any = app.openapi()
    found = set(references(document))
    assert found
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]
    assert "$defs" not in str(document)


def test_repeated_parameters_are_arrays_only() -> None:
    """A query string cannot express null."""
    paths = create_app(Settings()).openapi()["paths"]
    for path, name in (("/jobs", "state"), ("/jobs/{id}/metrics", "names"), ("/jobs/{id}/metrics.csv", "names")):
        (parameter,) = [each for each in paths[path]["get"]["parameters"] if each["name"] == name]
        assert parameter["schema"]["type"] == "array", path
        assert not parameter["required"]
