"""Serves a job's events as a list."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.db.session import hold_snapshot
from app.errors import JobNotFound
from app.jobs.events.schemas import EventList, EventOut
from app.jobs.repository import JobRepository
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["watching"])


@router.get("/{id}/events", summary="List events", responses=problems(JobNotFound))
def list_events(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    after: Annotated[int, Query(ge=0, le=2**62, description="Only events with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EventList:
    """List events, oldest first, numbered from 1 without gaps.

    A stream that begins after `stream_cursor` continues the list without a gap or a repeat.
    """
    jobs = JobRepository(session)
    hold_snapshot(session)
    job = jobs.get(caller.project_id, id)
    events = jobs.events(caller.project_id, id, after, limit + 1)
    items = [EventOut.model_validate(event) for event in events[:limit]]
    last = items[-1].number if items else job.last_event_number
    return EventList(items=items, next_after=last if len(events) > limit else None, stream_cursor=str(last))
