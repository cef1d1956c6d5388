"""Uploads by parts: begun, interrupted, gone on with, completed, joined, given up."""

import hashlib
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DeadObject, OutboxRow, Upload, UploadPart
from app.dispatcher import Dispatcher
from app.domain.identity import is_id
from app.main import create_app
from app.settings import Settings
from app.storage import Storage
from app.uploads.repository import UploadRepository
from app.uploads.service import UploadService, join_next
from tests.integration.datasets.conftest import ROWS, jsonl
from tests.integration.datasets.test_put import digest_of

DATA = jsonl(ROWS * 40)
Files = Callable[[], list[Path]]
Begin = Callable[..., str]


@pytest.fixture
def begin(api: TestClient) -> Begin:
    """Begin an upload; its id."""

    def begin(size: int = len(DATA), filename: str = "rows.jsonl", **fields: Any) -> str:
        answer = api.post("/uploads", json={"bytes": size, "filename": filename, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return begin


@pytest.fixture
def send(api: TestClient) -> Callable[[str, bytes], str]:
    """Send a part; its id."""

    def send(upload_id: str, data: bytes) -> str:
        answer = api.post(f"/uploads/{upload_id}/parts", content=data)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return send


Send = Callable[[str, bytes], str]


@pytest.fixture
def join_all(sessions: Sessions, settings: Settings) -> Callable[[], int]:
    """Do what the light worker does first; the number of joinings."""
    return lambda: sum(1 for _ in iter(lambda: join_next(sessions, Storage(settings.storage), "here-1"), False))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_parts_in_any_order_become_a_dataset(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    inspect_all: Callable[[], int],
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
) -> None:
    id = begin(expires_after_seconds=3600, format="prompt_completion")
    assert is_id(id, "upload")
    pieces = cut(DATA, 1000)
    order = list(range(len(pieces)))
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(order, pool.map(lambda place: send(id, pieces[place]), order), strict=True))
    shown = api.get(f"/uploads/{id}").json()
    assert (shown["state"], shown["bytes"], shown["dataset_id"]) == ("pending", len(DATA), None)
    assert {part["id"]: (part["bytes"], part["sha256"]) for part in shown["parts"]} == {
        ids[place]: (len(piece), hashlib.sha256(piece).hexdigest()) for place, piece in enumerate(pieces)
    }
    assert all(is_id(part_id, "part") for part_id in ids.values())
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow)).all() == []

    wanted = {"part_ids": [ids[place] for place in range(len(pieces))], "md5": hashlib.md5(DATA).hexdigest().upper()}
    answer = api.post(f"/uploads/{id}/complete", json=wanted)
    assert answer.status_code == 200, answer.text
    completed = answer.json()
    assert completed["state"] == "completed"
    url = f"/datasets/{completed['dataset_id']}"
    dataset = api.get(url).json()
    assert (dataset["state"], dataset["bytes"], dataset["sha256"]) == ("uploading", len(DATA), None)
    assert dataset["format"] == "prompt_completion"
    assert datetime.fromisoformat(dataset["expires_at"]) - datetime.fromisoformat(dataset["created_at"]) == timedelta(
        hours=1
    )
    assert refusal(api.get(f"{url}/content")) == (409, "dataset_uploading")
    assert inspect_all() == 0
    with transaction(sessions) as session:
        assert session.scalars(select(OutboxRow.queue)).all() == ["light"]

    assert join_all() == 1
    dataset = api.get(url).json()
    assert (dataset["state"], dataset["sha256"]) == ("inspecting", hashlib.sha256(DATA).hexdigest())
    assert api.get(f"{url}/content").content == DATA
    assert inspect_all() == 1
    assert api.get(url).json()["state"] == "ready"
    assert api.get(f"/uploads/{id}").json()["parts"] == []
    Dispatcher(settings, sessions).collect()
    dataset_id = completed["dataset_id"]
    assert sorted(path.name for path in stored_files()) == [dataset_id, f"{dataset_id}.hashes"]
    assert join_all() == 0


def test_a_completion_is_answered_again(api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int]) -> None:
    id = begin(size=6)
    first, second = send(id, b"abc"), send(id, b"def")
    wanted = {"part_ids": [second, first]}
    answers = [api.post(f"/uploads/{id}/complete", json=wanted).json() for _ in range(2)]
    join_all()
    answers.append(api.post(f"/uploads/{id}/complete", json=wanted).json())
    assert {answer["dataset_id"] for answer in answers} == {answers[0]["dataset_id"]}
    assert api.get(f"/datasets/{answers[0]['dataset_id']}/content").content == b"defabc"
    other = {"part_ids": [first, second]}
    assert refusal(api.post(f"/uploads/{id}/complete", json=other)) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/complete", json=wanted | {"md5": "0" * 32})) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"x")) == (409, "upload_not_pending")
    assert refusal(api.post(f"/uploads/{id}/cancel")) == (409, "upload_not_pending")
    assert len(api.get("/datasets").json()["items"]) == 1


