"""Which worker may take which job: claim, `waiting_for` and the explanation, compared with a plain rule."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, update

from app.db.session import Sessions, transaction
from app.db.tables import Job, Worker
from app.domain.hardware import WorkerHardware
from app.jobs.queue.service import QueueService
from app.projects.lookup import find_or_create_project
from app.projects.service import ProjectService
from app.workers.service import WorkerService
from tests.integration.jobs.conftest import queued_job

L4 = WorkerHardware("gpu-l4", "cuda", 24.0, "NVIDIA L4", 2, {"pool": "a"})
GEFORCE = WorkerHardware("gpu-4090", "cuda", 24.0, "NVIDIA GeForce RTX 4090", 1, {"pool": "b", "zone": "x"})
CPU = WorkerHardware("cpu-1", "cpu", 64.0, "A processor", 0, {"pool": "a"})
Explain = Callable[[str], dict[str, list[str]]]


def register(sessions: Sessions, *machines: WorkerHardware, queue: str = "training", **now: Any) -> None:
    now = {"draining": False, "disk_full": False, "lease": 60} | now
    with transaction(sessions) as session:
        for machine in machines:
            WorkerService(session).register(machine, {}, [queue], **now)


def add_job(sessions: Sessions, project_id: str, **needs: Any) -> str:
    with transaction(sessions) as session:
        job = queued_job(project_id)
        for name, value in needs.items():
            setattr(job, name, value)
        session.add(job)
        session.flush()
        return job.id


def claims(sessions: Sessions, machine: WorkerHardware) -> bool:
    """Return whether the worker claims a job; the claim is rolled back."""
    with sessions() as session, session.begin() as open_transaction:
        taken = QueueService(session).claim(machine, 60) is not None
        open_transaction.rollback()
    return taken


@pytest.fixture
def explain(api: TestClient) -> Explain:
    def ask(job_id: str) -> dict[str, list[str]]:
        answer = api.get("/workers", params={"job": job_id})
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        assert all(each["can_take_job"] is (each["reasons"] == []) for each in items)
        return {each["id"]: [reason["code"] for reason in each["reasons"]] for each in items}

    return ask


@pytest.mark.parametrize("name", ["4090", "RTX 4090", "rtx 4090", "geforce", "NVIDIA GeForce RTX 4090"])
def test_a_gpus_name_matches_as_a_part_in_any_case(
    sessions: Sessions, project_id: str, explain: Explain, name: str
) -> None:
    register(sessions, L4, GEFORCE, CPU)
    id = add_job(sessions, project_id, gpu=[name])
    assert [claims(sessions, machine) for machine in (L4, GEFORCE, CPU)] == [False, True, False]
    assert explain(id) == {"gpu-4090": [], "gpu-l4": ["gpu"], "cpu-1": ["gpu", "gpu_preferred"]}


def test_a_job_whose_needs_no_worker_meets_is_accepted_and_shows_the_reason(
    api: TestClient, sessions: Sessions, make_spec: Callable[..., dict[str, Any]]
) -> None:
    register(sessions, L4, CPU)
    for needs, reason in (
        ({"gpu": ["H100", "H200"]}, "no worker online with a GPU named H100 or H200"),
        ({"gpu": ["l4"], "min_memory_gb": 40}, "no worker online with 40 GB on a GPU named l4"),
        ({"labels": {"pool": "z"}}, "no worker online with the label pool=z"),
        ({"labels": {"pool": "a"}, "gpu": ["H100"]},
         "no worker online with a GPU named H100 among those with the label pool=a"),
        ({"labels": {"pool": "z", "zone": "x"}}, "no worker online with the labels pool=z, zone=x"),
    ):  # fmt: skip
        posted = api.post("/jobs", json=make_spec(resources=needs))
        assert posted.status_code == 201, posted.text
        assert posted.json()["waiting_for"] == reason
        assert posted.json()["spec"]["resources"].items() >= needs.items()


def test_the_reason_is_also_shown_while_the_dataset_is_being_inspected(
    api: TestClient, sessions: Sessions, make_spec: Callable[..., Any], make_dataset: Callable[..., str]
) -> None:
    register(sessions, L4)
    needs = {"dataset_id": make_dataset("inspecting"), "resources": {"gpu": ["H100"]}}
    reason = api.post("/jobs", json=make_spec(**needs)).json()["waiting_for"]
    assert reason == "its dataset is being inspected; no worker online with a GPU named H100"


@pytest.mark.parametrize(
    ("resources", "pointer", "code"),
    [
        ({"gpu": ["4090"], "device": "cpu"}, "/resources", "gpu_with_cpu"),
        ({"gpu": [" "]}, "/resources/gpu/0", "string_pattern_mismatch"),
        ({"labels": {"pool": "a b"}}, "/resources/labels/pool", "string_pattern_mismatch"),
    ],
)
def test_invalid_needs_are_refused(
    api: TestClient, make_spec: Callable[..., Any], resources: dict[str, Any], pointer: str, code: str
) -> None:
    answer = api.post("/jobs", json=make_spec(resources=resources))
    assert answer.status_code == 422
    assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == [(pointer, code)]


def test_auto_takes_no_cpu_while_a_gpu_worker_that_fits_is_registered(
    api: TestClient, sessions: Sessions, project_id: str, explain: Explain
) -> None:
    id = add_job(sessions, project_id)
    register(sessions, CPU)
    assert claims(sessions, CPU)
    register(sessions, L4)
    assert not claims(sessions, CPU)
    assert explain(id) == {"gpu-l4": [], "cpu-1": ["gpu_preferred"]}
    register(sessions, L4, draining=True)
    assert not claims(sessions, CPU)
    assert api.get(f"/jobs/{id}").json()["waiting_for"].startswith("the matching GPU worker is draining")
    register(sessions, L4, lease=0)
    assert claims(sessions, CPU)


def test_auto_takes_a_cpu_if_no_gpu_worker_can_take_the_job(sessions: Sessions, project_id: str) -> None:
    register(sessions, L4, queue="light")
    add_job(sessions, project_id)
    assert claims(sessions, CPU)
    register(sessions, L4)
    assert not claims(sessions, CPU)
    with transaction(sessions) as session:
        session.execute(update(Job).values(min_memory_gb=40))
    assert claims(sessions, CPU)


def test_a_projects_jobs_run_only_on_workers_with_its_labels(
    api: TestClient, sessions: Sessions, project_id: str, explain: Explain, make_spec: Callable[..., Any]
) -> None:
    with transaction(sessions) as session:
        ProjectService(session).change("default", allowed_labels={"pool": ["b", "c"]})
    register(sessions, L4, CPU)
    id = add_job(sessions, project_id)
    reason = "no worker online that the project may use: pool=b or pool=c"
    assert api.get(f"/jobs/{id}").json()["waiting_for"] == reason
    assert explain(id) == {"gpu-l4": ["project_labels"], "cpu-1": ["project_labels"]}
    assert not claims(sessions, L4)
    register(sessions, GEFORCE)
    assert claims(sessions, GEFORCE)

    refused = api.post("/jobs", json=make_spec(resources={"labels": {"pool": "a", "zone": "x"}}))
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/resources/labels/pool", "label_not_allowed")
    assert "pool=b or pool=c" in error["message"]
    assert api.post("/jobs", json=make_spec(resources={"labels": {"pool": "b", "zone": "x"}})).status_code == 201


def test_another_projects_labels_change_nothing(sessions: Sessions, project_id: str) -> None:
    with transaction(sessions) as session:
        find_or_create_project(session, "other")
        ProjectService(session).change("other", allowed_labels={"pool": ["z"]})
    add_job(sessions, project_id)
    assert claims(sessions, L4)


def test_every_reason_is_shown(sessions: Sessions, project_id: str, explain: Explain, api: TestClient) -> None:
    register(sessions, L4, draining=True, disk_full=True)
    register(sessions, GEFORCE, lease=0)
    register(sessions, CPU, queue="light")
    other = add_job(sessions, project_id, device="cuda", priority=9)
    with transaction(sessions) as session:
        held = QueueService(session).claim(GEFORCE, 60)
        assert held is not None
        assert held.id == other
    id = add_job(sessions, project_id, device="cuda", min_memory_gb=30, labels={"pool": "b"})
    assert explain(id) == {
        "gpu-l4": ["draining", "disk_full", "labels", "memory"],
        "gpu-4090": ["offline", "busy", "memory"],
        "cpu-1": ["no_training_queue", "labels", "device"],
    }
    assert explain(other)["gpu-4090"] == ["offline"]
    items = {each["id"]: each for each in api.get("/workers", params={"job": id}).json()["items"]}
    assert items["gpu-l4"]["reasons"][-1]["message"] == "The job requires 30 GB; the worker has 24.0 GB."


def test_a_job_of_another_project_is_not_explained(
    api: TestClient, sessions: Sessions, project_id: str, as_project: Callable[[str], dict[str, str]]
) -> None:
    id = add_job(sessions, project_id)
    for job, headers in ((id, as_project("other")), ("ftjob-nobodys", {}), ("%00", {})):
        answer = api.get("/workers", params={"job": job}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert {each["reasons"] for each in api.get("/workers").json()["items"]} <= {None}


class Case(NamedTuple):
    needs: dict[str, Any]
    allowed: dict[str, list[str]]
    workers: Sequence[WorkerHardware]


def cases(number: int) -> Iterator[Case]:
    draw = random.Random(20)
    labels: list[dict[str, str]] = [{}, {"pool": "a"}, {"pool": "b"}, {"pool": "a", "zone": "x"}]
    names = ["NVIDIA L4", "NVIDIA L40S", "NVIDIA GeForce RTX 4090", None]
    for _ in range(number):
        needs = {
            "device": draw.choice(["auto", "auto", "cuda", "cpu"]),
            "gpu": draw.choice([[], [], ["l4"], ["L40"], ["4090", "h100"]]),
            "min_memory_gb": draw.choice([0, 0, 20, 50]),
            "labels": draw.choice(labels),
        }
        workers = [
            WorkerHardware(f"w{n}", device, draw.choice([16.0, 24.0, 64.0]), name if device == "cuda" else "CPU",
                    1 if device == "cuda" else 0, draw.choice(labels))
            for n in range(draw.randint(1, 3))
            for device, name in [(draw.choice(["cuda", "cpu"]), draw.choice(names))]
        ]  # fmt: skip
        yield Case(needs, draw.choice([{}, {}, {"pool": ["a"]}, {"pool": ["a", "b"], "zone": ["x"]}]), workers)


def suits(case: Case, worker: WorkerHardware) -> bool:
    """The rule as docs/deploy.md describes it, apart from what `auto` prefers."""
    needs = case.needs
    name = (worker.device_name or "").lower()
    return (
        all(worker.labels.get(key) in values for key, values in case.allowed.items())
        and needs["labels"].items() <= worker.labels.items()
        and needs["device"] in ("auto", worker.device)
        and (not needs["gpu"] or (worker.device == "cuda" and any(part.lower() in name for part in needs["gpu"])))
        and needs["min_memory_gb"] <= worker.memory_gb
    )


def test_claim_waiting_and_explanation_follow_one_rule(
    sessions: Sessions, project_id: str, api: TestClient, explain: Explain
) -> None:
    outcomes = set()
    for case in cases(60):
        with transaction(sessions) as session:
            session.execute(delete(Worker))
            session.execute(delete(Job))
            ProjectService(session).change("default", allowed_labels=case.allowed)
        register(sessions, *case.workers)
        id = add_job(sessions, project_id, **case.needs)
        fitting = {worker.worker_id for worker in case.workers if suits(case, worker)}
        gpus = {worker.worker_id for worker in case.workers if worker.device == "cuda"} & fitting
        expected = gpus if gpus and case.needs["device"] == "auto" else fitting
        assert {worker.worker_id for worker in case.workers if claims(sessions, worker)} == expected, case
        assert {name for name, reasons in explain(id).items() if not reasons} == expected, case
        reason = api.get(f"/jobs/{id}").json()["waiting_for"]
        assert reason.startswith("no worker online") is not bool(expected), (case, reason)
        outcomes.add((bool(expected), case.needs["device"]))
    assert len(outcomes) == 6
