"""A create that OpenAI's client repeats makes one job; two deliberate creates make two jobs."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
from openai import OpenAI
from sqlalchemy import select, text

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.openai.jobs.create_repository import find_created, forget_created
from tests.fixtures.openai_client import openai_client

WAITING = """
    SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database ON oid = database
    WHERE datname = current_database() AND NOT granted
"""


def retry_headers(count: int) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


def test_a_repeated_create_makes_no_second_job(
    create: Callable[..., Any], make_key: Callable[..., str], live_server: str, sessions: Sessions
) -> None:
    first = create(suffix="a")
    assert create(suffix="a").id != first.id, "two deliberate equal creates make two jobs"
    second = create(suffix="b")
    assert create(suffix="b", extra_headers=retry_headers(1)).id == second.id
    assert create(suffix="b", extra_headers=retry_headers(2)).id == second.id
    alone = create(suffix="c", extra_headers=retry_headers(1))
    assert create(suffix="c", extra_headers=retry_headers(2)).id == alone.id
    assert create(suffix="c").id != alone.id
    fields = {"model": "tiny", "training_file": first.training_file, "suffix": "b"}
    with openai_client(live_server, make_key()) as other:
        assert other.fine_tuning.jobs.create(**fields, extra_headers=retry_headers(1)).id != second.id
    with transaction(sessions) as session:
        session.execute(text("UPDATE openai_create_responses SET created_at = created_at - interval '31 minutes'"))
    assert create(suffix="b", extra_headers=retry_headers(1)).id != second.id
    with transaction(sessions) as session:
        forget_created(session)
        assert session.scalar(text("SELECT count(*) FROM openai_create_responses")) == 1


class CutOff(httpx2.HTTPTransport):
    """Loses the answer to its first request."""

    lost = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if not self.lost:
            self.lost = True
            response.read()
            raise httpx2.ReadError("cut off", request=request)
        return response


def test_a_create_whose_answer_was_cut_off_makes_one_job(
    sdk: OpenAI, live_server: str, key: str, base_model: str, make_dataset: Callable[..., str]
) -> None:
    file_id = make_dataset()
    with OpenAI(base_url=f"{live_server}/v1", api_key=key, http_client=httpx2.Client(transport=CutOff())) as client:
        job = client.fine_tuning.jobs.create(model=base_model, training_file=file_id)
    assert [each.id for each in sdk.fine_tuning.jobs.list()] == [job.id]


def test_a_repeated_create_waits_for_the_first_one_in_progress(
    create: Callable[..., Any], sdk: OpenAI, sessions: Sessions
) -> None:
    """The table of jobs is locked, so that both wait in the middle of their transactions."""
    answered: list[str] = []
    threads = [
        threading.Thread(target=lambda count=count: answered.append(create(extra_headers=retry_headers(count)).id))
        for count in (0, 1)
    ]
    with transaction(sessions) as session:
        session.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        for num_waiting, thread in enumerate(threads, 1):
            thread.start()
            until = time.monotonic() + 30
            while session.scalar(text(WAITING)) < num_waiting:
                assert time.monotonic() < until
                time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert len(set(answered)) == 1
    assert [each.id for each in sdk.fine_tuning.jobs.list()] == answered[:1]


def test_a_create_overtaken_by_its_retry_makes_no_second_job(
    create: Callable[..., Any], sessions: Sessions, project_id: str
) -> None:
    again = create(extra_headers=retry_headers(1))
    with transaction(sessions) as session:
        sha256 = session.scalar(text("SELECT request_sha256 FROM openai_create_responses"))
    with transaction(sessions) as session:
        assert find_created(session, project_id, sha256, 0, waited=60) == again.id
        assert find_created(session, project_id, sha256, 0, waited=0) is None
        assert session.scalar(select(Job.id)) == again.id
