"""Runs the real services on a database for the state machine, and reads what the database then shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, delete, func, text, update

from app.db.session import open_sessions, transaction
from app.db.tables import Dataset, DeletedObject, Job, OutboxRow, Project, RegisteredModel
from app.domain.ids import new_id
from app.projects.lookup import find_or_create_project

SHOWN = text("""
    SELECT id, retry_of, state, attempt, worker_id,
        lease_until IS NOT NULL AS leased, finished_at IS NOT NULL AS finished,
        (SELECT coalesce(bool_or(active), false) FROM dataset_uses WHERE job_id = jobs.id) AS in_use,
        failed_attempts, lost_attempts, lost_attempts_without_progress AS fruitless, failure_reason AS reason,
        step, last_event_number,
        ARRAY(SELECT number FROM job_events WHERE job_id = jobs.id ORDER BY number) AS numbers,
        ARRAY(SELECT type FROM job_events WHERE job_id = jobs.id ORDER BY number) AS history,
        ARRAY(SELECT number || ' ' || coalesce(outcome, 'open') FROM attempts
              WHERE job_id = jobs.id ORDER BY number) AS attempts,
        ARRAY(SELECT attempt || ' ' || name || ' ' || step || ': ' || value FROM metric_values
              WHERE job_id = jobs.id ORDER BY attempt, name, step) AS points,
        ARRAY(SELECT step || ' ' || attempt FROM checkpoints
              WHERE job_id = jobs.id ORDER BY step, attempt) AS checkpoints,
        ARRAY(SELECT attempt || ' ' || path FROM artifacts
              WHERE job_id = jobs.id ORDER BY attempt, path COLLATE "C") AS artifacts
    FROM jobs ORDER BY created_at
""")


class World:
    """Two projects; the second may run one job at a time."""

    def __init__(self, database_url: str) -> None:
        # No ping before each transaction: the state machine opens a hundred thousand of them.
        self.engine = create_engine(database_url)
        self.sessions = open_sessions(self.engine)
        with transaction(self.sessions) as session:
            self.projects = [find_or_create_project(session, name) for name in ("one", "two")]
            session.add(base_model())
            session.execute(update(Project).where(Project.id == self.projects[1]).values(max_running_jobs=1))

    def clear(self) -> None:
        with transaction(self.sessions) as session:
            for table in (Job, Dataset, OutboxRow, DeletedObject):
                session.execute(delete(table))

    def shown(self) -> list[dict[str, Any]]:
        """Return every job with its attempts, events, metrics and files, oldest first."""
        with transaction(self.sessions) as session:
            return [dict(row) for row in session.execute(SHOWN).mappings()]

    def add_dataset(self, project_id: str, state: str) -> str:
        id = new_id("file")
        with transaction(self.sessions) as session:
            session.add(dataset(project_id, id, state))
        return id

    def let_lease_run_out(self, id: str) -> None:
        """Expire the job's lease, as if its worker had sent no heartbeat."""
        with transaction(self.sessions) as session:
            session.execute(update(Job).where(Job.id == id).values(lease_until=func.to_timestamp(0)))


@contextmanager
def opened(database_url: str) -> Iterator[World]:
    world = World(database_url)
    try:
        yield world
    finally:
        world.engine.dispose()


def base_model() -> RegisteredModel:
    return RegisteredModel(
        id=new_id("model"),
        name="tiny",
        state="ready",
        source="/nowhere",
        revision="1" * 64,
        architecture="LlamaForCausalLM",
        num_parameters=1000,
        max_seq_len=128,
        linear_modules=["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"],
        config={},
    )


def dataset(project_id: str, id: str, state: str) -> Dataset:
    key = f"{project_id}/datasets/{id}"
    return Dataset(
        id=id, project_id=project_id, filename="rows.jsonl", state=state, storage_key=key, size=10, sha256="0" * 64
    )