def test_completions_at_the_same_time_make_one_dataset(api: TestClient, begin: Begin, send: Send) -> None:
    id = begin(size=3)
    wanted = {"part_ids": [send(id, b"abc")]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.post(f"/uploads/{id}/complete", json=wanted), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["dataset_id"] for answer in answers}) == 1
    assert len(api.get("/datasets").json()["items"]) == 1


def test_a_part_may_stand_twice(api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int]) -> None:
    id = begin(size=6)
    same = send(id, b"ab\n")
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [same, same]}).json()
    join_all()
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"ab\nab\n"


def test_parts_that_do_not_make_the_file(api: TestClient, begin: Begin, send: Send) -> None:
    id, other = begin(size=6), begin(size=6)
    first, stranger = send(id, b"abc"), send(other, b"def")
    for part_ids in (
        [first],
        [first, first, first],
        [first, stranger],
        [first, "part_" + "0" * 24],
    ):
        answer = api.post(f"/uploads/{id}/complete", json={"part_ids": part_ids})
        assert refusal(answer) == (422, "invalid_parts"), part_ids
    assert "3 bytes" in api.post(f"/uploads/{id}/complete", json={"part_ids": [first]}).json()["detail"]
    assert api.get(f"/uploads/{id}").json()["state"] == "pending", "it can be completed still"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"bytes": 0, "filename": "a"},
        {"bytes": -1, "filename": "a"},
        {"bytes": "9", "filename": "a"},
        {"bytes": 1.5, "filename": "a"},
        {"bytes": 9},
        {"bytes": 9, "filename": ""},
        {"bytes": 9, "filename": 7},
        {"bytes": 9, "filename": "a", "purpose": "fine-tune"},
        {"bytes": 9, "filename": "a", "format": "poem"},
        {"bytes": 9, "filename": "a", "expires_after_seconds": 0},
        [],
    ],
)
def test_bad_beginnings(api: TestClient, body: Any) -> None:
    answer = api.post("/uploads", json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert answer.json()["errors"]


def test_half_characters_are_refused_or_cleaned(api: TestClient, begin: Begin) -> None:
    json = {"Content-Type": "application/json"}
    answer = api.post("/uploads", headers=json, content=b'{"bytes": 1, "filename": "a\\ud800b"}')
    assert refusal(answer) == (422, "invalid_request")
    answer = api.post(f"/uploads/{begin()}/complete", headers=json, content=b'{"part_ids": ["\\ud800"]}')
    assert refusal(answer) == (422, "invalid_parts")
    id = begin(filename="../a\u202egnp.\u2067csv")
    assert api.get(f"/uploads/{id}").json()["filename"] == "agnp.csv"


def test_a_file_that_would_be_too_large(api: TestClient, settings: Settings) -> None:
    body = {"bytes": settings.max_upload_bytes + 1, "filename": "a"}
    assert refusal(api.post("/uploads", json=body)) == (413, "too_large")


@pytest.mark.parametrize("body", [{}, {"part_ids": []}, {"part_ids": "x"}, {"part_ids": ["x"], "md5": "z"}])
def test_bad_completions(api: TestClient, begin: Begin, body: Any) -> None:
    assert refusal(api.post(f"/uploads/{begin()}/complete", json=body)) == (422, "invalid_request")


def test_bodies_that_are_no_part(api: TestClient, begin: Begin, stored_files: Files) -> None:
    id = begin()
    url = f"/uploads/{id}/parts"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refusal(api.post(url, headers=form, content=b"x")) == (415, "unsupported_media_type")
    assert refusal(api.post(url, content=b"")) == (400, "bad_request")
    assert refusal(api.post(url, headers={"Content-Digest": digest_of(b"y")}, content=b"x")) == (400, "digest_mismatch")
    assert refusal(api.post(url, content=b"x" * (64 * 2**20 + 1))) == (413, "too_large")
    assert stored_files() == []
    assert api.get(f"/uploads/{id}").json()["parts"] == []


def test_no_upload_takes_parts_for_ever(
    api: TestClient, begin: Begin, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.uploads.service.MAX_PARTS", 3)
    id = begin(size=9)
    for _ in range(3):
        send(id, b"abc")
    refused = api.post(f"/uploads/{id}/parts", content=b"abc")
    assert refusal(refused) == (413, "too_large")
    assert "3 parts with 9 bytes" in refused.json()["detail"]


def test_a_cancelled_upload_is_gone_with_its_parts(
    api: TestClient, begin: Begin, send: Send, stored_files: Files, sessions: Sessions, settings: Settings
) -> None:
    id = begin(size=3)
    part = send(id, b"abc")
    for _ in range(2):
        answer = api.post(f"/uploads/{id}/cancel")
        assert (answer.status_code, answer.json()["state"], answer.json()["parts"]) == (200, "cancelled", [])
    for path, body in (("parts", None), ("complete", {"part_ids": [part]})):
        assert refusal(api.post(f"/uploads/{id}/{path}", json=body)) in (
            [(409, "upload_not_pending")] if body else [(409, "upload_not_pending"), (415, "unsupported_media_type")]
        )
    Dispatcher(settings, sessions).collect()
    assert stored_files() == []


def test_an_upload_that_is_not_completed_expires(
    api: TestClient, begin: Begin, send: Send, stored_files: Files, sessions: Sessions, settings: Settings
) -> None:
    dispatcher = Dispatcher(settings, sessions)
    id, kept = begin(size=3), begin(size=3)
    part = send(id, b"abc")
    send(kept, b"def")
    shown = api.get(f"/uploads/{id}").json()
    lasts = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert abs(lasts - timedelta(days=1)) < timedelta(seconds=1)
    with transaction(sessions) as session:
        session.execute(update(Upload).where(Upload.id == id).values(expires_at=func.clock_timestamp()))
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"x")) == (409, "upload_not_pending")
    late = api.post(f"/uploads/{id}/complete", json={"part_ids": [part]})
    assert refusal(late) == (409, "upload_not_pending")
    assert "is expired" in late.json()["detail"]
    dispatcher.retain()
    dispatcher.collect()
    assert [path.parent.name for path in stored_files()] == [kept]
    assert api.get(f"/uploads/{id}").json()["state"] == "expired"
    assert api.get(f"/uploads/{kept}").json()["state"] == "pending"
    with transaction(sessions) as session:
        session.execute(update(Upload).values(ended_at=Upload.ended_at - timedelta(hours=25)))
    dispatcher.retain()
    assert refusal(api.get(f"/uploads/{id}")) == (404, "upload_not_found")
    assert [each["id"] for each in api.get("/uploads").json()["items"]] == [kept]


