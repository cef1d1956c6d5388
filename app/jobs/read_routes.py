"""Serves the reads of jobs, which are most requests: a list, one job, and one job after it has changed."""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection

from app.domain.jobs.state import FINAL, JobState
from app.errors import InvalidCursor, JobNotFound
from app.jobs.repository import JobFilter
from app.jobs.schemas import JobOut
from app.jobs.shown import find_basis, find_shown, list_shown
from app.jobs.wait_reason import waiting
from app.jobs.waits import JobWaits
from app.web.auth import CallerDep
from app.web.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional, is_known, tag_of
from app.web.dependencies import PageDep, reads_of
from app.web.errors import TooManyWaiting
from app.web.page_schema import Page, page_of
from app.web.parameters import ANY_KEY, states_of
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["jobs"])
MOST_KEPT: Final = 10_000

METADATA = re.compile(r"metadata\[(.{1,64})\]")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def _check_instant(value: object) -> object:
    """Reject a bare number, which pydantic would read as seconds since 1970, and a time without a time zone."""
    if isinstance(value, str) and not INSTANT.fullmatch(value):
        raise PydanticCustomError(
            "not_rfc_3339", "Not an RFC 3339 time with a UTC offset; write it like 2026-01-05T10:12:13Z."
        )
    return value


Instant = Annotated[datetime, BeforeValidator(_check_instant)]
MetadataQuery = Annotated[
    str | None,
    Query(
        alias=f"metadata{ANY_KEY}",
        description="Only jobs whose metadata has this value for the key. Repeat it to filter by several keys.",
    ),
]


async def get_filter(
    request: Request,
    states: Annotated[tuple[JobState, ...], Depends(states_of(JobState, "jobs"))],
    model: Annotated[str | None, Query(max_length=200, description="Only jobs with this base model.")] = None,
    created_after: Annotated[Instant | None, Query(description="Only jobs created after this time (RFC 3339).")] = None,
    created_before: Annotated[
        Instant | None, Query(description="Only jobs created before this time (RFC 3339).")
    ] = None,
    created_by: Annotated[
        str | None, Query(max_length=100, description="Only jobs that the API key with this id created.")
    ] = None,
    name: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Only jobs whose name contains this text, in upper or lower case, or whose id begins with it.",
        ),
    ] = None,
    metadata: MetadataQuery = None,
) -> JobFilter:
    return JobFilter(
        states, model, created_after, created_before, metadata_of(request), created_by=created_by, name=name
    )


def metadata_of(request: Request) -> dict[str, str]:
    pairs = [(METADATA.fullmatch(name), value) for name, value in request.query_params.multi_items()]
    return {match[1]: value for match, value in pairs if match}


@router.get(
    "",
    summary="List jobs",
    response_model=Page[JobOut],
    openapi_extra=IF_NONE_MATCH,
    responses=problems(InvalidCursor) | NOT_MODIFIED,
)
def list_jobs(
    request: Request,
    caller: CallerDep,
    page: PageDep,
    wanted: Annotated[JobFilter, Depends(get_filter)],
) -> Response:
    """List the project's jobs, newest first. Filter by metadata with `metadata[key]=value`."""
    asked = caller.project_id, wanted, page.limit, page.after
    found = reads_of(request).ask(lambda connection: list_shown(connection, *asked))
    jobs = {each.job.id: JobOut.of(each.job, each.details) for each in found}
    listed = page_of([each.job for each in found], page.limit, lambda job: jobs[job.id])
    return conditional(request, listed.model_dump_json().encode())


class SeenJob(NamedTuple):
    """Represents a job as one answer shows it."""

    body: bytes
    tag: str
    version: str
    state: str
    basis: tuple[Any, ...] | None

    @property
    def is_queued(self) -> bool:
        return self.state == JobState.queued


class SeenJobs:
    """Caches the last answers of this process, without their bodies: a poll that names one of them by its tag needs no
    new answer. Belongs to one event loop."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], SeenJob] = OrderedDict()

    def keep(self, project_id: str, id: str, seen: SeenJob) -> None:
        if seen.basis is not None:
            self._seen[project_id, id] = seen._replace(body=b"")
            self._seen.move_to_end((project_id, id))
            if len(self._seen) > MOST_KEPT:
                self._seen.popitem(last=False)

    def find_known(self, request: Request, project_id: str, id: str) -> SeenJob | None:
        """Return the last answer about the job, if the client has it."""
        seen = self._seen.get((project_id, id))
        return seen if seen is not None and is_known(request, seen.tag) else None


@router.get(
    "/{id}",
    summary="Get a job",
    response_model=JobOut,
    openapi_extra=IF_NONE_MATCH,
    responses=problems(JobNotFound, TooManyWaiting) | NOT_MODIFIED,
)
@router.head("/{id}", include_in_schema=False)
async def get_job(
    request: Request,
    id: str,
    caller: CallerDep,
    wait: Annotated[
        int | None,
        Query(
            ge=1,
            le=60,
            description="Wait up to this many seconds until the job differs from the answer that `If-None-Match` "
            "names or, without that header, from its current state.",
        ),
    ] = None,
) -> Response:
    """Get a job: its state, phase, progress, latest metrics, estimated finish, spec, resolved settings, and why it
    failed.

    To follow a job, send the `ETag` of the last answer as `If-None-Match`, with `wait=30`: the server answers as soon
    as the job changes, or with 304 after that time. Without `If-None-Match`, it answers at once for a finished job.
    """

    reads, seen_jobs = reads_of(request), cast(SeenJobs, request.app.state.seen_jobs)

    async def look() -> SeenJob:
        known = seen_jobs.find_known(request, caller.project_id, id)
        seen = await run_in_threadpool(reads.ask, lambda connection: read_job(connection, caller.project_id, id, known))
        seen_jobs.keep(caller.project_id, id, seen)
        return seen

    seen = await look()
    if wait is not None:
        seen = await _wait_for_change(request, caller.project_id, id, seen, look, wait)
    return conditional(request, seen.body, seen.tag)


def read_job(connection: Connection, project_id: str, id: str, known: SeenJob | None = None) -> SeenJob:
    """Read the job as an answer shows it; return `known` itself if the job has not changed since."""
    if known and find_basis(connection, project_id, id, queued=known.is_queued) == known.basis:
        return known
    shown = find_shown(connection, project_id, id)
    waits_for = waiting(connection, shown.job, shown.standing) if shown.standing else None
    body = JobOut.of(shown.job, shown.details, waits_for).model_dump_json().encode()
    return SeenJob(body, tag_of(body), shown.version, shown.job.state, shown.basis)


async def _wait_for_change(
    request: Request, project_id: str, id: str, seen: SeenJob, look: Callable[[], Awaitable[SeenJob]], seconds: int
) -> SeenJob:
    has_tag = "if-none-match" in request.headers
    if not has_tag and JobState(seen.state) in FINAL:
        return seen
    first = seen.tag
    waits: JobWaits = request.app.state.job_waits
    return await waits.until_changed(
        project_id,
        id,
        seen,
        look,
        is_same=lambda now: is_known(request, now.tag) if has_tag else now.tag == first,
        seconds=seconds,
        gone=lambda: _wait_for_disconnect(request),
    )


async def _wait_for_disconnect(request: Request) -> None:
    """Wait until the client has closed the connection."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
