"""The light worker checks two datasets for an overlap; a job's worker warns of one between the job's datasets."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.datasets.repository import DatasetRepository
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetCheck, JobEvent
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.settings import Settings
from app.storage import Storage
from tests.integration.dataset_checks.conftest import HERE
from worker.attempt.overlap_check import warn_of_overlap

Send = Callable[[list[Any]], str]
Do = Callable[[], int]
TRAINING = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(40)]
VALIDATION = [TRAINING[3], {"prompt": " 7+7= ", "completion": "14"}, {"prompt": "1+2=", "completion": "3"}]


@pytest.fixture
def both(send: Send) -> tuple[str, str]:
    return send(TRAINING), send(VALIDATION)


def ask(api: TestClient, id: str, other: str) -> str:
    answer = api.post(f"/datasets/{id}/overlaps", json={"validation_dataset_id": other})
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def test_an_overlap_check_waits_for_both_inspections(
    api: TestClient, both: tuple[str, str], inspect_all: Do, run_all_checks: Do
) -> None:
    url = ask(api, *both)
    assert run_all_checks() == 0
    assert inspect_all() == 2
    assert run_all_checks() == 1
    done = api.get(url).json()
    assert (done["state"], done["dataset_id"], done["validation_dataset_id"]) == ("ready", *both)
    assert done["totals"] == {"num_rows": 40, "num_validation_rows": 3, "num_exact": 1, "num_normalised": 2}
    assert done["pairs"] == [
        {"validation_line": 1, "line": 4, "exact": True},
        {"validation_line": 2, "line": 8, "exact": False},
    ]
    [listed] = api.get(f"/datasets/{both[0]}/overlaps").json()["items"]
    assert listed == {name: value for name, value in done.items() if name != "pairs"}
    assert api.get(f"/datasets/{both[0]}/overlaps?state=pending&status=failed").json()["items"] == []
    assert api.get(f"/datasets/{both[0]}/previews").json()["items"] == []


def test_an_overlap_check_is_deleted_with_either_dataset(
    api: TestClient, both: tuple[str, str], sessions: Sessions
) -> None:
    ask(api, *both)
    assert api.delete(f"/datasets/{both[1]}").status_code == 204
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(DatasetCheck)) == 0


def test_datasets_that_cannot_be_compared_are_refused_or_fail_the_check(
    api: TestClient, both: tuple[str, str], send: Send, inspect_all: Do, run_all_checks: Do, sessions: Sessions
) -> None:
    bad = send([{"prompt": "a", "completion": ""}])
    waiting = ask(api, both[0], bad)
    inspect_all()
    run_all_checks()
    assert api.get(waiting).json()["failure"]["code"] == "dataset_invalid"
    for raw, expected in (
        ({}, ("/validation_dataset_id", "missing")),
        ({"validation_dataset_id": "x"}, ("/validation_dataset_id", "string_pattern_mismatch")),
        ({"validation_dataset_id": "file-" + "0" * 24}, ("/validation_dataset_id", "dataset_not_found")),
        ({"validation_dataset_id": bad}, ("/validation_dataset_id", "dataset_invalid")),
        ({"validation_dataset_id": both[1], "x": 1}, ("/x", "unknown_field")),
    ):
        answer = api.post(f"/datasets/{both[0]}/overlaps", json=raw)
        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (422, *expected)
    answer = api.get(f"/datasets/{both[0]}/overlaps/overlap-" + "0" * 24)
    assert (answer.status_code, answer.json()["code"]) == (404, "overlap_not_found")
    with transaction(sessions) as session:
        session.execute(update(Dataset).where(Dataset.id == both[1]).values(hashes_key="nowhere"))
    url = ask(api, *both)
    run_all_checks()
    assert api.get(url).json()["failure"]["code"] == "file_missing"


def test_a_jobs_worker_warns_of_an_overlap_once(
    api: TestClient,
    model: str,
    both: tuple[str, str],
    inspect_all: Do,
    sessions: Sessions,
    settings: Settings,
    project_id: str,
    tmp_path: Any,
) -> None:
    inspect_all()
    spec = {"base_model": model, "dataset_id": both[0], "validation_dataset_id": both[1], "training": {"epochs": 1}}
    assert api.post("/jobs", json=spec).status_code == 201
    with transaction(sessions) as session:
        job = QueueService(session).claim(HERE, 60)
        assert job is not None
        claim = Claim(project_id, job.id, job.attempt, job.claim_token or "")
        training, validation = (DatasetRepository(session).find(project_id, id) for id in both)
        assert training is not None
        assert validation is not None

    def write(change: Callable[[AttemptService], None], step: str) -> None:
        with transaction(sessions, step) as session:
            change(AttemptService(session, claim))

    storage = Storage(settings.storage)
    for _ in range(2):
        warn_of_overlap(storage, tmp_path, training, validation, write)
    validation.hashes_key = "nowhere"
    warn_of_overlap(storage, tmp_path, training, validation, write)
    with transaction(sessions) as session:
        [event] = session.scalars(select(JobEvent).where(JobEvent.type == "validation_overlap")).all()
    assert event.level == "warn"
    assert (event.data["num_exact"], event.data["num_normalised"]) == (1, 2)
    assert event.message.startswith("2 of 3 validation rows are also training rows, 1 of them exactly")