def test_a_completed_upload_is_not_forgotten_before_it_is_joined(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], sessions: Sessions, settings: Settings
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        session.execute(update(Upload).values(ended_at=Upload.ended_at - timedelta(days=9)))
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.retain()
    dispatcher.collect()
    assert join_all() == 1
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"


def test_parts_without_a_row_are_orphans(
    begin: Begin,
    send: Send,
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
    project_id: str,
    tmp_path: Path,
) -> None:
    """The server was killed between a part's bytes and its row, and in the middle of its bytes."""
    id = begin(size=6)
    kept = send(id, b"abc")
    folder = settings.data_dir / "storage" / project_id / "uploads" / id
    (folder / ("part_" + "0" * 24)).write_bytes(b"orphan")
    (folder / ("part_" + "1" * 24 + "#7")).write_bytes(b"half")
    for path in [folder, *folder.iterdir()]:
        os.utime(path, (0, 0))
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.collector.search()
    with transaction(sessions) as session:
        session.execute(update(DeadObject).values(due_at=func.clock_timestamp()))
    dispatcher.collect()
    assert [path.name for path in stored_files()] == [kept]


def test_a_wrong_md5_makes_the_dataset_invalid(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], inspect_all: Callable[[], int]
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")], "md5": "0" * 32}).json()
    assert join_all() == 1
    assert inspect_all() == 0
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"md5_mismatch": 1})
    assert hashlib.md5(b"abc").hexdigest() in dataset["problems"][0]["message"]


def test_a_part_that_storage_lost(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], stored_files: Files
) -> None:
    id = begin(size=6)
    ids = [send(id, b"abc"), send(id, b"def")]
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": ids}).json()
    next(path for path in stored_files() if path.name == ids[1]).unlink()
    assert join_all() == 1
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("invalid", {"bytes_lost": 1})
    assert refusal(api.get(f"/datasets/{made['dataset_id']}/content")) == (404, "not_found")
    assert not [path for path in stored_files() if path.name == made["dataset_id"]]


