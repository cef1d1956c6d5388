"""Serves live streams of jobs as server-sent events."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse

from app.domain.caller import Caller
from app.domain.ids import is_id
from app.errors import BadRequest, InvalidCursor, JobNotFound
from app.jobs.watching.access import AccessCheck
from app.jobs.watching.cursors import StreamCursor, decode_cursors
from app.jobs.watching.framing import Framing, OneJob, SeveralJobs
from app.jobs.watching.hub import JobHub
from app.jobs.watching.project_streaming import stream_project
from app.jobs.watching.project_watcher import ProjectHub
from app.jobs.watching.streaming import Part, leave, stream_parts
from app.jobs.watching.watcher import StreamReader
from app.web.auth import CallerDep, is_still_allowed
from app.web.problems import problems

router = APIRouter(tags=["watching"])
MOST_JOBS: Final = 8
ALL: Final = "*"

Answers = dict[int | str, dict[str, Any]]
STREAM: Final[Answers] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
OVER: Final[Answers] = {204: {"description": "Everything has finished and was sent; do not reconnect."}}
LastEventId = Annotated[
    str | None,
    Header(description="The `id` of the last event received; the stream continues after it. It wins over `after`."),
]
After = Annotated[
    str | None,
    Query(max_length=4000, description="The position after which the stream begins, in the form of an event's `id`."),
]


async def get_position(last_event_id: LastEventId = None, after: After = None) -> str:
    return last_event_id or after or ""


PositionDep = Annotated[str, Depends(get_position)]


@router.get(
    "/jobs/{id}/stream",
    summary="Stream a job",
    # Not EventSourceResponse: FastAPI would take the handler itself for the generator of events.
    response_class=Response,
    responses=problems(JobNotFound, InvalidCursor) | STREAM | OVER,
)
async def stream_job(request: Request, id: str, caller: CallerDep, position: PositionDep) -> Response:
    """Stream server-sent events: `job_event` (an event), `metrics` (a metric point) and finally `end` (the final
    state).

    The stream begins with everything since the job's creation, or after `after`, and continues live. A client that
    reconnects with `Last-Event-ID` gets every event exactly once. After everything was sent, the answer is 204. The
    stream ends within five seconds after its API key or session becomes invalid.
    """
    places = {id: StreamCursor.decode(position)} if position else {}
    return await _stream(request, caller, [id], places, OneJob(), shows_values=False)


@router.get(
    "/stream",
    summary="Stream jobs",
    response_class=Response,
    responses=problems(JobNotFound, InvalidCursor, BadRequest) | STREAM | OVER,
)
async def stream_jobs(
    request: Request,
    caller: CallerDep,
    position: PositionDep,
    job: Annotated[
        list[str],
        Query(
            min_length=1,
            max_length=MOST_JOBS,
            description="A job's id; may be repeated. `*` alone stands for the list of the project's jobs.",
        ),
    ],
) -> Response:
    """Stream several jobs over one connection: the events of `GET /jobs/{id}/stream`, each with `job_id`.

    In addition, `job` has the present values of a job's changing fields: at the beginning of each connection, and after
    each change, at most once a second per job. A job that is deleted ends with `deleted` instead of `end`. The `id` of
    an event is the position in all the jobs: `ftjob-…:12.1.300,ftjob-…:3.0.0`. The stream ends after the last job.

    `job=*` streams the project's list of jobs: a `job` with each whole job that is not final (the newest 1,000),
    `listed` with their `count`, and then, once a second, a `job` for each job that was created or has changed, and
    `deleted`. It has no ids; read the list again after each reconnect.
    """
    ids = list(dict.fromkeys(job))
    if ALL in ids:
        if len(ids) > 1 or "after" in request.query_params:
            raise BadRequest("job=* stands for the list of all jobs; combine it with neither ids nor after.")
        return await _stream_list(request, caller)
    places = decode_cursors(position, ids) if position else {}
    framing = SeveralJobs({id: places.get(id, StreamCursor()) for id in ids})
    return await _stream(request, caller, ids, places, framing, shows_values=True)


async def _stream_list(request: Request, caller: Caller) -> Response:
    hub: ProjectHub = request.app.state.project_hub
    reader = StreamReader(wants_values=True)
    watcher = await hub.watch(reader, caller.project_id)
    return _respond(stream_project(hub, reader, watcher, _check_access(request, caller)))


async def _stream(
    request: Request,
    caller: Caller,
    ids: list[str],
    places: dict[str, StreamCursor],
    framing: Framing,
    *,
    shows_values: bool,
) -> Response:
    for id in ids:
        if not is_id(id, "ftjob"):
            raise JobNotFound(id)
    # Do not query for a client that has disconnected: many readers that reconnect too soon would leave no queries for
    # the others.
    if await request.is_disconnected():
        return Response(status_code=204)
    hub: JobHub = request.app.state.job_hub
    reader = StreamReader(wants_values=shows_values)
    watchers = await hub.watch(reader, caller.project_id, ids)
    for watcher in watchers:
        if watcher.is_gone:
            raise JobNotFound(watcher.job_id)
    parts = [
        Part(each, places.get(each.job_id, StreamCursor()), framing, shows_values=shows_values) for each in watchers
    ]
    if places and all(part.has_everything for part in parts):
        leave(reader, parts)
        return Response(status_code=204)
    sessions = request.app.state.sessions
    return _respond(stream_parts(hub, sessions, reader, parts, _check_access(request, caller)))


def _check_access(request: Request, caller: Caller) -> AccessCheck:
    return AccessCheck(partial(is_still_allowed, request, caller))


def _respond(stream: AsyncIterator[bytes]) -> Response:
    return EventSourceResponse(stream, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
