"""A dataset's problems are listed by page, and its valid rows can be made into a new dataset."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.datasets.service import rows_of
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetProblem, DatasetProblemGroup, DeletedObject
from app.storage import Storage
from tests.integration.datasets.conftest import jsonl
from worker.light.inspections import InspectionContext, inspect_next

Upload = Callable[..., httpx2.Response]
InspectAll = Callable[[], int]
ROWS: list[Any] = [
    {"prompt": "a", "completion": "b"},
    {"prompt": "a", "completion": ""},
    {"prompt": 7, "completion": 8},
    {"prompt": "A ", "completion": "b"},
    {"prompt": "a", "completion": "b", "id": 1},
    {"text": "c"},
]


@pytest.fixture
def bad_dataset(upload: Upload, inspect_all: InspectAll) -> str:
    id: str = upload(jsonl(ROWS)).json()["id"]
    assert inspect_all() == 1
    return id


def pages(api: TestClient, id: str, *, each_row: bool = True, **params: Any) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    params["each_row"] = each_row
    while True:
        page = api.get(f"/datasets/{id}/problems", params=params | ({"cursor": cursor} if cursor else {})).json()
        found.append(page["items"])
        if not (cursor := page["next_cursor"]):
            return found


def test_a_dataset_shows_what_its_inspection_found(api: TestClient, bad_dataset: str) -> None:
    dataset = api.get(f"/datasets/{bad_dataset}").json()
    assert (dataset["state"], dataset["format"], dataset["num_examples"]) == ("invalid", "prompt_completion", 6)
    assert dataset["format_reason"] == "Line 1 has the keys completion and prompt."
    assert dataset["num_bad_rows"] == 3
    assert dataset["problem_counts"] == {
        "no_trainable_text": 1,
        "wrong_type": 2,
        "mixed_formats": 1,
        "duplicate_row": 1,
        "near_duplicate_row": 1,
        "unused_key": 1,
    }
    statistics = dataset["statistics"]
    assert statistics["columns"] == {"prompt": 5, "completion": 5, "id": 1, "text": 1}
    assert statistics["duplicates"] == {"exact": 1, "normalised": 2}
    assert (statistics["container"], statistics["compression"]) == ("jsonl", "none")
    assert statistics["num_empty_rows"] == 1
    assert sum(each["num_rows"] for each in statistics["lengths"]) == 3
    assert [problem["severity"] for problem in dataset["problems"]] == ["error"] * 4 + ["warning"] * 3


def test_pages_list_every_problem_once_by_line(api: TestClient, bad_dataset: str) -> None:
    whole = pages(api, bad_dataset)
    assert len(whole) == 1
    assert [len(page) for page in pages(api, bad_dataset, limit=2)] == [2, 2, 2, 1]
    assert [each for page in pages(api, bad_dataset, limit=1) for each in page] == whole[0]
    assert [each["line"] for each in whole[0]] == sorted(each["line"] for each in whole[0])
    assert [(each["line"], each["pointer"]) for each in whole[0]][:3] == [
        (2, "/completion"),
        (3, "/prompt"),
        (3, "/completion"),
    ]


def test_problems_are_filtered_by_code_and_severity(api: TestClient, bad_dataset: str) -> None:
    [warnings] = pages(api, bad_dataset, severity="warning")
    assert {each["code"] for each in warnings} == {"duplicate_row", "near_duplicate_row", "unused_key"}
    [wrong] = pages(api, bad_dataset, severity="error", code="wrong_type")
    assert [each["line"] for each in wrong] == [3, 3]
    assert pages(api, bad_dataset, code="wrong_type", severity="warning") == [[]]
    for params in ({"severity": "fatal"}, {"limit": 0}, {"limit": 1001}):
        assert api.get(f"/datasets/{bad_dataset}/problems", params=params).json()["code"] == "invalid_request"
    for cursor in ("x", "bnVtYmVyLi0x", "\u00e9"):
        refused = api.get(f"/datasets/{bad_dataset}/problems", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


def test_problems_are_deleted_with_the_dataset(api: TestClient, bad_dataset: str, sessions: Sessions) -> None:
    assert api.delete(f"/datasets/{bad_dataset}").status_code == 204
    assert api.get(f"/datasets/{bad_dataset}/problems").json()["code"] == "dataset_not_found"
    with transaction(sessions) as session:
        for table in (DatasetProblem, DatasetProblemGroup):
            assert session.scalars(select(func.count()).select_from(table)).one() == 0
        assert len(session.scalars(select(DeletedObject.storage_key)).all()) == 2


def test_a_thousand_problems_of_each_code_are_kept_and_all_are_counted(
    api: TestClient, upload: Upload, inspect_all: InspectAll
) -> None:
    id = upload(b'{"text": ""}\n' * 1500 + b'{"text": 1}\n').json()["id"]
    inspect_all()
    kept = [each for page in pages(api, id, limit=1000) for each in page]
    assert len(kept) == 1001
    assert kept[-1] == kept[1000]
    assert kept[-1]["line"] == 1501
    assert api.get(f"/datasets/{id}/problems").json()["problem_counts"] == {"no_trainable_text": 1500, "wrong_type": 1}


def test_a_problem_of_many_rows_is_reported_once_and_first(
    api: TestClient, upload: Upload, inspect_all: InspectAll
) -> None:
    id = upload(b'{"text": 1}\n' + b'{"text": ""}\n' * 1500).json()["id"]
    inspect_all()
    [[first, second]] = pages(api, id, each_row=False)
    assert (first["code"], first["count"], first["lines"]) == ("no_trainable_text", 1500, [*range(2, 12)])
    assert (second["code"], second["count"], second["lines"]) == ("wrong_type", 1, [1])
    assert [page[0]["code"] for page in pages(api, id, each_row=False, limit=1)] == ["no_trainable_text", "wrong_type"]
    assert pages(api, id, each_row=False, code="wrong_type") == [[second]]
    dataset = api.get(f"/datasets/{id}").json()
    assert [(each["code"], each["count"]) for each in dataset["problems"]] == [
        ("no_trainable_text", 1500),
        ("wrong_type", 1),
    ]


@pytest.mark.parametrize("way", ["form", "query", "put"])
def test_columns_given_at_upload_are_mapped_in_the_stored_rows(
    api: TestClient, inspect_all: InspectAll, way: str, sessions: Sessions, place: InspectionContext
) -> None:
    data = b'{"input": "a", "output": "b"}\n{"input": "c", "output": ""}\n'
    columns = {"prompt": "input", "completion": "output"}
    form, query = {"files": {"file": ("rows.jsonl", data)}}, {"params": {"columns": json.dumps(columns)}}
    answer = {
        "form": lambda: api.post("/datasets", data={"columns": json.dumps(columns)}, **form),
        "query": lambda: api.post("/datasets", **form, **query),
        "put": lambda: api.put("/datasets", content=data, **query),
    }[way]()
    assert (answer.status_code, answer.json()["columns"]) == (201, columns)
    inspect_all()
    id = answer.json()["id"]
    dataset = api.get(f"/datasets/{id}").json()
    assert (dataset["format"], dataset["columns"]) == ("prompt_completion", columns)
    assert dataset["problem_counts"] == {"no_trainable_text": 1}
    assert dataset["problems"][0]["pointer"] == "/completion"
    assert dataset["statistics"]["columns"] == {"prompt": 2, "completion": 2}
    assert api.get(f"/datasets/{id}/content").content == data
    with transaction(sessions) as session:
        rows = rows_of(session.get_one(Dataset, id))
    assert json.loads(b"".join(place.storage.read(rows.key)).splitlines()[0]) == {"prompt": "a", "completion": "b"}


def test_invalid_columns_are_refused(api: TestClient) -> None:
    for columns, message in (
        ({"promt": "input"}, "Unknown field 'promt'; did you mean 'prompt'?"),
        ({"prompt": "x", "completion": "x"}, "is mapped to two fields"),
        ({"prompt": ""}, "at least 1 character"),
        ("no json", "Invalid JSON"),
    ):
        given = columns if isinstance(columns, str) else json.dumps(columns)
        file = {"file": ("rows.jsonl", b"{}")}
        for answer in (
            api.post("/datasets", params={"columns": given}, files=file),
            api.post("/datasets", data={"columns": given}, files=file),
            api.put("/datasets", params={"columns": given}, content=b"{}"),
        ):
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "invalid_request"), problem
            assert message in problem["errors"][0]["message"], problem
            assert problem["errors"][0]["pointer"].startswith("/columns")
    assert api.get("/datasets").json()["items"] == []


def test_a_format_given_at_upload_is_enforced(api: TestClient, upload: Upload, inspect_all: InspectAll) -> None:
    asked = upload(jsonl(ROWS), params={"format": "text"})
    assert asked.json()["format"] == "text"
    inspect_all()
    dataset = api.get(f"/datasets/{asked.json()['id']}").json()
    assert (dataset["format"], dataset["problem_counts"]) == ("text", {"missing_key": 5})
    refused = upload(params={"format": "poem"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_the_good_rows_become_a_dataset(api: TestClient, bad_dataset: str, inspect_all: InspectAll) -> None:
    answer = api.post(f"/datasets/{bad_dataset}/clean")
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["Location"] == f"/datasets/{made['id']}"
    assert (made["state"], made["bytes"], made["cleaned_from"]) == ("inspecting", 0, bad_dataset)
    assert (made["filename"], made["format"]) == ("rows.clean.jsonl", "prompt_completion")
    assert inspect_all() == 1
    made = api.get(f"/datasets/{made['id']}").json()
    content = api.get(f"/datasets/{made['id']}/content").content
    assert list(map(json.loads, content.splitlines())) == [ROWS[0], ROWS[3], ROWS[4]]
    assert (made["bytes"], made["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (made["state"], made["num_examples"], made["num_bad_rows"]) == ("ready", 3, 0)
    assert made["format_reason"] == "The format was specified at upload."
    assert api.get(f"/datasets/{bad_dataset}").json()["state"] == "invalid"


def test_duplicates_are_dropped_if_asked(api: TestClient, bad_dataset: str, inspect_all: InspectAll) -> None:
    id = api.post(f"/datasets/{bad_dataset}/clean", params={"drop_duplicates": True}).json()["id"]
    inspect_all()
    content = api.get(f"/datasets/{id}/content").content
    assert list(map(json.loads, content.splitlines())) == [ROWS[0], ROWS[3]]
    assert api.get(f"/datasets/{id}").json()["problem_counts"] == {"near_duplicate_row": 1}


def test_a_repeated_post_makes_one_dataset(api: TestClient, bad_dataset: str) -> None:
    key = {"Idempotency-Key": "once"}
    first = api.post(f"/datasets/{bad_dataset}/clean", headers=key)
    again = api.post(f"/datasets/{bad_dataset}/clean", headers=key)
    assert (first.status_code, first.text) == (again.status_code, again.text)
    other = api.post(f"/datasets/{bad_dataset}/clean", headers=key, params={"drop_duplicates": True})
    assert other.json()["code"] == "idempotency_key_reused"
    assert len(api.get("/datasets").json()["items"]) == 2


def test_cleaning_is_refused_before_the_inspection_and_without_valid_rows(
    api: TestClient, upload: Upload, inspect_all: InspectAll
) -> None:
    id = upload(b'{"text": ""}\n').json()["id"]
    early = api.post(f"/datasets/{id}/clean")
    assert (early.status_code, early.json()["code"]) == (409, "dataset_not_inspected")
    inspect_all()
    refused = api.post(f"/datasets/{id}/clean")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_valid_rows")
    assert inspect_all() == 0


def test_a_source_deleted_before_cleaning_is_reported(
    api: TestClient, bad_dataset: str, inspect_all: InspectAll
) -> None:
    id = api.post(f"/datasets/{bad_dataset}/clean").json()["id"]
    api.delete(f"/datasets/{bad_dataset}")
    assert inspect_all() == 1
    made = api.get(f"/datasets/{id}").json()
    assert (made["state"], made["problem_counts"], made["cleaned_from"]) == (
        "invalid",
        {"source_deleted": 1},
        bad_dataset,
    )


def test_a_cleaned_dataset_deleted_while_it_is_made_leaves_nothing(
    api: TestClient, bad_dataset: str, place: InspectionContext, stored_files: Callable[[], list[Path]]
) -> None:
    id = api.post(f"/datasets/{bad_dataset}/clean").json()["id"]

    class Deleting(Storage):
        def put_file(self, key: str, source: Path, path: str) -> Any:
            assert api.delete(f"/datasets/{id}").status_code == 204
            return super().put_file(key, source, path)

    assert inspect_next(place._replace(storage=Deleting(f"file://{stored_files()[0].parents[2]}")))
    assert api.get(f"/datasets/{id}").status_code == 404
    with transaction(place.sessions) as session:
        deleted_keys = set(session.scalars(select(DeletedObject.storage_key)))
    assert {path.name for path in stored_files()} - {bad_dataset, f"{bad_dataset}.1.hashes"} <= {
        key.rpartition("/")[2] for key in deleted_keys
    }
