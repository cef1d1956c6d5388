"""The cost of polling, and answers that a client does not fetch again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, event, func, select, text, update
from sqlalchemy.orm import Session

from app.db.session import Sessions, transaction
from app.db.tables import Adapter, ApiKey, Dataset, Job, Project, Worker
from app.domain.hardware import WorkerHardware
from app.domain.ids import new_id
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.main import create_app
from app.settings import Settings
from app.web import key_cache
from app.workers.service import WorkerService

Post = Callable[..., str]
Take = Callable[..., Claim | None]
PATHS = ("/jobs/{}", "/jobs", "/v1/fine_tuning/jobs/{}", "/v1/fine_tuning/jobs")


@pytest.fixture
def online(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        machine = WorkerHardware("here-1", "cpu", 16.0)
        WorkerService(session).register(machine, {}, ["training"], draining=False, disk_full=False, lease=60)


@contextmanager
def counted(api: TestClient) -> Iterator[dict[str, int]]:
    """Count the statements of the app's two connection pools; the second pool runs all of its own in transactions."""
    app = api.app
    assert isinstance(app, FastAPI)
    engines = {"reads": app.state.reads._engine, "transactions": app.state.sessions.kw["bind"]}
    counts = dict.fromkeys(engines, 0)

    def count_for(name: str) -> Callable[..., None]:
        def count(*_: object) -> None:
            counts[name] += 1

        return count

    listeners = [(engine, count_for(name)) for name, engine in engines.items()]
    for engine, listener in listeners:
        event.listen(engine, "before_cursor_execute", listener)
    try:
        yield counts
    finally:
        for engine, listener in listeners:
            event.remove(engine, "before_cursor_execute", listener)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("path", PATHS)
