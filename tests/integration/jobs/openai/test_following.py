"""Jobs followed with OpenAI's client: states, pages, events, checkpoints."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import text, update

from app.db.session import Sessions, transaction
from app.db.tables import Dataset
from app.domain.events.job_events import WarningIssued
from app.domain.hardware import machine_fingerprint
from app.domain.jobs.state import FailureReason
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from tests.fixtures.openai_client import async_openai_client
from tests.integration.jobs.openai.conftest import as_json

Take = Callable[..., Claim]


def test_states_as_openai_names_them(
    create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions, project_id: str
) -> None:
    jobs = sdk.fine_tuning.jobs
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(state="inspecting"))
    job = create()
    assert job.status == "validating_files"
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(state="ready"))
    assert jobs.retrieve(job.id).status == "queued"
    assert jobs.pause(job.id).status == "paused"
    asked: list[httpx2.Response] = []
    sdk._client.event_hooks["response"].append(asked.append)
    with pytest.raises(openai.ConflictError) as caught:
        jobs.pause(job.id)
    assert (caught.value.code, caught.value.param) == ("job_already_paused", "fine_tuning_job_id")
    assert [each.headers["x-should-retry"] for each in asked] == ["false"]
    assert jobs.resume(job.id).status == "queued"
    held = claim()
    assert jobs.retrieve(job.id).status == "running"
    assert jobs.pause(job.id).status == "pausing"
    assert jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.ConflictError) as caught:
        jobs.resume(job.id)
    assert caught.value.code == "job_not_paused"
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    held = claim()
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retrieve(job.id).finished_at is None, "its process has not ended yet"
    with pytest.raises(openai.ConflictError) as caught:
        jobs.cancel(job.id)
    assert caught.value.code == "job_already_cancelling"
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    assert jobs.retrieve(job.id).finished_at is not None
    with pytest.raises(openai.ConflictError) as caught:
        jobs.cancel(job.id)
    assert caught.value.code == "job_finished"

    failing = create()
    with transaction(sessions) as session:
        AttemptService(session, claim()).fail(FailureReason.no_labelled_tokens, "Nothing to learn from.")
    failed = jobs.retrieve(failing.id)
    assert failed.status == "failed"
    assert as_json(failed.error) == {
        "code": "no_labelled_tokens",
        "message": "Nothing to learn from.",
        "param": "training_file",
    }
    assert failed.fine_tuned_model is None


def test_more_than_a_hundred_jobs_are_listed_page_by_page(
    sdk: OpenAI,
    sessions: Sessions,
    project_id: str,
    make_spec: Callable[..., dict[str, Any]],
    live_server: str,
    key: str,
) -> None:
    with transaction(sessions) as session:
        spec = make_spec()
        made = [
            JobService(session).submit(project_id, spec | ({"metadata": {"third": str(n % 3)}} if n % 2 else {})).id
            for n in range(105)
        ]
    newest = made[::-1]
    jobs = sdk.fine_tuning.jobs
    assert [job.id for job in jobs.list()] == newest
    assert [job.id for job in jobs.list(limit=100)] == newest
    page = jobs.list(limit=7, after=newest[20])
    assert ([job.id for job in page.data], page.has_more) == (newest[21:28], True)
    filtered = [id for n, id in enumerate(made) if n % 2 and n % 3 == 1][::-1]
    assert [job.id for job in jobs.list(metadata={"third": "1"}, limit=5)] == filtered
    plain = [id for n, id in enumerate(made) if n % 2 == 0][::-1]
    assert [job.id for job in jobs.list(extra_query={"metadata": "null"})] == plain
    with pytest.raises(openai.BadRequestError) as caught:
        jobs.list(after="ftjob-" + "0" * 24)
    assert (caught.value.param, caught.value.code) == ("after", "job_not_found")

    async def listed() -> list[str]:
        async with async_openai_client(live_server, key) as client:
            return [job.id async for job in client.fine_tuning.jobs.list(limit=50)]

    assert asyncio.run(listed()) == newest


def measure(sessions: Sessions, claim: Claim, first: int, last: int) -> None:
    """Store points of a worker whose clock is an hour ahead."""
    with transaction(sessions) as session:
        session.execute(
            text(
                "INSERT INTO metric_values (project_id, job_id, attempt, number, step, measured_at, name, value) "
                "SELECT :project, :job, :attempt, n, n, clock_timestamp() + interval '1 hour', 'loss', 1.0 / n "
                "FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n"
            ),
            {"project": claim.project_id, "job": claim.job_id, "attempt": claim.attempt, "first": first, "last": last},
        )


def test_events_and_metrics_are_listed_together_in_order(
    create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions
) -> None:
    """The newest come first, pages of any size give the same list, and later entries do not move earlier ones."""
    job = create()
    for attempt in (1, 2):
        held = claim()
        measure(sessions, held, 1, 12)
        with transaction(sessions) as session:
            session.execute(
                text(
                    "UPDATE metric_values SET measured_at = clock_timestamp() WHERE number <= 6 AND attempt = :attempt"
                ),
                {"attempt": attempt},
            )
        with transaction(sessions) as session:
            AttemptService(session, held).append_event(
                WarningIssued(code="odd", detail=f"In the midst of attempt {attempt}.")
            )
        with transaction(sessions) as session:
            AttemptService(session, held).release()
    events = sdk.fine_tuning.jobs.list_events
    whole = list(events(job.id, limit=100))
    assert len(whole) == 24 + 7
    ids = [event.id for event in whole]
    assert len(set(ids)) == len(ids)
    for limit in (1, 2, 3, 5, 20):
        assert [event.id for event in events(job.id, limit=limit)] == ids, limit
    texts = [event.message for event in reversed(whole)]
    assert texts[0].startswith("The job was created")
    claimed = [n for n, each in enumerate(texts) if "claimed the job" in each]
    odd = [n for n, each in enumerate(texts) if each.startswith("In the midst")]
    steps = [n for n, each in enumerate(texts) if each.startswith("Step ")]
    assert all(claimed[0] < n < claimed[1] for n in steps[:12]), (
        "an attempt's points are between its claim and the next"
    )
    assert all(n > claimed[1] for n in steps[12:])
    assert [n for n in steps[:12] if n < odd[0]] == steps[:6]
    point = next(event for event in whole if event.type == "metrics")
    assert (point.message, point.level) == ("Step 12: training loss=0.0833", "info")
    assert point.data["train_loss"] == pytest.approx(1 / 12)
    assert next(event for event in whole if event.message.startswith("In the")).data["event"] == "warning_issued"
    held = claim()
    measure(sessions, held, 1, 3)
    assert [event.id for event in events(job.id, limit=6)][-len(ids) :] == ids
    for nonsense in ("ftevent-1", ids[0].replace(ids[0][8:32], "0" * 24), "-".join(ids[0].split("-")[:2]) + "-999"):
        with pytest.raises(openai.BadRequestError) as caught:
            events(job.id, after=nonsense)
        assert (caught.value.param, caught.value.code) == ("after", "event_not_found")


def test_checkpoints_are_listed_with_their_names_and_metrics(
    create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions
) -> None:
    job = create(suffix="own", extra_body={"tunewright": {"training": {"keep_checkpoints": 15}}})
    listed = sdk.fine_tuning.jobs.checkpoints.list
    empty = listed(job.id)
    assert (empty.data, empty.first_id, empty.last_id, empty.has_more) == ([], None, None, False)
    held = claim()
    measure(sessions, held, 1, 12)
    for step in range(1, 13):
        with transaction(sessions) as session:
            AttemptService(session, held).save_checkpoint(step, [], "1" * 64, machine_fingerprint({}))
    page = listed(job.id)
    assert [each.step_number for each in page.data] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]
    assert page.has_more
    whole = list(listed(job.id, limit=5))
    assert [each.step_number for each in whole] == list(range(12, 0, -1))
    assert whole[0].fine_tuned_model_checkpoint == f"ft:tiny:own:{job.id[-8:]}:ckpt-step-12"
    assert as_json(whole[0].metrics) == {"step": 12, "train_loss": pytest.approx(1 / 12)}
    assert sdk.models.retrieve(whole[0].fine_tuned_model_checkpoint).id == whole[0].fine_tuned_model_checkpoint
    with pytest.raises(openai.BadRequestError) as caught:
        listed(job.id, after="ftckpt_none")
    assert (caught.value.param, caught.value.code) == ("after", "checkpoint_not_found")
