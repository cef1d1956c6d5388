"""Tests jobs with OpenAI's asynchronous client: pausing, resuming, cancelling, and results."""

import asyncio
import hashlib
import time
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.acceptance.openai.conftest import ENDED, chats
from tunewright import Client

STEPS = 1000


def test_a_job_is_paused_while_another_is_cancelled_and_succeeds(async_sdk: AsyncOpenAI, client: Client) -> None:
    asyncio.run(run_jobs(async_sdk, client))


async def run_jobs(async_sdk: AsyncOpenAI, client: Client) -> None:
    async with async_sdk as sdk:
        jobs = sdk.fine_tuning.jobs
        file_id = await upload(sdk)
        job = await create(sdk, file_id, STEPS)
        await wait_for_status(sdk, job.id, "running")
        await wait_for_metrics(sdk, job.id)
        assert (await jobs.pause(job.id)).status in ("pausing", "paused")
        await wait_for_status(sdk, job.id, "paused")
        other = await create(sdk, file_id, 100_000)
        await wait_for_status(sdk, other.id, "running")
        with pytest.raises(openai.ConflictError) as in_use:
            await sdk.files.delete(file_id)
        assert (in_use.value.code, in_use.value.param) == ("dataset_in_use", "file_id")
        assert (await jobs.cancel(other.id)).status == "cancelled"
        assert (await jobs.resume(job.id)).status == "queued"
        done = await wait_for_status(sdk, job.id, "succeeded")
        assert client.wait(other.id).state == "cancelled"
        assert client.get_job(job.id).attempt == 2
        assert [each.id async for each in jobs.list(limit=1, metadata={"kind": "async"})] == [other.id, job.id]

        await check_events_and_checkpoints(sdk, done)
        await check_results(sdk, client, done)
        await delete_model_and_files(sdk, done)


async def upload(sdk: AsyncOpenAI) -> str:
    sent = await sdk.files.create(file=("tickets.jsonl", chats()), purpose="fine-tune")
    processed = await sdk.files.wait_for_processing(sent.id, poll_interval=0.1)
    assert processed.status == "processed", processed.status_details
    return sent.id


async def create(sdk: AsyncOpenAI, file_id: str, steps: int) -> Any:
    training = {"max_steps": steps, "save_every": 100}
    return await sdk.fine_tuning.jobs.create(
        model="tiny",
        training_file=file_id,
        metadata={"kind": "async"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 1}}},
        extra_body={"tunewright": {"method": "lora", "training": training}},
    )


async def wait_for_status(sdk: AsyncOpenAI, job_id: str, status: str) -> Any:
    end = time.monotonic() + 90
    while (job := await sdk.fine_tuning.jobs.retrieve(job_id)).status != status:
        assert job.status not in ENDED, job
        assert time.monotonic() < end, job
        await asyncio.sleep(0.05)
    return job


async def wait_for_metrics(sdk: AsyncOpenAI, job_id: str) -> None:
    end = time.monotonic() + 90
    while not any(event.type == "metrics" for event in (await sdk.fine_tuning.jobs.list_events(job_id)).data):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def check_events_and_checkpoints(sdk: AsyncOpenAI, job: Any) -> None:
    events = [event async for event in sdk.fine_tuning.jobs.list_events(job.id, limit=100)]
    measured = {event.data["step"] for event in events if event.type == "metrics"}
    assert measured == set(range(1, STEPS + 1))
    types = [event.data["event"] for event in events if event.type == "message"]
    assert {"job_created", "pause_requested", "job_paused", "job_resumed", "job_succeeded"} <= set(types)
    checkpoints = [each async for each in sdk.fine_tuning.jobs.checkpoints.list(job.id, limit=1)]
    assert max(each.step_number for each in checkpoints) >= 200
    assert all(each.fine_tuning_job_id == job.id for each in checkpoints)


async def check_results(sdk: AsyncOpenAI, client: Client, job: Any) -> None:
    artifacts = {artifact.id: artifact for artifact in client.artifacts(job.id)}
    for id in job.result_files:
        digest = hashlib.sha256()
        async with sdk.files.with_streaming_response.content(id) as body:
            async for chunk in body.iter_bytes():
                digest.update(chunk)
        assert digest.hexdigest() == artifacts[id].sha256


async def delete_model_and_files(sdk: AsyncOpenAI, job: Any) -> None:
    """Delete the model and the training file. The adapter's archive is deleted with the model."""
    assert (await sdk.models.retrieve(job.fine_tuned_model)).id == job.fine_tuned_model
    assert (await sdk.models.delete(job.fine_tuned_model)).deleted
    assert (await sdk.files.delete(job.training_file)).deleted
    for id in (job.training_file, job.result_files[1]):
        with pytest.raises(openai.NotFoundError) as not_found:
            await sdk.files.retrieve(id)
        assert (not_found.value.code, not_found.value.param) == ("file_not_found", "file_id")
    with pytest.raises(openai.NotFoundError) as not_found:
        await sdk.models.retrieve(job.fine_tuned_model)
    assert not_found.value.code == "model_not_found"