def test_a_poll_is_one_statement_and_no_transaction(
    api: TestClient,
    post: Post,
    claim: Take,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """With an API key that is in the cache."""
    monkeypatch.setattr(key_cache, "KEEP_SECONDS", 60)
    with transaction(sessions) as session:
        session.execute(update(ApiKey).values(last_used_at=func.now()))
    running = post()
    assert claim()
    for id in (running, post()):
        assert api.get(path.format(id)).status_code == 200
        with counted(api) as counts:
            assert api.get(path.format(id)).status_code == 200
        assert counts == {"reads": 1, "transactions": 0}


def test_reads_open_no_transaction(api: TestClient) -> None:
    """In autocommit there is no BEGIN and no COMMIT to send."""
    assert isinstance(api.app, FastAPI)
    reads = api.app.state.reads
    autocommit = reads.ask(lambda connection: connection.connection.dbapi_connection.autocommit)
    assert autocommit is True
    began = reads.ask(lambda connection: [connection.scalar(text("SELECT now()")) for _ in range(2)])
    assert began[0] < began[1]


def test_a_poll_survives_the_loss_of_every_connection(api: TestClient, post: Post, engine: Engine) -> None:
    """As after a restart of PostgreSQL: there is no ping before a query, but a query that fails is repeated."""
    path = f"/jobs/{post()}"
    assert api.get(path).status_code == 200
    with engine.connect() as connection:
        others = "pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user"
        assert connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")).all()
    assert api.get(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_that_the_client_has_is_not_sent_again(api: TestClient, post: Post, path: str) -> None:
    id = post()
    path = path.format(id)
    first = api.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = api.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == tag
    for other in ('"other"', tag.strip('"')):
        assert api.get(path, headers={"If-None-Match": other}).content == first.content
    api.post(f"/jobs/{id}/cancel")
    changed = api.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


@pytest.mark.usefixtures("online")
def test_the_tag_covers_what_a_job_waits_for(api: TestClient, post: Post) -> None:
    """The position in the queue changes without a write to the job."""
    first, second = post(), post()
    seen = api.get(f"/jobs/{second}")
    assert seen.json()["queue_position"] == 2
    api.post(f"/jobs/{first}/cancel")
    moved = api.get(f"/jobs/{second}", headers={"If-None-Match": seen.headers["etag"]})
    assert (moved.status_code, moved.json()["queue_position"]) == (200, 1)


@pytest.mark.usefixtures("online")
def test_the_tag_changes_with_everything_that_a_job_shows(
    api: TestClient, post: Post, claim: Take, sessions: Sessions, project_id: str
) -> None:
    """For a queued job, which shows many changes that are not in its row, and for a running one."""
    first, id = post(priority=1), post()
    adapter = Adapter(id=new_id("model"), project_id=project_id, job_id=id, name="one", base_model="tiny", manifest={})
    this_job = update(Job).where(Job.id == id)
    dataset = update(Dataset).where(
        Dataset.id == select(Job.spec["dataset_id"].astext).where(Job.id == id).scalar_subquery()
    )

    def plan(session: Session) -> None:
        held = Claim(project_id, id, 1, session.scalars(select(Job.claim_token).where(Job.id == id)).one() or "")
        AttemptService(session, held).plan({"training": {"batch_size": 3}}, 10, 0)

    changes: dict[str, Callable[[Session], object]] = {
        "nothing yet": lambda _: None,
        "its turn has come": lambda _: api.post(f"/jobs/{first}/cancel"),
        "the worker drains": lambda session: session.execute(update(Worker).values(draining=True)),
        "the worker is back": lambda session: session.execute(update(Worker).values(draining=False)),
        "the project may run none": lambda session: session.execute(update(Project).values(max_running_jobs=0)),
        "the project may run all": lambda session: session.execute(update(Project).values(max_running_jobs=None)),
        "its dataset is inspected": lambda session: session.execute(dataset.values(state="inspecting")),
        "its dataset is ready": lambda session: session.execute(dataset.values(state="ready")),
        "it waits for its machine": lambda session: session.execute(this_job.values(resume_machine="0" * 64)),
        "it waits no more": lambda session: session.execute(this_job.values(resume_machine=None)),
        "it runs": lambda _: claim(),
        "it has decided": plan,
        "it has learned": lambda session: session.execute(this_job.values(step=2)),
        "it has an adapter": lambda session: session.add(adapter),
        "it has none": lambda session: session.execute(delete(Adapter)),
    }
    tag, tags = "", set()
    for name, change in changes.items():
        with transaction(sessions) as session:
            change(session)
        polled = api.get(f"/jobs/{id}", headers={"If-None-Match": tag})
        assert (polled.status_code, polled.content) == (200, api.get(f"/jobs/{id}").content), name
        tag = polled.headers["etag"]
        tags.add(tag)
        assert api.get(f"/jobs/{id}", headers={"If-None-Match": tag}).status_code == 304, name
    assert len(tags) == len(changes) - 5  # that many changes undo the one before them


@pytest.mark.usefixtures("online")
def test_a_known_tag_costs_less_than_a_full_answer(api: TestClient, post: Post, claim: Take) -> None:
    """Only the version is read from the job's row."""
    running = post()
    assert claim()
    assert isinstance(api.app, FastAPI)
    asked: list[str] = []
    event.listen(api.app.state.reads._engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    for id in (running, post()):
        tag = api.get(f"/jobs/{id}").headers["etag"]
        asked.clear()
        assert api.get(f"/jobs/{id}", headers={"If-None-Match": tag}).status_code == 304
        [asked_of_jobs] = [statement for statement in asked if "FROM jobs" in statement]
        assert "jobs.spec" not in asked_of_jobs.split("FROM")[0]


def test_head_returns_the_tag_without_a_body(api: TestClient, post: Post) -> None:
    path = f"/jobs/{post()}"
    shown, head = api.get(path), api.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == shown.headers["etag"]
    assert head.headers["content-length"] == str(len(shown.content))


def test_tags_are_equal_on_every_server(api: TestClient, post: Post, settings: Settings) -> None:
    """Behind a load balancer, the next poll may reach another process."""
    path = f"/jobs/{post()}"
    with TestClient(create_app(settings)) as other:
        assert other.get(path, headers=api.headers).headers["etag"] == api.get(path).headers["etag"]
