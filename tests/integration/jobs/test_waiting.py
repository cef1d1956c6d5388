"""The reason why a queued job waits, and its position in the queue."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, func, text, update

from app.db.session import Sessions, transaction
from app.db.tables import Job, Worker
from app.domain.hardware import WorkerHardware
from app.jobs.queue.repository import Claim
from app.jobs.shown import find_shown
from app.jobs.wait_reason import ordinal
from app.projects.lookup import find_or_create_project
from app.projects.service import ProjectService
from app.workers.service import WorkerService
from tests.integration.jobs.conftest import queued_job

Post = Callable[..., str]
Take = Callable[..., Claim | None]
WaitsFor = Callable[[str], str | None]
Online = Callable[..., None]

SMALL = WorkerHardware("small", "cuda", 16.0)
BIG = WorkerHardware("big", "cuda", 40.0)
CPU = WorkerHardware("cpu", "cpu", 64.0)
NEEDS_24 = {"min_memory_gb": 24}


@pytest.fixture
def online(sessions: Sessions) -> Online:
    def show(*machines: WorkerHardware, queue: str = "training", draining: bool = False, full: bool = False) -> None:
        with transaction(sessions) as session:
            for machine in machines:
                WorkerService(session).register(machine, {}, [queue], draining=draining, disk_full=full, lease=60)

    return show


@pytest.fixture
def waits_for(api: TestClient) -> WaitsFor:
    def ask(id: str) -> str | None:
        answer = api.get(f"/jobs/{id}")
        assert answer.status_code == 200, answer.text
        reason: str | None = answer.json()["waiting_for"]
        return reason

    return ask


def test_without_a_worker_a_job_waits_for_one(post: Post, waits_for: WaitsFor) -> None:
    assert waits_for(post()) == "no worker online"


def test_a_job_shows_the_memory_that_no_worker_has(post: Post, waits_for: WaitsFor, online: Online) -> None:
    id = post(resources=NEEDS_24)
    online(SMALL)
    assert waits_for(id) == "no worker online with 24 GB"
    online(BIG)
    assert waits_for(id) == "1st in queue"


def test_only_memory_on_the_requested_device_counts(post: Post, waits_for: WaitsFor, online: Online) -> None:
    id = post(resources=NEEDS_24 | {"device": "cuda"})
    online(CPU)
    assert waits_for(id) == "no worker online with a CUDA device"
    online(SMALL)
    assert waits_for(id) == "no worker online with 24 GB on a CUDA device"
    online(BIG)
    assert waits_for(id) == "1st in queue"


def test_a_job_for_the_cpu_shows_that_no_cpu_worker_is_online(post: Post, waits_for: WaitsFor, online: Online) -> None:
    online(BIG)
    assert waits_for(post(resources={"device": "cpu"})) == "no worker online that trains on its CPU"
    online(CPU)
    more = {"device": "cpu", "min_memory_gb": 64.5}
    assert waits_for(post(resources=more)) == "no worker online with 64.5 GB that trains on its CPU"


@pytest.mark.parametrize("machine", [SMALL, BIG, CPU], ids=lambda machine: machine.worker_id)
def test_no_worker_fits_is_shown_exactly_when_none_can_claim(
    api: TestClient, post: Post, waits_for: WaitsFor, online: Online, claim: Take, machine: WorkerHardware
) -> None:
    """The reason comes from one query and the claim from another: they must agree."""
    online(machine)
    for device, memory in product(("auto", "cuda", "cpu"), (0, 16, 17, 65)):
        id = post(resources={"device": device, "min_memory_gb": memory})
        is_short = str(waits_for(id)).startswith("no worker online")
        assert (claim(machine) is None) is is_short, (device, memory)
        api.post(f"/jobs/{id}/cancel")


def test_workers_that_take_no_jobs_do_not_count(
    sessions: Sessions, post: Post, waits_for: WaitsFor, online: Online
) -> None:
    id = post()
    online(CPU, queue="light")
    online(BIG, draining=True)
    assert waits_for(id) == "no worker online"
    online(SMALL)
    assert waits_for(id) == "1st in queue"
    with transaction(sessions) as session:
        session.execute(update(Worker).values(online_until=func.clock_timestamp()))
    assert waits_for(id) == "no worker online"


def test_a_job_shows_that_no_worker_has_free_disk_space(post: Post, waits_for: WaitsFor, online: Online) -> None:
    id = post(resources=NEEDS_24)
    online(SMALL)
    online(BIG, full=True)
    assert waits_for(id) == "no worker online with free disk space"
    assert waits_for(post(resources=NEEDS_24 | {"device": "cpu"})) == "no worker online that trains on its CPU"
    online(CPU._replace(device="cuda"))
    assert waits_for(id) == "1st in queue"


def test_an_inspection_is_shown_before_other_reasons(
    post: Post, make_dataset: Callable[..., str], waits_for: WaitsFor, online: Online
) -> None:
    id = post(dataset_id=make_dataset("inspecting"), resources=NEEDS_24)
    assert waits_for(id) == "its dataset is being inspected"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [(1, "the project's limit of 1 running job is reached"), (2, "the project's limit of 2 running jobs is reached")],
)
def test_a_reached_limit_is_shown(
    sessions: Sessions, post: Post, claim: Take, waits_for: WaitsFor, online: Online, limit: int, reason: str
) -> None:
    online(BIG)
    with transaction(sessions) as session:
        ProjectService(session).change("default", max_running_jobs=limit)
    ids = [post() for _ in range(limit + 1)]
    for _ in range(limit):
        assert str(waits_for(ids[-1])).endswith(" in queue")
        assert claim(BIG)
    assert waits_for(ids[-1]) == reason


def test_positions_are_the_order_of_the_claims(
    sessions: Sessions, project_id: str, api: TestClient, post: Post, claim: Take
) -> None:
    """Also for jobs of equal age, which two transactions in one microsecond can create."""
    ids = [post(priority=priority) for priority in (0, 5, 0, -3, 5, 0, -3, 1) for _ in range(2)]
    with transaction(sessions) as session:
        session.execute(update(Job).where(Job.id.in_(ids[8:])).values(created_at=func.now()))
        session.execute(update(Job).where(Job.id.in_(ids[:4])).values(created_at=func.now() - timedelta(hours=1)))
    places = {id: api.get(f"/jobs/{id}").json()["queue_position"] for id in ids}
    assert sorted(places.values()) == list(range(1, len(ids) + 1))
    for expected in sorted(ids, key=lambda id: places[id]):
        held = claim()
        assert held is not None
        assert held.job_id == expected
        assert api.get(f"/jobs/{expected}").json()["queue_position"] is None
        assert api.get(f"/jobs/{expected}").json()["waiting_for"] is None


def test_all_projects_share_one_queue(sessions: Sessions, post: Post, online: Online, api: TestClient) -> None:
    online(BIG)
    with transaction(sessions) as session:
        stranger = find_or_create_project(session, "stranger")
        session.add_all(queued_job(stranger) for _ in range(2))
    job = api.get(f"/jobs/{post()}").json()
    assert (job["queue_position"], job["waiting_for"]) == (3, "3rd in queue")
    [listed] = api.get("/jobs").json()["items"]
    assert (listed["queue_position"], listed["waiting_for"]) == (None, None)


def test_a_position_is_read_from_the_queues_index(sessions: Sessions, engine: Engine, project_id: str) -> None:
    """Only the queued jobs before it are read, however many jobs have ended."""
    with transaction(sessions) as session:
        session.add(mine := queued_job(project_id))
        session.flush()
        copies = text(
            "INSERT INTO jobs"
            " (id, project_id, state, priority, base_model, method, spec, metadata, min_memory_gb, device)"
            " SELECT 'ftjob-' || md5(:state || n), project_id, :state, n % 3, base_model, method, spec, metadata,"
            " min_memory_gb, device FROM jobs, generate_series(1, :count) n WHERE id = :id"
        )
        for state, count in (("succeeded", 4000), ("queued", 200)):
            session.execute(copies, {"state": state, "count": count, "id": mine.id})
        session.execute(text("ANALYZE jobs"))
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
    with transaction(sessions) as session:
        urgent = sum(number % 3 > 0 for number in range(1, 201))
        standing = find_shown(session.connection(), project_id, mine.id).standing
        assert standing
        assert standing.position == 1 + urgent
        [(query, values)] = asked
        plan = session.connection().exec_driver_sql(f"EXPLAIN {query}", values).scalars().all()
    assert "ix_jobs_queue" in "\n".join(plan)


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"),
     (102, "102nd"), (111, "111th"), (1003, "1,003rd")],
)  # fmt: skip
def test_ordinals(number: int, word: str) -> None:
    assert ordinal(number) == word