def test_a_dataset_deleted_before_its_parts_are_joined(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    stored_files: Files,
    sessions: Sessions,
    settings: Settings,
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    dispatcher = Dispatcher(settings, sessions)
    assert api.delete(f"/datasets/{made['dataset_id']}").status_code == 204
    dispatcher.collect()
    assert join_all() == 1
    dispatcher.collect()
    assert stored_files() == []
    assert refusal(api.get(f"/datasets/{made['dataset_id']}")) == (404, "dataset_not_found")


def test_a_joining_that_died_is_done_again(
    api: TestClient, begin: Begin, send: Send, join_all: Callable[[], int], sessions: Sessions, project_id: str
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        assert UploadService(session).projects_with_work() == [project_id]
        assert UploadRepository(session).claim("here-1", 60) is not None
    assert join_all() == 0
    with transaction(sessions) as session:
        assert UploadService(session).projects_with_work() == []
        session.execute(update(Upload).values(joining_until=func.clock_timestamp()))
    assert join_all() == 1
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"


def test_a_joining_that_comes_too_late_changes_nothing(
    api: TestClient,
    begin: Begin,
    send: Send,
    join_all: Callable[[], int],
    sessions: Sessions,
    settings: Settings,
    stored_files: Files,
) -> None:
    """Its lease lapsed, another worker was faster, and the parts are gone."""
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    dispatcher = Dispatcher(settings, sessions)

    class Slow(Storage):
        def join(self, *given: Any, **options: Any) -> Any:
            with transaction(sessions) as session:
                session.execute(update(Upload).values(joining_until=func.clock_timestamp()))
            assert join_all() == 1
            dispatcher.collect()
            return super().join(*given, **options)

    assert join_next(sessions, Slow(settings.storage), "here-1")
    dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert (dataset["state"], dataset["problem_counts"]) == ("inspecting", {})
    assert api.get(f"/datasets/{made['dataset_id']}/content").content == b"abc"
    assert [path.name for path in stored_files()] == [made["dataset_id"]]


def test_each_upload_is_joined_once_however_many_look(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, settings: Settings
) -> None:
    for number in range(6):
        id = begin(size=1)
        api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"%d" % number)]})
    together = threading.Barrier(4)

    def work() -> int:
        together.wait()
        return sum(1 for _ in iter(lambda: join_next(sessions, Storage(settings.storage), "here-1"), False))

    with ThreadPoolExecutor(4) as pool:
        counts = [each.result() for each in [pool.submit(work) for _ in range(4)]]
    assert sum(counts) == 6
    with transaction(sessions) as session:
        assert set(session.scalars(select(Dataset.state))) == {"inspecting"}
        assert session.scalars(select(UploadPart)).all() == []


def test_a_part_whose_commit_fails_takes_its_bytes_along(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, stored_files: Files
) -> None:
    id = begin(size=6)
    send(id, b"abc")
    with transaction(sessions) as session:
        session.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
            )
        )
        session.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON upload_parts DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    assert refusal(api.post(f"/uploads/{id}/parts", content=b"def")) == (500, "internal_error")
    assert len(stored_files()) == 1
    assert len(api.get(f"/uploads/{id}").json()["parts"]) == 1


def test_a_part_that_arrives_after_the_end_is_refused(
    api: TestClient, begin: Begin, sessions: Sessions, settings: Settings, stored_files: Files, project_id: str
) -> None:
    """The upload is cancelled while a part is on its way."""
    id = begin(size=3)

    def slowly() -> Any:
        yield b"ab"
        with transaction(sessions) as session:
            UploadService(session).cancel(project_id, id)
        yield b"c"

    assert refusal(api.post(f"/uploads/{id}/parts", content=slowly())) == (409, "upload_not_pending")
    assert stored_files() == []


def test_a_job_may_wait_for_parts(
    api: TestClient, begin: Begin, send: Send, sessions: Sessions, project_id: str
) -> None:
    id = begin(size=3)
    made = api.post(f"/uploads/{id}/complete", json={"part_ids": [send(id, b"abc")]}).json()
    with transaction(sessions) as session:
        dataset = DatasetService(session).find(project_id, made["dataset_id"])
        assert dataset is not None
        assert dataset.state == "uploading"


def test_the_servers_own_times_hold(settings: Settings, make_key: Callable[..., str]) -> None:
    settings.data_dir.mkdir()
    app = create_app(settings.model_copy(update={"dataset_ttl_seconds": 7200.0, "upload_ttl_seconds": 60.0}))
    with TestClient(app, headers={"Authorization": f"Bearer {make_key()}"}) as api:
        upload = api.post("/uploads", json={"bytes": 1, "filename": "a"}).json()
        lasts = datetime.fromisoformat(upload["expires_at"]) - datetime.fromisoformat(upload["created_at"])
        assert abs(lasts - timedelta(minutes=1)) < timedelta(seconds=1)
        part = api.post(f"/uploads/{upload['id']}/parts", content=b"x").json()
        made = api.post(f"/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]}).json()
        dataset = api.get(f"/datasets/{made['dataset_id']}").json()
    assert datetime.fromisoformat(dataset["expires_at"]) - datetime.fromisoformat(dataset["created_at"]) == timedelta(
        hours=2
    )
