"""A database trigger refuses every state change of a job that TRANSITIONS does not list."""

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.tables import Job
from app.domain.ids import new_id
from app.domain.jobs.state import TRANSITIONS, JobState
from app.projects.lookup import find_or_create_project


def insert_job(session: Session, state: JobState) -> str:
    job = Job(
        id=new_id("ftjob"),
        project_id=find_or_create_project(session, "default"),
        state=state,
        priority=0,
        base_model="tiny",
        method="lora",
        spec={},
        metadata_={},
        min_memory_gb=0,
        device="auto",
    )
    session.add(job)
    session.flush()
    return job.id


def test_the_trigger_allows_only_the_listed_transitions(session: Session) -> None:
    for state in JobState:
        id = insert_job(session, state)
        for next_state in JobState:
            attempt = session.begin_nested()
            change = update(Job).where(Job.id == id).values(state=next_state)
            if next_state is state or next_state in TRANSITIONS[state]:
                session.execute(change)
            else:
                with pytest.raises(IntegrityError, match=f"job {id} cannot go from {state} to {next_state}"):
                    session.execute(change)
            attempt.rollback()


def test_the_trigger_refuses_plain_sql_too(session: Session) -> None:
    insert_job(session, JobState.succeeded)
    with pytest.raises(IntegrityError, match="cannot go from succeeded to queued"):
        session.execute(text("UPDATE jobs SET state = 'queued'"))


def test_other_columns_of_a_final_job_may_change(session: Session) -> None:
    id = insert_job(session, JobState.failed)
    session.execute(update(Job).where(Job.id == id).values(last_event_number=7))
    assert session.get_one(Job, id, populate_existing=True).last_event_number == 7
