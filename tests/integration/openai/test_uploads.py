"""Tests uploads in parts with OpenAI's own client."""

import asyncio
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import Upload
from app.domain.upload import MAX_PART_BYTES
from app.settings import Settings
from tests.fixtures.openai_client import async_openai_client, openai_client
from tests.integration.datasets.conftest import ROWS, jsonl
from tests.integration.openai.conftest import Asked

DATA = jsonl(ROWS * 40)
MD5 = hashlib.md5(DATA).hexdigest()
UNKNOWN = "upload_" + "0" * 24
JSONL = {"mime_type": "text/jsonl", "purpose": "fine-tune"}
Begin = Callable[..., Any]
Work = Callable[[], int]


@pytest.fixture
def begin(sdk: OpenAI) -> Begin:
    return lambda **fields: sdk.uploads.create(**{"bytes": len(DATA), "filename": "rows.jsonl"} | JSONL | fields)


def split_data(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_parts_are_sent_concurrently_and_in_any_order(
    begin: Begin, sdk: OpenAI, native: httpx2.Client, join_all: Work, inspect_all: Work
) -> None:
    upload = begin()
    assert (upload.status, upload.bytes, upload.filename, upload.file) == ("pending", len(DATA), "rows.jsonl", None)
    assert upload.expires_at > upload.created_at
    chunks = split_data(DATA, 1000)
    order = random.Random(0).sample(range(len(chunks)), len(chunks))

    def send(index: int) -> str:
        part = sdk.uploads.parts.create(upload.id, data=chunks[index])
        assert part.upload_id == upload.id
        return part.id

    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(order, pool.map(send, order), strict=True))
    assert {part["id"] for part in native.get(f"/uploads/{upload.id}").json()["parts"]} == set(ids.values())
    part_ids = [ids[index] for index in range(len(chunks))]
    done = sdk.uploads.complete(upload.id, part_ids=part_ids, md5=MD5)
    assert (done.id, done.status, done.bytes) == (upload.id, "completed", len(DATA))
    file = done.file
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(DATA),
        "rows.jsonl",
        "fine-tune",
        "uploaded",
    )
    with pytest.raises(openai.ConflictError) as caught:
        sdk.with_options(max_retries=0).files.content(file.id)
    assert (caught.value.code, caught.value.param) == ("dataset_uploading", "file_id")
    assert "x-should-retry" not in caught.value.response.headers, "the state is temporary, so the client may retry"
    assert (join_all(), inspect_all()) == (1, 1)
    assert sdk.files.wait_for_processing(file.id).status == "processed"
    assert sdk.files.content(file.id).content == DATA
    assert sdk.uploads.complete(upload.id, part_ids=part_ids, md5=MD5).file.id == file.id


def test_the_completion_sets_the_order_of_the_parts(
    begin: Begin, sdk: OpenAI, join_all: Work, native: httpx2.Client
) -> None:
    upload = begin(bytes=6, extra_body={"columns": {"prompt": "input"}})
    first, second, unused = (
        sdk.uploads.parts.create(upload.id, data=data).id for data in (b"def", b"abc", b"twice sent")
    )
    file = sdk.uploads.complete(upload.id, part_ids=[second, first]).file
    join_all()
    assert sdk.files.content(file.id).content == b"abcdef"
    assert native.get(f"/datasets/{file.id}").json()["columns"] == {"prompt": "input"}
    assert unused not in (first, second)


def test_a_file_with_another_md5_has_the_status_error(begin: Begin, sdk: OpenAI, join_all: Work) -> None:
    upload = begin()
    part = sdk.uploads.parts.create(upload.id, data=DATA)
    file = sdk.uploads.complete(upload.id, part_ids=[part.id], md5="0" * 32).file
    assert join_all() == 1
    shown = sdk.files.wait_for_processing(file.id)
    assert shown.status == "error"
    assert "md5_mismatch" in shown.status_details
    assert MD5 in shown.status_details


def test_the_client_splits_a_file_into_parts(sdk: OpenAI, tmp_path: Path, join_all: Work, inspect_all: Work) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    upload = sdk.uploads.upload_file_chunked
    done = [
        upload(file=path, md5=MD5, part_size=999, **JSONL),
        upload(file=DATA, bytes=len(DATA), filename="rows.jsonl", **JSONL),
    ]
    assert (join_all(), inspect_all()) == (2, 2)
    for each in done:
        assert sdk.files.wait_for_processing(each.file.id).status == "processed"
        assert sdk.files.content(each.file.id).content == DATA


def test_a_cancelled_or_expired_upload_is_refused(begin: Begin, sdk: OpenAI, sessions: Sessions) -> None:
    upload = begin()
    part = sdk.uploads.parts.create(upload.id, data=DATA)
    assert sdk.uploads.cancel(upload.id).status == "cancelled"
    assert sdk.uploads.cancel(upload.id).status == "cancelled"
    expired = begin()
    with transaction(sessions) as session:
        past = Upload.expires_at - timedelta(days=30)
        session.execute(update(Upload).where(Upload.id == expired.id).values(expires_at=past))
    asked = Asked(sdk)
    for id, state in ((upload.id, "cancelled"), (expired.id, "expired")):
        for refused in (
            lambda id=id: sdk.uploads.parts.create(id, data=DATA),
            lambda id=id: sdk.uploads.complete(id, part_ids=[part.id]),
        ):
            with pytest.raises(openai.ConflictError) as caught:
                refused()
            assert (caught.value.code, caught.value.param) == ("upload_not_pending", "upload_id")
            assert state in caught.value.message
    assert [answer.headers["x-should-retry"] for answer in asked.answers] == ["false"] * 4


