"""Tests that every error below `/v1` is OpenAI's envelope, which the client raises as an exception with its code."""

from collections.abc import Callable

import openai
import pytest
from hypothesis import HealthCheck, example, given, note, settings
from openai import OpenAI
from sqlalchemy import text

from app.db.session import Sessions, transaction
from tests.integration.openai.conftest import DATA, Asked
from tests.integration.openai.junk import Request, requests

CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
}
"""Maps each status that has its own exception in the client and can occur here."""
NUM_EXAMPLES = 400


def send(sdk: OpenAI, key: str, asked: Request) -> int:
    """Send a request and check the answer; return its status. The request uses the connection inside the client, which
    checks each answer, since the client itself would correct the request."""
    headers = {"Authorization": f"Bearer {key}".encode()} | asked.headers
    answer = sdk._client.request(asked.method, f"{sdk.base_url}{asked.url[1:]}", headers=headers, content=asked.body)
    if answer.is_success:
        return answer.status_code
    error = sdk._make_status_error_from_response(answer)
    assert type(error) is CLASSES.get(error.status_code, openai.APIStatusError)
    assert 400 <= error.status_code < 500
    assert error.code
    assert error.type
    assert error.request_id
    return error.status_code


@pytest.fixture
def known(sdk: OpenAI, base_model: str, make_dataset: Callable[..., str]) -> dict[str, str]:
    """Create one of each resource that a path can name; return their ids by parameter."""
    job = sdk.fine_tuning.jobs.create(model=base_model, training_file=make_dataset())
    upload = sdk.uploads.create(bytes=len(DATA), filename="a", mime_type="text/plain", purpose="fine-tune")
    file = sdk.files.create(file=DATA, purpose="fine-tune")
    return {"file_id": file.id, "upload_id": upload.id, "model": base_model, "fine_tuning_job_id": job.id}


def test_every_request_gets_a_valid_answer(sdk: OpenAI, key: str, known: dict[str, str]) -> None:
    resume = Request("POST", f"/fine_tuning/jobs/{known['fine_tuning_job_id']}/resume", {}, b"")
    seen = {send(sdk, key, resume)}  # a conflict, which random requests may miss

    @settings(max_examples=NUM_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @example(Request("GET", "/models/", {}, b""))
    @example(Request("GET", "/%0A", {}, b""))
    @example(Request("POST", "/fine_tuning/jobs", {"Content-Type": b"text/plain"}, b"{}"))
    @given(requests(known))
    def try_one(asked: Request) -> None:
        note(repr(asked))
        seen.add(send(sdk, key, asked))

    try_one()
    assert {200, 400, 404, 409, 415} <= seen, "the requests reach successes and each kind of error"


def test_a_server_error_is_retried_and_then_raised(sdk: OpenAI, sessions: Sessions) -> None:
    with transaction(sessions) as session:
        session.execute(text("ALTER TABLE datasets RENAME TO elsewhere"))
    asked = Asked(sdk)
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.with_options(max_retries=1).files.list()
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (500, "internal_error", "server_error")
    assert caught.value.param is None
    ids = [answer.headers["x-request-id"] for answer in asked.answers]
    assert len(set(ids)) == 2
    assert caught.value.request_id == ids[-1]
