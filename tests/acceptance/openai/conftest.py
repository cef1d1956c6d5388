"""Provides OpenAI's own client. `tests/fixtures/openai_client.py` checks each answer against OpenAI's models."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.conftest import Stack
from tests.fixtures.openai_client import async_openai_client, openai_client

AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
ENDED = ("succeeded", "failed", "cancelled")
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="session")
def api_key(stack: Stack) -> str:
    return (stack.data / "api_key").read_text().strip()


@pytest.fixture(scope="session")
def sdk(stack: Stack, api_key: str) -> Iterator[OpenAI]:
    with openai_client(stack.server["url"], api_key) as client:
        yield client


@pytest.fixture
def async_sdk(stack: Stack, api_key: str) -> AsyncOpenAI:
    """Create a client to be used and closed in one event loop: `async with async_sdk`."""
    return async_openai_client(stack.server["url"], api_key)


@pytest.fixture(scope="session")
def wait(sdk: OpenAI) -> Callable[..., Any]:
    """Return a function that waits until a job has one of the statuses, and returns the job."""

    def wait(job_id: str, *statuses: str) -> Any:
        wanted, until = statuses or ("succeeded",), time.monotonic() + 90
        while (job := sdk.fine_tuning.jobs.retrieve(job_id)).status not in wanted:
            assert job.status not in ENDED, job
            assert time.monotonic() < until, job
            time.sleep(0.1)
        return job

    return wait


@pytest.fixture(scope="session")
def trained(sdk: OpenAI, wait: Callable[..., Any]) -> Any:
    """Return a job that has succeeded. Every third step was evaluated and saved."""
    job = sdk.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload(sdk, chats()),
        validation_file=upload(sdk, chats(6), "held back.jsonl"),
        suffix="colours",
        seed=7,
        metadata={"team": "colours"},
        method={"type": "supervised", "supervised": {"hyperparameters": AUTO}},
        extra_body={"tunewright": {"method": "lora", "training": {"save_every": 3, "eval_every": 3}}},
    )
    assert job.status in ("validating_files", "queued", "running")
    return wait(job.id)


def chats(num_rows: int = 24) -> bytes:
    """Return a file of conversations in OpenAI's format."""
    return _lines(
        {
            "messages": [
                {"role": "user", "content": f"What colour is ticket {number}?"},
                {"role": "assistant", "content": COLOURS[number % 3]},
            ]
        }
        for number in range(num_rows)
    )


def preferences(num_rows: int = 12) -> bytes:
    return _lines(
        {
            "input": {"messages": [{"role": "user", "content": f"What colour is ticket {number}?"}]},
            "preferred_output": [{"role": "assistant", "content": COLOURS[number % 3]}],
            "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
        }
        for number in range(num_rows)
    )


def _lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(sdk: OpenAI, content: bytes, name: str = "tickets.jsonl") -> str:
    """Upload a file and wait until it is processed; return its id."""
    sent = sdk.files.create(file=(name, content), purpose="fine-tune")
    processed = sdk.files.wait_for_processing(sent.id, poll_interval=0.1)
    assert processed.status == "processed", processed.status_details
    return sent.id
