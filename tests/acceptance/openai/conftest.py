"""OpenAI's own client against the stack. Every answer is held to OpenAI's models: `tests/fixtures/openai_client.py`."""

from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.conftest import Stack
from tests.fixtures.openai_client import async_openai_client, openai_client


@pytest.fixture
def api_key(stack: Stack) -> str:
    return (stack.data / "api_key").read_text().strip()


@pytest.fixture
def sdk(stack: Stack, api_key: str) -> Iterator[OpenAI]:
    with openai_client(stack.reach["url"], api_key) as client:
        yield client


@pytest.fixture
def async_sdk(stack: Stack, api_key: str) -> AsyncOpenAI:
    """To be used, and closed, within one event loop: `async with async_sdk`."""
    return async_openai_client(stack.reach["url"], api_key)
