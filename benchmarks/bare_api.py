"""Serves bare handlers as the baseline for the API: `python -m benchmarks.bare_api FD DATABASE_URL`.

They use plain FastAPI and SQLAlchemy: sync handlers, no pre-ping, one SELECT by id and project, and for a creation one
transaction that inserts the same rows as a job's. There are no keys, no validation and no response schema.
"""

import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from app.db.tables import DatasetUse, Job, JobEvent, OutboxRow
from app.domain.ids import new_id
from app.outbox import TASKS

PAGE = 20


class Base(DeclarativeBase):
    pass


class BareJob(Base):
    """Stores a response of the API, so that the JSON has the same size."""

    __tablename__ = "bare_jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)


def create_app(engine: Engine) -> FastAPI:
    app = FastAPI()
    sessions = sessionmaker(engine, expire_on_commit=False)

    @app.get("/{project_id}/jobs/{id}")
    def get_job(project_id: str, id: str) -> JSONResponse:
        with sessions() as session:
            query = select(BareJob).where(BareJob.id == id, BareJob.project_id == project_id)
            return JSONResponse(session.scalars(query).one().body)

    @app.get("/{project_id}/jobs")
    def list_jobs(project_id: str) -> JSONResponse:
        with sessions() as session:
            query = select(BareJob).where(BareJob.project_id == project_id).order_by(BareJob.id.desc()).limit(PAGE)
            return JSONResponse({"items": [job.body for job in session.scalars(query)]})

    @app.post("/{project_id}/jobs")
    def post_job(project_id: str, spec: dict[str, Any]) -> JSONResponse:
        with sessions.begin() as session:
            answer = session.scalars(select(BareJob).where(BareJob.project_id == project_id).limit(1)).one().body
            add_rows(session, project_id, spec, answer["spec"])
            return JSONResponse(answer, 201)

    return app


def add_rows(session: Session, project_id: str, asked: dict[str, Any], filled: dict[str, Any]) -> None:
    """Insert the rows of a new job: the job, its first event, its use of a dataset, and a wake-up for a worker."""
    id, dataset_id = new_id("ftjob"), asked["dataset_id"]
    job = Job(
        id=id, project_id=project_id, state="queued", priority=0, base_model=asked["base_model"], method="qlora",
        spec=filled, metadata_=asked.get("metadata", {}), min_memory_gb=0, device="auto", last_event_number=1,
    )  # fmt: skip
    session.add(job)
    session.flush()
    event = {"number": 1, "type": "job_created", "level": "info", "message": "The job was created.", "data": {}}
    session.add(JobEvent(project_id=project_id, job_id=id, **event))
    session.add(DatasetUse(project_id=project_id, dataset_id=dataset_id, job_id=id, role="training"))
    task = TASKS["training"]
    session.add(OutboxRow(project_id=project_id, queue=task.queue, task=task.name))


def main() -> None:
    engine = create_engine(sys.argv[2], pool_size=10, max_overflow=20)
    config = uvicorn.Config(create_app(engine), access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