def test_an_upload_sets_when_its_file_expires(begin: Begin, sdk: OpenAI) -> None:
    upload = begin(expires_after={"anchor": "created_at", "seconds": 7200})
    part = sdk.uploads.parts.create(upload.id, data=DATA)
    file = sdk.uploads.complete(upload.id, part_ids=[part.id]).file
    assert file.expires_at == file.created_at + 7200


def test_an_invalid_upload_is_refused(begin: Begin, native: httpx2.Client) -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"bytes": 0}, "bytes", "greater_than_equal"),
        ({"bytes": "12"}, "bytes", "int_type"),
        ({"filename": ""}, "filename", "string_too_short"),
        ({"purpose": "assistants"}, "purpose", "unsupported_purpose"),
        ({"purpose": openai.omit}, "purpose", "missing"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor", "literal_error"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_field"),
    ]
    for fields, param, code in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            begin(**fields)
        assert (caught.value.param, caught.value.code) == (param, code)
    assert native.get("/uploads").json()["items"] == []


def test_an_upload_or_part_that_is_too_large_is_refused(begin: Begin, sdk: OpenAI, settings: Settings) -> None:
    upload = begin()
    for ask, param in (
        (lambda: begin(bytes=settings.max_upload_bytes + 1), "bytes"),
        (lambda: sdk.uploads.parts.create(upload.id, data=bytes(MAX_PART_BYTES + 1)), "data"),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            ask()
        assert (caught.value.status_code, caught.value.code, caught.value.param) == (413, "too_large", param)


def test_an_invalid_completion_is_refused(begin: Begin, sdk: OpenAI, native: httpx2.Client) -> None:
    upload = begin()
    part = sdk.uploads.parts.create(upload.id, data=DATA[:-1])
    other = sdk.uploads.parts.create(begin().id, data=DATA)
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"part_ids": [part.id]}, "part_ids", "invalid_upload_parts"),
        ({"part_ids": [other.id]}, "part_ids", "invalid_upload_parts"),
        ({"part_ids": []}, "part_ids", "too_short"),
        ({"part_ids": [part.id], "md5": "no"}, "md5", "string_pattern_mismatch"),
    ]
    for fields, param, code in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.uploads.complete(upload.id, **fields)
        assert (caught.value.param, caught.value.code) == (param, code)
    assert native.get(f"/uploads/{upload.id}").json()["state"] == "pending"


def test_an_upload_is_the_same_on_both_faces(begin: Begin, sdk: OpenAI, native: httpx2.Client, join_all: Work) -> None:
    theirs = native.post("/uploads", json={"bytes": 6, "filename": "a.jsonl"}).json()["id"]
    here = sdk.uploads.parts.create(theirs, data=b"abc").id
    there = native.post(f"/uploads/{theirs}/parts", content=b"def").json()["id"]
    file = sdk.uploads.complete(theirs, part_ids=[here, there]).file
    assert native.get(f"/uploads/{theirs}").json()["dataset_id"] == file.id
    join_all()
    assert native.get(f"/datasets/{file.id}/content").content == b"abcdef"
    ours = begin(bytes=3).id
    part = sdk.uploads.parts.create(ours, data=b"abc").id
    dataset = native.post(f"/uploads/{ours}/complete", json={"part_ids": [part]}).json()["dataset_id"]
    assert sdk.files.retrieve(dataset).bytes == 3
    assert native.post(f"/uploads/{begin().id}/cancel").json()["state"] == "cancelled"


def test_an_upload_that_is_unknown_or_of_another_project_is_not_found(
    begin: Begin, sdk: OpenAI, live_server: str, make_key: Callable[..., str]
) -> None:
    upload = begin()
    with openai_client(live_server, make_key("stranger")) as stranger:
        for client, id in ((sdk, UNKNOWN), (sdk, "upload_x"), (stranger, upload.id)):
            uploads = client.uploads
            for ask in (
                lambda id=id, uploads=uploads: uploads.parts.create(id, data=DATA),
                lambda id=id, uploads=uploads: uploads.complete(id, part_ids=["part_x"]),
                lambda id=id, uploads=uploads: uploads.cancel(id),
            ):
                with pytest.raises(openai.NotFoundError) as caught:
                    ask()
                assert (caught.value.code, caught.value.param) == ("upload_not_found", "upload_id")
    assert sdk.uploads.cancel(upload.id).status == "cancelled"


def test_the_asynchronous_client(live_server: str, key: str, join_all: Work, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)

    async def use_uploads() -> None:
        async with async_openai_client(live_server, key) as client:
            uploads = client.uploads
            upload = await uploads.create(bytes=len(DATA), filename="rows.jsonl", **JSONL)
            sent = await asyncio.gather(
                *(uploads.parts.create(upload.id, data=data) for data in split_data(DATA, 1000))
            )
            done = await uploads.complete(upload.id, part_ids=[part.id for part in sent], md5=MD5)
            chunked = await uploads.upload_file_chunked(file=path, part_size=999, md5=MD5, **JSONL)
            await asyncio.to_thread(join_all)
            for each in (done, chunked):
                assert (await client.files.content(each.file.id)).content == DATA
            with pytest.raises(openai.ConflictError) as caught:
                await uploads.cancel(upload.id)
            assert caught.value.code == "upload_not_pending"
            with pytest.raises(openai.NotFoundError):
                await uploads.parts.create(UNKNOWN, data=DATA)

    asyncio.run(use_uploads())
