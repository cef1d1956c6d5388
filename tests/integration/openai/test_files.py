"""Tests files with OpenAI's own client: uploads, results of jobs, and the same ids on both faces."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from app.db.session import Sessions, transaction
from app.db.tables import Dataset
from app.settings import Settings
from tests.fixtures.openai_client import async_openai_client, openai_client
from tests.integration.openai.conftest import ARCHIVE, DATA, METRICS, Asked, Finished, as_file

UNKNOWN = "file-" + "0" * 24
Create = Callable[..., Any]


@pytest.fixture
def create(sdk: OpenAI) -> Create:
    return lambda data=DATA, name="rows.jsonl", **fields: sdk.files.create(
        **{"file": (name, data), "purpose": "fine-tune"} | fields
    )


def test_every_form_of_a_file_is_accepted(create: Create, sdk: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "from a path.jsonl"
    path.write_bytes(DATA)
    forms: dict[str, Any] = {
        "upload": DATA,
        "from a path.jsonl": path,
        "open.jsonl": as_file(DATA, "open.jsonl"),
        "two.jsonl": ("two.jsonl", DATA),
        'três 中文 ".jsonl': ('três 中文 ".jsonl', DATA, "application/jsonl"),
        "four.jsonl": ("four.jsonl", as_file(DATA, "other"), "text/plain", {"X-Of-The-Part": "1"}),
    }
    for name, form in forms.items():
        file = create(file=form)
        assert (file.filename, file.bytes, file.purpose, file.status) == (name, len(DATA), "fine-tune", "uploaded")
        assert (file.expires_at, file.status_details) == (None, None)
        assert abs(file.created_at - time.time()) < 60
        assert sdk.files.content(file.id).content == DATA
        assert sdk.files.retrieve(file.id) == file


def test_a_file_is_the_same_on_both_faces(create: Create, sdk: OpenAI, native: httpx2.Client) -> None:
    theirs = create(name="a.jsonl")
    shown = native.get(f"/datasets/{theirs.id}").json()
    assert (shown["filename"], shown["bytes"], shown["state"]) == ("a.jsonl", len(DATA), "inspecting")
    ours = native.post("/datasets", files={"file": ("b.jsonl", DATA)}).json()["id"]
    assert [file.id for file in sdk.files.list()] == [ours, theirs.id]
    assert sdk.files.retrieve(ours).filename == "b.jsonl"
    assert sdk.files.delete(ours).deleted
    assert native.get(f"/datasets/{ours}").status_code == 404
    assert native.delete(f"/datasets/{theirs.id}").status_code == 204
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(theirs.id)


def test_columns_are_an_extension(
    create: Create, sdk: OpenAI, native: httpx2.Client, inspect_all: Callable[[], int]
) -> None:
    columns = {"prompt": "input", "completion": "output"}
    data = b'{"input": "a", "output": "b"}\n'
    file = create(data, extra_body={"columns": columns})
    assert inspect_all() == 1
    assert sdk.files.retrieve(file.id).status == "processed"
    shown = native.get(f"/datasets/{file.id}").json()
    assert (shown["columns"], shown["format"]) == (columns, "prompt_completion")
    sent = sdk.uploads.create(
        bytes=9, filename="a.jsonl", purpose="fine-tune", mime_type="text/jsonl", extra_body={"columns": columns}
    )
    assert sent.status == "pending"
    with pytest.raises(openai.BadRequestError, match="did you mean 'prompt'"):
        sdk.uploads.create(
            bytes=9, filename="a", purpose="fine-tune", mime_type="x", extra_body={"columns": {"promt": "input"}}
        )


def test_the_client_waits_for_processing(
    create: Create, sdk: OpenAI, inspect_all: Callable[[], int], native: httpx2.Client
) -> None:
    good, bad = create(), create(b'{"prompt": "a", "completion": "b"}\n{"prompt": 7, "completion": ""}\n')
    with pytest.raises(RuntimeError, match="Giving up on waiting"):
        sdk.files.wait_for_processing(good.id, poll_interval=0.01, max_wait_seconds=0.02)
    assert inspect_all() == 2
    wait = sdk.files.wait_for_processing
    assert (wait(good.id).status, wait(good.id).status_details) == ("processed", None)
    failed = wait(bad.id)
    assert failed.status == "error"
    assert "Line 2, /prompt: " in failed.status_details
    counts = native.get(f"/datasets/{bad.id}").json()["problem_counts"]
    assert all(f"{code} ({count})" in failed.status_details for code, count in counts.items())


def test_a_file_expires_when_asked(create: Create) -> None:
    file = create(expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    for seconds, code in ((3599, "greater_than_equal"), (2_592_001, "less_than_equal"), ("soon", "int_parsing")):
        with pytest.raises(openai.BadRequestError) as caught:
            create(expires_after={"anchor": "created_at", "seconds": seconds})
        assert (caught.value.param, caught.value.code) == ("expires_after.seconds", code)
    with pytest.raises(openai.BadRequestError) as caught:
        create(expires_after={"seconds": 3600})
    assert (caught.value.param, caught.value.code) == ("expires_after.anchor", "missing")


def test_a_refused_file_leaves_nothing(create: Create, sdk: OpenAI, settings: Settings) -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"purpose": "batch"}, "purpose", "unsupported_purpose"),
        ({"purpose": openai.omit}, "purpose", "missing"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_field"),
        ({"file": (None, DATA)}, "file", "no_file"),
    ]
    for fields, param, code in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            create(**fields)
        assert (caught.value.param, caught.value.code) == (param, code)
    assert sdk.files.list().data == []
    assert [path for path in (settings.data_dir / "storage").rglob("*") if path.is_file()] == []


def test_a_file_that_is_too_large_is_refused(create: Create, settings: Settings, sdk: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        create(b" " * (settings.max_upload_bytes + 1))
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (413, "too_large", "file")
    assert sdk.files.list().data == []


def test_files_are_listed(create: Create, sdk: OpenAI, finish: Callable[..., Finished]) -> None:
    job = finish()
    made = [create(name=f"{number}.jsonl").id for number in range(5)]
    rows = sdk.fine_tuning.jobs.retrieve(job.id).training_file
    results = [file.id for file in sdk.files.list(purpose="fine-tune-results")]
    assert sorted(results) == sorted((job.archive, job.metrics))
    newest = [*made[::-1], *results, rows]
    assert [file.id for file in sdk.files.list()] == newest
    assert [file.id for file in sdk.files.list(limit=3)] == newest, "the client asks for every page"
    assert [file.id for file in sdk.files.list(order="asc", limit=2)] == newest[::-1]
    assert [file.id for file in sdk.files.list(purpose="fine-tune", limit=1)] == [*made[::-1], rows]
    assert sdk.files.list(purpose="batch").data == []
    page = sdk.files.list(after=newest[1], limit=2)
    assert ([file.id for file in page.data], page.has_more) == (newest[2:4], True)
    assert not sdk.files.list(after=newest[-2]).has_more
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "after": ({"after": UNKNOWN}, "invalid_cursor"),
        "limit": ({"limit": 10_001}, "less_than_equal"),
        "order": ({"order": "up"}, "literal_error"),
    }
    for param, (fields, code) in wrong.items():
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.files.list(**fields)
        assert (caught.value.param, caught.value.code) == (param, code)


def test_content_is_served_in_ranges(create: Create, sdk: OpenAI) -> None:
    id = create().id
    part = sdk.files.content(id, extra_headers={"Range": "bytes=10-19"})
    assert (part.response.status_code, part.content) == (206, DATA[10:20])
    assert part.response.headers["content-range"] == f"bytes 10-19/{len(DATA)}"
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.files.content(id, extra_headers={"Range": f"bytes={len(DATA)}-"})
    assert (caught.value.status_code, caught.value.code) == (416, "range_not_satisfiable")
    assert caught.value.response.headers["content-range"] == f"bytes */{len(DATA)}"
    with sdk.files.with_streaming_response.content(id) as streamed:
        assert b"".join(streamed.iter_bytes(7)) == DATA


def test_results_are_files(sdk: OpenAI, finish: Callable[..., Finished], native: httpx2.Client) -> None:
    job = finish(suffix="support")
    wanted = {job.metrics: ("step_metrics.csv", METRICS), job.archive: ("adapter.tar", ARCHIVE)}
    for id, (name, data) in wanted.items():
        file = sdk.files.retrieve(id)
        assert (file.filename, file.bytes, file.purpose, file.status) == (
            name,
            len(data),
            "fine-tune-results",
            "processed",
        )
        assert sdk.files.content(id).content == data
        assert native.get(f"/artifacts/{id}/content").content == data
    with pytest.raises(openai.ConflictError) as caught:
        sdk.files.delete(job.archive)
    assert (caught.value.code, caught.value.param) == ("file_belongs_to_job", "file_id")
    shown = native.get(f"/jobs/{job.id}/artifacts").json()["items"]
    hidden = {each["id"] for each in shown} - wanted.keys()
    assert len(hidden) == 3
    for id in hidden:  # a single file of the adapter's folder is not a result file
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(id)
    sdk.models.delete(job.model)
    with pytest.raises(openai.NotFoundError):
        sdk.files.content(job.archive)
    assert sdk.files.content(job.metrics).content == METRICS, "the metrics stay with their job"
    assert sdk.fine_tuning.jobs.retrieve(job.id).result_files == [job.metrics]


def test_a_file_in_use_stays_and_the_client_does_not_retry(create: Create, sdk: OpenAI, base_model: str) -> None:
    id = create().id
    job = sdk.fine_tuning.jobs.create(model=base_model, training_file=id)
    asked = Asked(sdk)
    with pytest.raises(openai.ConflictError) as caught:
        sdk.files.delete(id)
    assert (caught.value.code, caught.value.param) == ("dataset_in_use", "file_id")
    assert job.id in caught.value.message
    assert [answer.headers["x-should-retry"] for answer in asked.answers] == ["false"]
    sdk.fine_tuning.jobs.cancel(job.id)
    assert sdk.files.delete(id).id == id


def test_an_unknown_file_is_not_found(sdk: OpenAI, sessions: Sessions, project_id: str) -> None:
    for id in (UNKNOWN, "file-abc", "art-" + "0" * 24, "ftjob-" + "0" * 24, "ä?#", "null"):
        for ask in (sdk.files.retrieve, sdk.files.delete, sdk.files.content):
            with pytest.raises(openai.NotFoundError) as caught:
                ask(id)
            assert (caught.value.code, caught.value.param) == ("file_not_found", "file_id"), id
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.files.retrieve("a/b")
    assert (caught.value.code, caught.value.param) == ("not_found", None)
    with transaction(sessions) as session:
        lost = {"id": UNKNOWN, "filename": "a", "state": "ready", "storage_key": "nowhere", "sha256": "0" * 64}
        session.add(Dataset(project_id=project_id, size=3, **lost))
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.files.content(UNKNOWN)
    assert caught.value.code == "not_found"


def test_a_key_limits_what_a_client_can_do(live_server: str, make_key: Callable[..., str], create: Create) -> None:
    id = create().id
    with openai_client(live_server, "sk-none") as unknown, pytest.raises(openai.AuthenticationError) as refused:
        unknown.files.retrieve(id)
    assert (refused.value.code, refused.value.type) == ("unauthorized", "authentication_error")
    assert refused.value.response.headers["www-authenticate"] == "Bearer"
    with openai_client(live_server, make_key("default", "read")) as reader:
        assert reader.files.retrieve(id).id == id
        for ask in (reader.files.delete, lambda id: reader.files.create(file=DATA, purpose="fine-tune")):
            with pytest.raises(openai.PermissionDeniedError) as forbidden:
                ask(id)
            assert (forbidden.value.code, forbidden.value.type) == ("forbidden", "permission_error")
    with openai_client(live_server, make_key("stranger")) as stranger:
        assert stranger.files.list().data == []
        for ask in (stranger.files.retrieve, stranger.files.delete, stranger.files.content):
            with pytest.raises(openai.NotFoundError):
                ask(id)


def test_the_asynchronous_client(
    live_server: str, key: str, tmp_path: Path, place: Any, inspect_all: Callable[[], int]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)

    async def use_files() -> None:
        async with async_openai_client(live_server, key) as client:
            files = client.files
            made = await asyncio.gather(*(files.create(file=path, purpose="fine-tune") for _ in range(5)))
            assert {file.id for file in made} == {file.id async for file in files.list(limit=2)}
            inspecting = asyncio.create_task(asyncio.to_thread(inspect_all))
            waited = [files.wait_for_processing(file.id, poll_interval=0.1) for file in made]
            assert {file.status for file in await asyncio.gather(*waited)} == {"processed"}
            await inspecting
            assert (await files.content(made[0].id)).content == DATA
            assert (await files.delete(made[0].id)).deleted
            with pytest.raises(openai.NotFoundError) as caught:
                await files.retrieve(made[0].id)
            assert (caught.value.code, caught.value.param) == ("file_not_found", "file_id")

    asyncio.run(use_files())
