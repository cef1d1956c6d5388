"""Serves a job's events, and its live stream of events and metric points as server-sent events."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse

from app.db.session import transaction
from app.errors import InvalidCursor, JobNotFound
from app.jobs.events.schemas import EventList, EventOut
from app.jobs.events.stream import StreamBatch, StreamCursor, follow, look
from app.jobs.repository import JobRepository
from app.web.auth import CallerDep, is_still_allowed
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
    """List events, oldest first, numbered from 1 without gaps."""
    jobs = JobRepository(session)
    jobs.get(caller.project_id, id)
    events = jobs.events(caller.project_id, id, after, limit + 1)
    items = [EventOut.model_validate(event) for event in events[:limit]]
    return EventList(items=items, next_after=items[-1].number if len(events) > limit else None)


async def get_place(
    last_event_id: Annotated[
        str | None, Header(description="The `id` of the last event received; the stream continues after it.")
    ] = None,
) -> StreamCursor | None:
    return StreamCursor.decode(last_event_id) if last_event_id else None


@router.get(
    "/{id}/stream",
    summary="Stream a job",
    # Not EventSourceResponse: FastAPI would take the handler itself for the generator of events.
    response_class=Response,
    responses=problems(JobNotFound, InvalidCursor)
    | {
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job has finished and everything was sent; do not reconnect."},
    },
)
async def stream_job(
    request: Request, id: str, caller: CallerDep, place: Annotated[StreamCursor | None, Depends(get_place)]
) -> Response:
    """Stream server-sent events: `job_event` (an event), `metrics` (a metric point) and finally `end` (the final
    state).

    The stream begins with everything since the job's creation and continues live. A client that reconnects with
    `Last-Event-ID` gets every event exactly once. After everything was sent, the answer is 204. The stream ends within
    five seconds after its API key or session becomes invalid.
    """
    state, begin = request.app.state, place or StreamCursor()

    def first_look() -> StreamBatch:
        with transaction(state.sessions, "stream_job") as session:
            return look(session, caller.project_id, id, begin)

    # Do not query for a client that has disconnected: many readers that reconnect too soon would leave no queries for
    # the others.
    gone = await request.is_disconnected()
    found = None if gone else await run_in_threadpool(first_look)
    if found is None or (place and found.is_over):
        return Response(status_code=204)
    is_allowed = partial(is_still_allowed, request, caller)
    stream = follow(state.sessions, state.redis, caller.project_id, id, begin, found, is_allowed)
    return EventSourceResponse(stream, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
