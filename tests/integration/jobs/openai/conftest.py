"""Fixtures for OpenAI's client and the real services; the jobs are not trained."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.fixtures.openai_client import openai_client


@pytest.fixture
def key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key()


@pytest.fixture
def sdk(live_server: str, key: str) -> Iterator[OpenAI]:
    with openai_client(live_server, key) as client:
        yield client


@pytest.fixture
def create(sdk: OpenAI, base_model: str, make_dataset: Callable[..., str]) -> Callable[..., Any]:
    file_id = make_dataset()

    def create(**fields: Any) -> Any:
        return sdk.fine_tuning.jobs.create(**{"model": base_model, "training_file": file_id} | fields)

    return create


def as_json(part: Any) -> Any:
    return part.model_dump(exclude_none=True)
