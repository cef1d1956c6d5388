"""Tests models with OpenAI's own client: base models and the results of jobs, by name."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import openai
import pytest
from fastapi.testclient import TestClient
from openai import OpenAI
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import Adapter, Job
from app.domain.ids import new_id
from app.domain.jobs.model_names import fine_tuned_name
from tests.fixtures.openai_client import async_openai_client, openai_client
from tests.integration.jobs.conftest import queued_job
from tests.integration.openai.conftest import Finished

Finish = Callable[..., Finished]


def test_models_are_listed(sdk: OpenAI, finish: Finish, project_id: str, native: httpx2.Client) -> None:
    assert sdk.models.list().data == [sdk.models.retrieve("tiny")]
    first, second = finish(suffix="a"), finish()
    assert [model.id for model in sdk.models.list()] == ["tiny", second.model, first.model]
    assert [model.owned_by for model in sdk.models.list()] == ["system", project_id, project_id]
    assert (first.model, second.model) == (f"ft:tiny:a:{first.id[-8:]}", f"ft:tiny::{second.id[-8:]}")
    for model in sdk.models.list():
        assert sdk.models.retrieve(model.id) == model
    assert [each["name"] for each in native.get("/adapters").json()["items"]] == [second.model, first.model]


def test_a_fine_tuned_model_is_deleted(
    sdk: OpenAI, finish: Finish, native: httpx2.Client, make_dataset: Callable[..., str]
) -> None:
    first, second = finish(), finish()
    deleted = sdk.models.delete(first.model)
    assert (deleted.id, deleted.deleted) == (first.model, True)
    for ask in (sdk.models.retrieve, sdk.models.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(first.model)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert [model.id for model in sdk.models.list()] == ["tiny", second.model]
    assert [each["name"] for each in native.get("/adapters").json()["items"]] == [second.model]
    assert sdk.fine_tuning.jobs.retrieve(first.id).status == "succeeded", "the job stays"
    adapter_id = native.get(f"/jobs/{second.id}").json()["adapter_id"]
    assert native.delete(f"/adapters/{adapter_id}").status_code == 204
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve(second.model)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(model=second.model, training_file=make_dataset())
    assert (refused.value.code, refused.value.param) == ("init_from_not_found", "model")


def test_a_full_model_has_a_name_too(sdk: OpenAI, finish: Finish, native: httpx2.Client) -> None:
    job = finish(extra_body={"tunewright": {"method": "full"}})
    assert sdk.models.retrieve(job.model).id == job.model
    assert [model.id for model in sdk.models.list()] == ["tiny", job.model]
    sdk.models.delete(job.model)
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    kinds = [each["kind"] for each in native.get(f"/jobs/{job.id}/artifacts").json()["items"]]
    assert kinds == ["step_metrics"]


def test_checkpoints_are_found_by_name_and_cannot_be_deleted(sdk: OpenAI, finish: Finish) -> None:
    job = finish()
    (checkpoint,) = sdk.fine_tuning.jobs.checkpoints.list(job.id).data
    name = checkpoint.fine_tuned_model_checkpoint
    assert name == f"{job.model}:ckpt-step-5"
    assert sdk.models.retrieve(name).id == name
    assert name not in [model.id for model in sdk.models.list()]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.models.delete(name)
    assert (caught.value.code, caught.value.param) == ("not_deletable", "model")
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve(f"{job.model}:ckpt-step-6")
    sdk.models.delete(job.model)
    assert sdk.models.retrieve(name).id == name, "a checkpoint stays when the result is deleted"


def test_base_models_cannot_be_deleted(sdk: OpenAI, base_model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.models.delete(base_model)
    assert (caught.value.code, caught.value.param) == ("not_deletable", "model")
    assert [model.id for model in sdk.models.list()] == [base_model]


def test_an_unknown_model_is_not_found(sdk: OpenAI, base_model: str) -> None:
    for name in ("gpt", "ft:tiny::00000000", "ft:", "a/b", "ä?#", "ft:tiny::0:ckpt-step-1", "x" * 500):
        for ask in (sdk.models.retrieve, sdk.models.delete):
            with pytest.raises(openai.NotFoundError) as caught:
                ask(name)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model"), name


def test_a_name_that_two_jobs_have_is_refused(
    sdk: OpenAI, finish: Finish, sessions: Sessions, native: httpx2.Client
) -> None:
    job, other = finish(), finish()
    with transaction(sessions) as session:
        twin = session.get_one(Job, job.id)
        columns = {column.key: getattr(twin, column.key) for column in Job.__mapper__.column_attrs}
        id = f"ftjob-{'0' * 16}{job.id[-8:]}"
        session.add(Job(**columns | {"id": id}))
        session.flush()
        session.execute(update(Adapter).where(Adapter.job_id == other.id).values(job_id=id))
    for ask in (sdk.models.retrieve, sdk.models.delete):
        with pytest.raises(openai.ConflictError) as caught:
            ask(job.model)
        assert (caught.value.code, caught.value.param) == ("ambiguous_name", "model")
        assert job.id in caught.value.message
        assert id in caught.value.message
    assert len(native.get("/adapters").json()["items"]) == 2


def test_names_belong_to_one_project(
    sdk: OpenAI, finish: Finish, live_server: str, make_key: Callable[..., str]
) -> None:
    job = finish()
    with openai_client(live_server, make_key("stranger")) as stranger:
        assert [model.id for model in stranger.models.list()] == ["tiny"], "base models serve all projects"
        for name in (job.model, f"{job.model}:ckpt-step-5"):
            for ask in (stranger.models.retrieve, stranger.models.delete):
                with pytest.raises(openai.NotFoundError):
                    ask(name)
    with openai_client(live_server, make_key("default", "read")) as reader:
        assert reader.models.retrieve(job.model).id == job.model
        with pytest.raises(openai.PermissionDeniedError) as caught:
            reader.models.delete(job.model)
        assert caught.value.code == "forbidden"


def test_the_asynchronous_client(live_server: str, key: str, finish: Finish) -> None:
    job = finish()

    async def use_models() -> None:
        async with async_openai_client(live_server, key) as client:
            assert [model.id async for model in client.models.list()] == ["tiny", job.model]
            assert (await client.models.retrieve(job.model)).id == job.model
            assert (await client.models.delete(job.model)).deleted
            with pytest.raises(openai.NotFoundError) as caught:
                await client.models.retrieve(job.model)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    asyncio.run(use_models())


def test_many_models_are_listed_newest_first_by_page(api: TestClient, sessions: Sessions, project_id: str) -> None:
    """OpenAI's clients request only the first page; other clients can request more."""
    names = []
    with transaction(sessions) as session:
        for number in range(5):
            job = queued_job(project_id)
            job.state = "succeeded"
            session.add(job)
            session.flush()
            made = {"id": new_id("model"), "name": fine_tuned_name(job), "created_at": at_minute(number)}
            session.add(Adapter(project_id=project_id, job_id=job.id, base_model="tiny", manifest={}, **made))
            names.append(made["name"])
    seen: list[str] = []
    for size in (2, 2, 1):
        page = api.get("/v1/models", params={"limit": 2} | ({"after": seen[-1]} if seen else {})).json()
        seen += [model["id"] for model in page["data"]]
        assert (len(page["data"]), page["has_more"]) == (size, size == 2)
    assert seen == names[::-1]
    assert len(api.get("/v1/models").json()["data"]) == 5
    assert api.get("/v1/models?after=ft:tiny::ffffffff").json()["error"]["code"] == "model_not_found"


def at_minute(number: int) -> datetime:
    return datetime(2026, 1, 1, minute=number, tzinfo=UTC)
